#!/bin/sh
# Services end before their program goes; an upgrade leaves them running until postinst.
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
  deb-systemd-invoke stop walt-vpn.service walt-vpn-dhcp.socket walt-vpn-relay.service walt-vpn-device.service || true
fi
