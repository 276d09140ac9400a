#!/bin/sh
# Run by main.ts as root on an empty Debian with the package in /opt/walt: what a newcomer types, by the README and the
# handbook, on three machines: a server, a proxy and a device, up to a node that is up. Each machine is a network
# namespace with an overlay over this Debian. There is no systemd: what units start is started by hand.
set -eu
say() { echo "== $*"; }
fail() { echo "FAILED: $*"; exit 1; }
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022
began=$(date +%s)

# --- The machines.
MACHINES="server proxy device"
mkdir -p /machines /over /run/netns /tmp/said
mount -t tmpfs tmpfs /over
apt-get update -qq
for name in $MACHINES; do
  mkdir -p "/machines/$name" "/over/$name/upper" "/over/$name/work"
  mount -t overlay -o "lowerdir=/,upperdir=/over/$name/upper,workdir=/over/$name/work" overlay "/machines/$name"
  for folder in proc dev; do mount --rbind "/$folder" "/machines/$name/$folder"; done
  for folder in run tmp; do mount -t tmpfs tmpfs "/machines/$name/$folder"; done
  cp -r /opt/walt "/machines/$name/root/"
done
# While there is no network between the machines yet: what they install.
install_() { # machine, packages
  name=$1; shift
  chroot "/machines/$name" apt-get install -y -qq "$@" >/tmp/said/apt 2>&1 || { cat /tmp/said/apt; fail "$name: apt-get install $*"; }
}
say "the packages that the handbook names"
install_ server /root/walt/walt.deb
install_ proxy --no-install-recommends openssh-server
install_ device /root/walt/walt.deb
install_ device --no-install-recommends openssh-client iproute2 qemu-system-x86 ipxe
ip_() { chroot /machines/server ip "$@"; }
mkdir -p /machines/server/run/netns
for name in internet $MACHINES; do ip_ netns add "$name"; done
ip_ -n internet link add name switch type bridge
ip_ -n internet link set switch up
number=0
for name in $MACHINES; do
  number=$((number + 1))
  ip_ -n internet link add "to-$name" type veth peer name eth0 netns "$name"
  ip_ -n internet link set "to-$name" master switch up
  ip_ -n "$name" link set lo up
  ip_ -n "$name" link set eth0 up
  ip_ -n "$name" address add "198.51.100.$number/24" dev eth0
  ip_ -n "$name" route add default via 198.51.100.254
  printf '127.0.0.1 localhost\n198.51.100.1 walt.lab.example\n198.51.100.2 gate.example.org\n' >"/machines/$name/etc/hosts"
