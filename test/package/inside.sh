#!/bin/sh
# Run by main.ts as root on the empty Debian: the packages are in /opt/walt, and nothing else of ours is here.
set -eu
say() { echo "== $*"; }
fail() { echo "FAILED: $*"; exit 1; }
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive
umask 022
install_() { apt-get install -y -qq --no-install-recommends "$@" >/tmp/said 2>&1 || { cat /tmp/said; fail "apt-get install $*"; }; }

say "what WalT has of its own"
mkdir -p /etc/walt /var/lib/walt/nodes /usr/local/bin
echo "network: {}" >/etc/walt/server.conf
echo disk >/var/lib/walt/nodes/disk
walt_files() { cat /etc/walt/server.conf /var/lib/walt/nodes/disk; ls /etc/walt /var/lib/walt; }
before=$(walt_files)
apt-get update -qq

say "the earlier package, on a Debian with nothing"
# The documentation as well, which a minimal system leaves out.
rm -f /etc/dpkg/dpkg.cfg.d/*
install_ /opt/walt/earlier.deb
[ "$(dpkg-query -W -f '${Status} ${Version}' walt)" = "install ok installed 0.0.9" ] || fail "not installed"
getent passwd walt-vpn-server >/dev/null && getent passwd walt-vpn-dhcp >/dev/null || fail "no users"
[ "$(id -Gn walt-vpn-server)" = walt ] || fail "the server's user is not in the group"
[ -z "$(dpkg-query -W -f '${Conffiles}' walt)" ] || fail "there are conffiles"
dpkg -L walt | grep -E '^/(etc|var|usr/local)/.' && fail "files where only an operator or WalT has some"
dpkg -V walt || fail "other files than in the package"
for file in /usr/share/man/man1/walt.1.gz /usr/share/man/man1/walt-vpn-monitor.1.gz \
  /usr/share/bash-completion/completions/walt /usr/share/zsh/vendor-completions/_walt \
  /usr/share/fish/vendor_completions.d/walt.fish /usr/share/doc/walt/copyright \
  /usr/lib/systemd/system/walt-vpn.service /usr/lib/systemd/system/walt-vpn-device.service; do
  [ -s "$file" ] || fail "no $file"
done
walt version
walt help vpn accept >/dev/null

say "a server from the package alone: configuration, start, status"
install_ dnsmasq-base
walt server install
[ -z "$(ls /usr/local/bin)" ] || fail "the program was copied although the package has it"
# Beside WalT the bridge is WalT's, which is not there.
if walt config check; then fail "a bridge that is not there was not missed"; fi
sed -i "s/^managed = false/managed = true/" /etc/walt/vpn.toml
walt config check
# shellcheck disable=SC2016 # for the other shell
unshare --net sh -eu -c '
  ip link set lo up
  walt server run >/tmp/server 2>&1 &
  server=$!
  trap "kill $server; wait $server || :" EXIT
  tries=0
  until [ -S /run/walt-vpn/server.sock ] || [ $tries -gt 300 ]; do tries=$((tries + 1)); sleep 0.1; done
  walt status
  walt vpn setup-proxy --next gate.example.org -o - >/tmp/script
' || { cat /tmp/server; fail "the server"; }
[ -s /var/lib/walt-vpn/keys/ca ] || fail "no keys"
keys=$(cat /var/lib/walt-vpn/keys/*)
toml=$(cat /etc/walt/vpn.toml)

say "the upgrade keeps keys, registry and configuration"
install_ /opt/walt/walt.deb
dpkg-query -W -f '${Version}\n' walt
[ "$(walt version)" = "$(dpkg-query -W -f '${Version}' walt)" ] || fail "it says another version than the package"
[ "$(cat /var/lib/walt-vpn/keys/*)" = "$keys" ] || fail "other keys"
[ "$(cat /etc/walt/vpn.toml)" = "$toml" ] || fail "another configuration"

say "removed, it leaves them; purged, it leaves the configuration and what is WalT's"
apt-get remove -y -qq walt >/tmp/said 2>&1 || { cat /tmp/said; fail "remove"; }
[ "$(cat /var/lib/walt-vpn/keys/*)" = "$keys" ] || fail "the keys are gone"
[ ! -e /usr/bin/walt ] || fail "walt is still there"
apt-get purge -y -qq walt >/tmp/said 2>&1 || { cat /tmp/said; fail "purge"; }
[ ! -e /var/lib/walt-vpn ] || fail "the state is still there"
[ "$(cat /etc/walt/vpn.toml)" = "$toml" ] || fail "another configuration"
rm /etc/walt/vpn.toml
[ "$(walt_files)" = "$before" ] || fail "WalT's own files are others"

say "and again, over what is left"
install_ /opt/walt/walt.deb
walt version
say "passed"
