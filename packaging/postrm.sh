#!/bin/sh
# A purge takes away keys, registry and boot files, unless another installation uses them. WalT's own files in
# /etc/walt and /var/lib/walt are not touched, nor is vpn.toml, which an operator wrote.
set -e

if [ "$1" = purge ]; then
  if [ -e /usr/local/bin/walt-vpn ]; then
    echo "walt: /var/lib/walt-vpn is left for /usr/local/bin/walt-vpn" >&2
  else
    rm -rf /var/lib/walt-vpn /var/lib/walt-vpn-dhcp /run/walt-vpn
  fi
fi
if [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload || true
fi
