#!/bin/sh
# Run by main.ts as root on the empty Debian: the two binaries are in /opt/walt, and nothing else of ours is here.
set -eu
say() { echo "== $*"; }
fail() { echo "FAILED: $*"; exit 1; }
walt=/opt/walt/walt-linux-x64
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022

say "a user without rights, and none of the tools"
useradd --create-home ada
as_ada() { su ada -s /bin/sh -c "cd; umask 022; $1"; }
if as_ada "$walt image build" >/tmp/said 2>&1; then fail "it was built without tools"; fi
cat /tmp/said
command=$(sed -n 's/.*sudo \(apt-get install .*\)/\1/p' /tmp/said)
[ -n "$command" ] || fail "no command was named"

say "that command: $command"
apt-get update -qq
# shellcheck disable=SC2086 # the words of a command
$command -y -qq >/tmp/said 2>&1 || { cat /tmp/said; fail "apt-get"; }

say "walt image build, as that user"
as_ada "$walt image build" || fail "it was not built"
first=$(sha256sum /home/ada/.cache/walt/rpi-3-base-*.img | cut -d' ' -f1)

say "the same as root, in other folders, with another umask, time zone and language, on one processor"
mkdir -m 700 /srv/other /srv/tmp
cp -r /home/ada/.cache/walt/apt /srv/other # what was downloaded
(umask 077; cd /srv; TMPDIR=/srv/tmp TZ=Asia/Tokyo LC_ALL=C HOME=/root $walt image build --jobs 1 --cache /srv/other) ||
  fail "it was not built"
second=$(sha256sum /srv/other/rpi-3-base-*.img | cut -d' ' -f1)
echo "$first"
[ "$first" = "$second" ] || fail "other bytes: $second"

say "a server, and walt vpn setup-node as that user"
apt-get install -y -qq --no-install-recommends dnsmasq-base iproute2 openssh-client >/tmp/said 2>&1 || { cat /tmp/said; fail "apt-get"; }
mkdir -p /etc/walt
cat >/etc/walt/vpn.toml <<'TOML'
role = "server"
[server]
address = "walt.lab.example:2222"
group = "ada"
TOML
# shellcheck disable=SC2016 # for the other shell
unshare --net sh -eu -c '
  ip link set lo up
  "$0" server run >/tmp/server 2>&1 &
  server=$!
  trap "kill $server; wait $server || :" EXIT
  tries=0
  until [ -S /run/walt-vpn/server.sock ] || [ $tries -gt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
  su ada -s /bin/sh -c "cd; umask 022; $0 vpn setup-node --entrypoint ssh://walt.lab.example:2222 --compress" </dev/null
' $walt || { cat /tmp/server; fail "setup-node"; }
as_ada "ls -l rpi3bp-vpn.dd*; sha256sum -c rpi3bp-vpn.dd.zst.sha256"
say "passed"
