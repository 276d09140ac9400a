/** Every key of vpn.toml, with its default and its documentation. */

import { PROXY_PORT, SERVER_PORT } from "../address.ts";
import { BOARD_NAMES } from "../boards.ts";
import { FRAMING_NAMES } from "../tunnel/framing.ts";
import { LANES_MAX } from "../tunnel/message.ts";
import {
  choice,
  entrypoints,
  flag,
  hostPort,
  integer,
  integerOr,
  integers,
  type Key,
  loopback,
  mirror,
  network,
  path,
  publicKeys,
  span,
  text,
  webhook,
} from "./keys.ts";

export const ROLES = ["server", "proxy", "device"] as const;
export type Role = (typeof ROLES)[number];

const METRICS_PORT = 9586;
const INTERFACE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/;

/** Tables of vpn.toml and their keys. */
export const TABLES = {
  server: {
    listen: hostPort(`[::]:${SERVER_PORT}`, SERVER_PORT, "Address and port of the SSH endpoint."),
    address: hostPort(
      "",
      SERVER_PORT,
      "How proxies reach this server. Default: the machine's host name and the port of `listen`.",
    ),
    state: path("/var/lib/walt-vpn", "Folder of the keys and the registry. Only root may read the keys."),
    socket: path("/run/walt-vpn/server.sock", "UNIX socket of the local API, which the commands use."),
    group: text(
      "walt",
      "Group whose members may use the socket. If it does not exist, only root may.",
      "the name of a group",
      /^[a-z_][a-z0-9_-]{0,31}$/,
    ),
    admission: choice(
      "queue",
      ["queue", "monitor"],
      "Who answers new devices. queue: a monitor that is running, or later `walt vpn accept`, because requests that nobody answered are remembered. monitor: only a monitor that is running.",
    ),
    answer_timeout: span("5m", "1s", "1h", "A request that no operator answers is denied after this time."),
    retry_after: span("5s", "1s", "1h", "How long a denied device waits before it asks again."),
    certificate_validity: span(
      "7d",
      "10s",
      "90d",
      "Validity of device certificates. Devices renew them at half of it.",
    ),
    metrics: loopback(
      METRICS_PORT,
      "Loopback address on which Prometheus can read `/metrics`. Default: none.",
    ),
    notify: webhook(
      "Address to which the daemon sends what an operator should know, as JSON by POST: a request waits, a node is down or up again, a certificate was refused, a disk is nearly full. Default: none.",
    ),
    notify_down: span("5m", "10s", "7d", "A node that is down for this time is one of these."),
    silence: span("10s", "3s", "5m", "A tunnel whose device is silent for this time is ended."),
  },
  "server.network": {
    bridge: text(
      "walt-net",
      "The bridge to which the nodes are connected.",
      "the name of a network interface",
      INTERFACE,
    ),
    managed: flag(
      true,
      "true: the daemon makes the bridge, and serves DHCP and boot files on it. false: the bridge exists already, and another program (such as a WalT server) serves DHCP and boot files.",
    ),
    address: network(
      "192.168.192.1/22",
      "The server's own address on a managed bridge. DHCP assigns the larger part of the network, above or below it.",
    ),
    boot_files: path(
      "/var/lib/walt-vpn/boot",
      "Folder of the boot files of a managed network: `<arch>/vmlinuz`, `<arch>/initrd.img` and `<arch>/cmdline`. `<arch>` is x86_64 or arm64.",
    ),
    mtu: integer(
      1500,
      1500,
      9000,
      "Largest MTU on walt-net. A node gets the lower of this and `device.mtu`. A managed bridge gets this MTU; an existing bridge must already have it.",
    ),
    address_guard: flag(
      false,
      "On a managed bridge. true: a node may speak only from the IPv4 address that DHCP gives it, and from the IPv6 link-local address that follows from its MAC address (ARP, neighbour discovery and source addresses are checked). false: only its MAC address is checked.",
    ),
    vlans: integers(
      1,
      4094,
      "VLANs (802.1Q) whose tagged frames nodes may send. By default all tagged frames are dropped.",
    ),
    isolation: flag(
      false,
      "true: nodes reach the server and everything else on the bridge, but not each other.",
    ),
    boot_port: integer(8080, 1, 65535, "TCP port on `address` of the HTTP service for boot files."),
  },
  "server.snmp": {
    address: text(
      "",
      "IPv4 address on walt-net at which the nodes look like the ports of a switch with power over Ethernet, for a WalT server on this machine. Default: none. The daemon gives it to the loopback interface: no other machine can ask.",
      "an IPv4 address",
      /^(((25[0-5]|2[0-4]\d|1?\d?\d)(\.(?!$)|$)){4})?$/,
    ),
    community: path(
      "/etc/walt/snmp_community",
      "File with the SNMP community. Only the daemon's user may read it.",
    ),
    uplink: text(
      "",
      "MAC address of what is behind the switch's uplink, for the tree of devices in WalT: the switch that the WalT server is connected to, or the bridge of walt-net. Default: none.",
      "a MAC address",
      /^(([0-9a-f]{2}:){5}[0-9a-f]{2})?$/,
    ),
  },
  image: {
    mirror: mirror(
      "The Debian mirror from which the base of SD cards is built. Default: the one that this machine's apt uses. A machine whose apt uses no Debian mirror needs this key.",
    ),
  },
  proxy: {
    next: hostPort("", PROXY_PORT, "The next hop: the server's endpoint, or the next proxy."),
    listen: hostPort(`[::]:${PROXY_PORT}`, PROXY_PORT, "Address and port of the relay (`walt proxy run`)."),
    ca: publicKeys("Public key of the server's CA; during its rotation, both."),
    enrolment: publicKeys("Public half of the server's enrolment key; during its rotation, both."),
    mark: text(
      "",
      "The mark of this server's lines in authorized_keys. Default: the fingerprint of `ca`.",
      'a fingerprint, "SHA256:…"',
      /^SHA256:[A-Za-z0-9+/]{43}$/,
    ),
    state: path("/var/lib/walt-vpn", "Folder of the relay's own host key."),
  },
  device: {
    entrypoint: entrypoints(
      "How the device reaches the server: a proxy, a chain of proxies with commas (the exposed one first), or `ssh://host:port` for the server itself. An array has several, the preferred one first: the next one is tried when one fails.",
    ),
    server: hostPort(
      "",
      SERVER_PORT,
      "The server's address as the last proxy knows it: the `--next` of `walt vpn setup-proxy` there, the same for all entrypoints. Not used with an `ssh://` entrypoint.",
    ),
    framing: choice(
      "messages",
      FRAMING_NAMES,
      "The framing that the server uses. messages: `walt server run`. original: the VPN endpoint of an existing WalT server. It has no enrolment, so the device key is added to its authorized_keys by hand.",
    ),
    board: choice("generic", BOARD_NAMES, "What kind of machine this device is."),
    interface: text(
      "",
      "The wired network card. Default: the only one with an address, or the one with the default route.",
      "the name of a network interface",
      INTERFACE,
    ),
    state: path(
      "/var/lib/walt-vpn",
      "Folder of the device key, its certificate and the credentials. It must survive reboots.",
    ),
    mtu: integer(
      9000,
      1500,
      9000,
      "Largest MTU of the node. It gets the MTU of walt-net if that is lower, and 1500 in the original framing.",
    ),
    run: path(
      "/run/walt-vpn",
      "Folder of sockets and of a copy of the enrolment key. It is gone after a reboot.",
    ),
    silence: span(
      "10s",
      "3s",
      "5m",
      "A tunnel whose server is silent for this time is ended and opened again.",
    ),
    lanes: integerOr(
      "auto",
      "auto",
      1,
      LANES_MAX,
      "Connections that the tunnel consists of. auto: one, and more on a path that loses packets or is long and fast. Each needs a connection of its own to each proxy.",
    ),
    rekey_limit: integer(
      32_768,
      1,
      65_536,
      "MiB after which the tunnel's connection gets new keys. AES allows no more than 65536 with one key. For outer connections OpenSSH decides.",
    ),
  },
  "device.vm": {
    start: flag(
      true,
      "false: no virtual machine. The node is then whatever is connected to the bridge `walt-br` with the node's MAC address.",
    ),
    memory: integerOr(
      "auto",
      "auto",
      64,
      1_048_576,
      "Memory of the virtual machine, MiB. auto: on a Raspberry Pi all but 320 MiB (576 of the 905 MiB that an emulated 3 B+ has); on another machine half of it; at least 256 and at most 4096.",
    ),
    cpus: integer(1, 1, 64, "Virtual CPUs."),
    model: text(
      "",
      "What kind of node this is for a WalT server, which chooses its boot files by it. Default: `qemu-arm-64` or `pc-x86-64`, by the processor.",
      "a name of small letters, digits and hyphens",
      /^[a-z0-9][a-z0-9-]{0,39}$/,
    ),
    usb: text(
      "",
      "USB ports whose devices the node gets, as in /sys/bus/usb/devices: `1-1.2,1-1.3`. The port of a hub includes all ports of the hub. Default: the USB sockets of a Raspberry Pi, and none of another machine.",
      "names of USB ports, separated by commas",
      /^\d{1,3}-\d{1,3}(\.\d{1,3}){0,6}(,\d{1,3}-\d{1,3}(\.\d{1,3}){0,6})*$/,
    ),
  },
} as const satisfies Record<string, Record<string, Key<unknown>>>;

export type TableName = keyof typeof TABLES;

type ValueOf<K> = K extends Key<infer T> ? T : never;

/** Values of all tables, defaults filled in. */
export type Values = {
  [T in TableName]: { [K in keyof (typeof TABLES)[T]]: ValueOf<(typeof TABLES)[T][K]> };
};

/** A configuration as the program uses it. */
export interface Config extends Values {
  role: Role | undefined;
  /** The file it came from; undefined when there was none. */
  file: string | undefined;
  /** Where each key's value came from: `server.listen` → the file's path, or `default`. */
  sources: ReadonlyMap<string, string>;
}
