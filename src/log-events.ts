/**
 * The events of the log: the field `event=` of each line, for programs and tests. The text of a line may
 * change, its event does not. docs/log-events.md is generated from this table.
 */

export const LOG_EVENTS = {
  // The server
  "server-ready": "The server's daemon is ready.",
  "server-stops": "The server's daemon stops.",
  "stop-failed": "The server stops, and something that it made could not be removed: the message says what.",
  "bridge-used": "The daemon uses an existing bridge as walt-net.",
  "ipv6-missing": "The kernel has no IPv6. The endpoint listens on IPv4 alone.",
  "walt-net-trouble":
    "Something around walt-net harms it (`trouble`): `collision`, a network with the same addresses; `filter`, a firewall; `ports`, too many nodes.",
  "walt-net-trouble-over": "What harmed walt-net is over.",
  "bridge-rule-added": "The daemon let the frames of its own bridge pass a firewall that dropped them.",
  "walt-net-up": "The daemon has made walt-net, with DHCP and boot files.",
  dhcp: "dnsmasq assigned an address, or refused one.",
  "dhcp-restart": "dnsmasq ended. It is started again.",
  "dhcp-names-failed": "The names of nodes could not be given to dnsmasq.",
  "dhcp-no-address":
    "walt-net has no address left for a node. More nodes are registered than it has addresses.",
  "node-boots": "A node was sent its boot script.",
  "boot-file-missing":
    "A node requested its boot script, but a boot file is missing, or cannot be read: `reason`.",
  "boot-failed": "A request for a boot file failed.",
  // Access
  "enrolment-requested": "A device asked for access. Its request waits for an operator.",
  "enrolment-malformed": "A request for access was not valid.",
  "enrolment-revoked": "A revoked device asked for access. It was denied.",
  "enrolment-repeated": "A device that was accepted before asked again, and got its credentials.",
  "enrolment-denied": "A request was denied; `reason` says why.",
  "enrolment-blocked":
    "An operator blocked a key, or for an hour all that comes from a source (`block`): its requests are denied, and not shown.",
  "enrolment-block-lifted": "An operator lifted a block of a key or of a source (`block`).",
  "enrolment-overload": "Requests were denied because too many came at once.",
  "device-accepted": "A device was accepted; `by` says by whom, or by which token.",
  "invitation-added": "An operator made a token, or expects a board.",
  "invitation-withdrawn": "An operator withdrew a token or an expected board.",
  "rotation-began": "An operator had a new key made beside an old one.",
  "rotation-finished": "A new key took the place of an old one.",
  "device-revoked":
    "An operator revoked a device. With `reenrol=ordered` it is told to forget its key and ask again.",
  "device-restored": "An operator restored a revoked device: its key is accepted again.",
  "device-removed": "An operator removed a revoked device from the registry.",
  "device-told-to-forget": "A revoked device asked, and was told to forget its key and ask again.",
  "certificate-refused": "A device tells that a proxy refused its certificate; `reason` says why.",
  "node-renamed": "An operator gave a node another name; `was` is the one before.",
  "node-noted": "An operator wrote a note about a node, or removed it.",
  "node-board": "An operator said which board is a node's; `was` is the one before.",
  "key-shared":
    "Two boards use one key, so that each ends the tunnel of the other: `board` keeps it, `other` waits.",
  "journal-failed": "What happened could not be written into the journal. `lost` events are not in it.",
  "certificate-renewed": "A certificate was renewed.",
  "monitor-began": "A monitor started.",
  "monitor-left": "A monitor ended.",
  "api-failed": "A request to the local API failed because of a bug in the daemon.",
  "request-failed":
    "A request to the local API failed because of the machine: a full disk, a damaged database. `reason` says what.",
  "registry-locked": "Another program holds the registry's database. The daemon waits for it at its start.",
  "registry-copied": "A copy of the registry was made, and verified.",
  "registry-copy-failed": "A copy of the registry could not be made. The one before is kept.",
  "notify-failed":
    "A notice could not be sent to `server.notify`; `reason` says why. `lost` notices will not be sent.",
  "notify-works": "Notices are sent to `server.notify` again.",
  "history-failed": "The nodes' history could not be read or written. `reason` says why.",
  "registry-damaged": "The registry's database is damaged. The text says what to do.",
  // The SNMP agent
  "snmp-ready": "The SNMP agent runs.",
  "snmp-restart": "snmpd ended, and is started again.",
  "snmp-power": "A request by SNMP to switch a node's power failed. The text says why.",
  "snmp-failed": "A request of snmpd failed because of a bug in walt.",
  // The control channel
  order: "The server gave the device an order; `by` says who asked for it.",
  settings: "Settings from the lab are tried (`outcome=trying`), kept, or taken back (`reverted`).",
  "settings-damaged": "The settings from the lab cannot be read. Those of vpn.toml count.",
  "settings-failed": "The former settings could not be used again after a trial.",
  "no-reports": "A device sends no reports, or no more; `reason` says why.",
  "order-failed": "An order failed because of a bug in walt.",
  // Tunnels
  "tunnel-up": "A tunnel came up.",
  "tunnel-down": "A tunnel ended; `reason` says why.",
  "lane-up": "A tunnel has a further lane.",
  "lane-down": "A tunnel has one lane less; `reason` says why.",
  "tunnel-failed": "A device requested a tunnel and did not get one.",
  // Connections, at the server's endpoint and at a relay
  "relay-ready": "The relay is ready.",
  "relay-stops": "The relay stops.",
  "connection-accepted": "A client authenticated at the relay.",
  "connection-ended": "A connection ended; `reason` says why.",
  "connection-refused": "A connection was refused because there were too many.",
  "connection-failed": "A connection failed because of a bug, or could not be accepted.",
  "key-refused": "A client offered a key that is not accepted; `reason` says why.",
  "request-refused": "A client requested something that it may not have.",
  "command-failed": "A command of a device failed.",
  "channel-refused": "The relay refused to open a channel.",
  "next-hop-unreachable": "The relay cannot reach the next hop.",
  repeated: "A line of this connection was written once, but occurred `count` (relay: `times`) times.",
  "lines-left-out": "Lines were omitted from the log because there were too many.",
  // The device
  "device-starts": "The device starts.",
  "device-stops": "The device stops.",
  stage: "The boot of the device reached another stage, or the next step of one.",
  failure:
    "Something failed on the device. The text says why, and `kind` for programs: `walt-proxy`, for example. If the device waits, it tries again after `wait` ms.",
  doctor:
    "The device cannot connect and has examined itself. The text is the first fault; `check`, `evidence` and `cure` tell more, and `more` names the other faults.",
  network: "The device has a network.",
  "access-asked": "The device asks for access. `code` is its short code.",
  "key-forgotten": "The server told the device to forget its key. It asks for access with a new one.",
  "token-damaged": "The token on the card cannot be used. The device asks without it.",
  "access-granted": "The device was accepted, and has its credentials.",
  "credentials-damaged": "The stored credentials cannot be used.",
  "server-keys-damaged":
    "What the device stored of the server's keys cannot be used, so that those of its card count.",
  "key-to-sign":
    "In the original framing: the commands by which WalT's CA makes a certificate, in WalT 9 and in WalT 10. It belongs into the file `certificate` on the device.",
  "key-to-install": "In the original framing: `key` must be added to the server's authorized_keys.",
  "bridge-failed": "The device could not make its bridge, or remove it.",
  "pump-failed": "The pump thread failed.",
  "vm-started": "The virtual machine started.",
  "vm-ended": "The virtual machine ended. It is started again.",
  "vm-left-over": "A QEMU of an earlier run was still running, and is ended.",
  "vm-emulated": "KVM does not work, or is tried again. The text says why.",
  "board-reboots": "The whole board is rebooted, or cannot be. The text says why.",
  "usb-power":
    "A hard reboot has cut the power of USB ports of the node (`ports`) and given it back. `reason` is why others keep it.",
  "usb-plugged": "A USB device was given to the node.",
  "usb-unplugged": "A USB device was taken from the node.",
  "usb-failed":
    "A USB device could not be given to the node or taken from it, or the ports could not be watched.",
  // For debugging
  detail: "A detail, on the level debug (`WALT_DEBUG=1`).",
} as const satisfies Record<string, string>;

export type LogEvent = keyof typeof LOG_EVENTS;
