#!/bin/sh
# The users of the server's services; and after an upgrade the services that run get the new program.
set -e

if [ "$1" = configure ]; then
  if ! getent group @GROUP@ >/dev/null; then
    groupadd --system @GROUP@
  elif [ -z "$2" ]; then
    echo "walt: the group @GROUP@ was there before: its members may operate a server of this machine." >&2
    echo "walt: if they may not, name another one: server.group in /etc/walt/vpn.toml, and Group= of walt-vpn." >&2
  fi
@USERS@
  mkdir -p /var/lib/walt-vpn/boot
  if [ -e /etc/systemd/system/walt-vpn.service ]; then
    echo "walt: /etc/systemd/system/walt-vpn.service is older than this package, and wins: see docs/upgrade.md." >&2
  fi
  if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload || true
    if [ -n "$2" ]; then
      # Tunnels come back within seconds, and virtual machines keep running.
      deb-systemd-invoke try-restart walt-vpn.service walt-vpn-relay.service || true
      # The virtual machine of a device would be restarted: its operator says when.
      if systemctl --quiet is-active walt-vpn-device.service; then
        echo "walt: walt-vpn-device runs the old version until: systemctl restart walt-vpn-device (the node restarts)" >&2
      fi
    fi
  fi
fi
