/**
 * The events of the log: the field `event=` of each line, for programs and tests. The words of a line may change, its event stays.
 * docs/log-events.md is made from this table.
 */

export const LOG_EVENTS = {
  // The server
  "server-ready": "The server's daemon serves.",
  "server-stops": "The server's daemon ends.",
  "bridge-used": "An existing bridge is used as walt-net.",
  "walt-net-up": "The daemon has made walt-net, with DHCP and boot files.",
  dhcp: "dnsmasq gave a lease, or refused one.",
  "dhcp-restart": "dnsmasq ended, and is started again.",
  "dhcp-names-failed": "dnsmasq was not told the names of nodes.",
  "dhcp-no-address": "More nodes are registered than the network has addresses.",
  "node-boots": "A node was sent its boot script.",
  "boot-file-missing": "A node asks to boot, and a boot file is missing.",
  "boot-failed": "A request for a boot file failed.",
  // Access
  "enrolment-requested": "A device asks for access, and its request waits for an operator.",
  "enrolment-malformed": "What came was no valid request for access.",
  "enrolment-revoked": "A revoked device asks for access.",
  "enrolment-repeated": "A device that was accepted asks again, and gets its credentials.",
  "enrolment-denied": "A request was denied; `reason` says why.",
  "enrolment-overload": "Requests were denied because there were too many at once.",
  "device-accepted": "A device was accepted; `by` says by whom, or by which token.",
  "invitation-added": "An operator made a token, or expects a board.",
  "invitation-withdrawn": "An operator withdrew a token or an expected board.",
  "rotation-began": "An operator had a new key made beside an old one.",
  "rotation-finished": "A new key took the place of an old one.",
  "device-revoked": "An operator revoked a device.",
  "certificate-renewed": "A device has a new certificate.",
  "monitor-began": "An operator's monitor watches.",
  "monitor-left": "An operator's monitor watches no more.",
  "api-failed": "A request of a command failed because of an error in the daemon.",
  // Tunnels
  "tunnel-up": "A tunnel is up.",
  "tunnel-down": "A tunnel ended; `reason` says why.",
  "tunnel-failed": "A device asked for a tunnel and did not get one.",
  // Connections, at the server's endpoint and at a relay
  "relay-ready": "The relay serves.",
  "relay-stops": "The relay ends.",
  "connection-accepted": "A client has authenticated at the relay.",
  "connection-ended": "A connection ended; `reason` says why.",
  "connection-refused": "A connection was refused because there are too many.",
  "connection-failed": "A connection ended because of an error in this program, or could not be accepted.",
  "key-refused": "A client offered a key that may not come in.",
  "request-refused": "A client asked for what it may not have.",
  "command-failed": "A command of a device failed.",
  "channel-refused": "The relay refused a channel.",
  "next-hop-unreachable": "The relay cannot reach the next hop.",
  repeated: "A line of this connection would have been written `count` times.",
  "lines-left-out": "Lines were left out of the log because there were too many.",
  // The device
  "device-starts": "The supervisor of a device starts.",
  "device-stops": "The supervisor of a device ends.",
  stage: "The device's start is at another stage.",
  failure:
    "Something on the way to the tunnel failed; the message says what, `wait` when it is tried again, in ms.",
  network: "The device has a network.",
  "access-asked": "The device asks for access; `code` is to be compared with the monitor's.",
  "token-damaged": "The token on the card is none, so that the device asks without it.",
  "access-granted": "The device was accepted.",
  "credentials-damaged": "The stored credentials cannot be used.",
  "key-to-install": "Of a device in the original framing: the key that the server's authorized_keys needs.",
  "bridge-failed": "The device's bridge could not be made.",
  "pump-failed": "The pump thread failed.",
  "vm-started": "The virtual machine runs.",
  "vm-ended": "The virtual machine ended, and is started again.",
  "vm-left-over": "A QEMU of an earlier run is ended.",
  "vm-emulated": "KVM cannot be used; the message says why.",
  "usb-plugged": "A USB device was passed on to the node.",
  "usb-unplugged": "A USB device was taken from the node.",
  "usb-failed": "A USB device could not be passed on or taken away, or the ports could not be watched.",
  // For whoever looks for a fault
  detail: "A detail, on the level debug.",
} as const satisfies Record<string, string>;

export type LogEvent = keyof typeof LOG_EVENTS;