done
on() { # machine, command: as root, at home, with a /sys of its network
  name=$1; shift
  # shellcheck disable=SC2016 # for the other shell
  nsenter --net="/machines/server/run/netns/$name" unshare --mount --uts sh -c '
    hostname "$0"; mount -t sysfs sysfs "/machines/$0/sys"; exec chroot "/machines/$0" sh -c "cd; umask 022; $1"' "$name" "$*"
}
daemon() { # machine, name of its log, command
  log="/tmp/said/$2"; machine=$1; shift 2
  on "$machine" "exec $*" >"$log" 2>&1 &
}
refused() { # status, words, machine, command: a wrong turn, which is refused in words
  status=$1; words=$2; shift 2
  set +e; on "$@" >/tmp/said/refused 2>&1 </dev/null; got=$?; set -e
  if [ "$got" != "$status" ] || ! grep -q "$words" /tmp/said/refused; then
    cat /tmp/said/refused
    fail "$*: status $got, wanted $status and \"$words\""
  fi
  if grep -qi "a bug in walt\|^ *at .*:[0-9]" /tmp/said/refused; then cat /tmp/said/refused; fail "$*: called a bug"; fi
}
until_() { # seconds, what it is, command: until the command is true
  left=$1; what=$2; shift 2
  until "$@" >/tmp/said/until 2>&1; do
    left=$((left - 1)); [ "$left" -gt 0 ] || { cat /tmp/said/*; fail "$what"; }
    sleep 1
  done
}

say "the server"
refused 1 "systemctl start walt-vpn" server walt status
on server walt server install
cat >/machines/server/etc/walt/vpn.toml <<'TOML'
role = "server"

[server]
address = "walt.lab.example:2222"     # how proxies reach this server

[server.network]
managed = false
TOML
refused 1 "the bridge walt-net does not exist" server walt config check
sed -i 's/managed = false/managed = true/' /machines/server/etc/walt/vpn.toml
on server walt config check
on server walt config show >/dev/null
daemon server server walt server run
until_ 60 "the server's socket" test -S /machines/server/run/walt-vpn/server.sock
on server walt status

say "wrong turns at the server"
refused 1 "cannot write to standard output" server "walt status >/dev/full"
refused 2 "monitro" server walt vpn monitro
refused 2 "abc" server walt vpn setup-node --vlan abc
refused 1 "there is no node" server walt node show nobody
refused 1 "nothing was done" server walt vpn revoke all
refused 1 "no device with a code" server walt vpn accept ZZZ
refused 1 "." server "timeout 60 walt vpn monitor </dev/zero"
refused 1 "next" server "walt vpn setup-proxy --toml --next x.example -o - | sed '/^next/d' >/tmp/p.toml; walt config check --config /tmp/p.toml"

say "the proxy"
on server walt vpn setup-proxy --next walt.lab.example
cp /machines/server/root/proxy-setup.sh /machines/proxy/root/ # scp
refused 1 "this is the WalT server itself" server sh proxy-setup.sh
refused 1 "cannot get the host keys\|cannot be reached\|refused" server walt vpn setup-node --board generic --entrypoint gate.example.org --yes
on proxy "mkdir -p /run/sshd"
daemon proxy sshd /usr/sbin/sshd -D -e
until_ 60 "sshd listens" grep -q "Server listening" /tmp/said/sshd
on proxy sh proxy-setup.sh

say "the device"
refused 2 "confirm\|no terminal" server walt vpn setup-node --board generic --entrypoint gate.example.org
# On a terminal: it shows the host keys, and asks.
# shellcheck disable=SC2016 # for the other shell
on server 'printf "yes\n" | script -qec "walt vpn setup-node --board generic --entrypoint gate.example.org" /dev/null' | tee /tmp/said/setup-node
fingerprint=$(on proxy ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub | cut -d' ' -f2)
grep -q "$fingerprint" /tmp/said/setup-node || fail "another fingerprint than on the proxy: $fingerprint"
cp -r /machines/server/root/walt-device /machines/device/root/ # scp -r
refused 1 "entrypoint" device "printf 'role = \"device\"\n' >/tmp/d.toml; walt config check --config /tmp/d.toml"
refused 1 "no daemon" device walt device status
on device walt device install walt-device
daemon device device walt device run
code_() { on device walt device status --json | grep -o '"code": *"[^"]*"' | cut -d'"' -f4 | grep .; }
until_ 120 "the short code" code_
code=$(code_)
request_() { on server walt vpn requests | grep "$code"; }
until_ 120 "the request of $code" request_
on server walt vpn requests

say "accepted, until the node is up"
on server walt vpn accept "$(echo "$code" | cut -c1-3)" --name lab-3
up_() { on server walt node show --columns name,state | grep -q "^lab-3 *up"; }
until_ 180 "the node is up" up_
# It asks for boot files, which a newcomer has not put there, and that is said.
why_() { on server walt node show lab-3 | grep -i "no boot files"; }
until_ 600 "that boot files are missing is said" why_
on server walt node show
on server walt status | tee /tmp/said/status
grep -q "lab-3 is up, no boot files" /tmp/said/status || fail "walt status does not say that boot files are missing"
on server walt vpn events

say "wrong turns afterwards"
refused 2 "no terminal" server walt vpn revoke lab-3
on server walt vpn revoke lab-3 --yes
on server walt vpn restore lab-3
until_ 240 "the node is up again, without anybody at the board" up_
say "a newcomer's run: passed, in $(($(date +%s) - began)) s"
