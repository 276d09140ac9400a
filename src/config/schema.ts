/** Every key of vpn.toml: the one place where keys, defaults and their documentation are. */

import { PROXY_PORT, SERVER_PORT } from "../address.ts";
import { BOARD_NAMES } from "../boards.ts";
import { FRAMING_NAMES } from "../tunnel/framing.ts";
import {
  choice,
  entrypoints,
  flag,
  hostPort,
  integer,
  integerOr,
  type Key,
  loopback,
  mirror,
  network,
  path,
  publicKeys,
  span,
  text,
} from "./keys.ts";

export const ROLES = ["server", "proxy", "device"] as const;
export type Role = (typeof ROLES)[number];

const METRICS_PORT = 9586;
const INTERFACE = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/;

/** Tables of vpn.toml and their keys. */
export const TABLES = {
  server: {
    listen: hostPort(`[::]:${SERVER_PORT}`, SERVER_PORT, "Where the SSH endpoint listens for proxies."),
    address: hostPort(
      "",
      SERVER_PORT,
      "How proxies reach this server. Unless told: the machine's host name and the port of `listen`.",
    ),
    state: path("/var/lib/walt-vpn", "Folder of the keys and the registry; only root may read the keys."),
    socket: path("/run/walt-vpn/server.sock", "UNIX socket through which commands talk to the daemon."),
    group: text(
      "walt",
      "Group whose members may use the socket. Where it does not exist, only root may.",
      "the name of a group",
      /^[a-z_][a-z0-9_-]{0,31}$/,
    ),
    admission: choice(
      "queue",
      ["queue", "monitor"],
      "Who answers a new device. queue: a monitor that runs while it asks, or later `walt vpn accept`, for requests that nobody saw are remembered. monitor: a monitor that runs while it asks; nothing is remembered.",
    ),
    answer_timeout: span("5m", "1s", "1h", "A request that no monitor answers is denied after this long."),
    retry_after: span("5s", "1s", "1h", "How long a denied device waits before it asks again."),
    certificate_validity: span(
      "7d",
      "10s",
      "90d",
      "Validity of device certificates. Devices renew theirs at half of it.",
    ),
    metrics: loopback(
      METRICS_PORT,
      "Where Prometheus may scrape `/metrics`: an address of this machine's loopback. Unless told: nowhere.",
    ),
    silence: span("10s", "3s", "5m", "A tunnel whose device is silent for this long is taken down."),
  },
  "server.network": {
    bridge: text("walt-net", "The bridge that nodes join.", "the name of a network interface", INTERFACE),
    managed: flag(
      true,
      "true: the daemon makes the bridge, and serves DHCP and boot files on it. false: the bridge exists already, and something else (a WalT server) serves it.",
    ),
    address: network(
      "192.168.192.1/22",
      "The server's own address on a managed bridge; the rest of the network is given out by DHCP.",
    ),
    boot_files: path(
      "/var/lib/walt-vpn/boot",
      "Folder of the boot files of a managed network: `<arch>/vmlinuz`, `<arch>/initrd.img` and `<arch>/cmdline`, arch being x86_64 or arm64.",
    ),
    mtu: integer(
      1500,
      1500,
      9000,
      "Largest MTU on walt-net: larger than 1500 for jumbo frames, which a node gets if its device agrees (`device.mtu`). A managed bridge gets it; one that exists already must have it.",
    ),
    isolation: flag(
      false,
      "true: nodes of the VPN reach the server and what else is in the bridge, but not each other.",
    ),
    boot_port: integer(8080, 1, 65535, "TCP port of the boot files' HTTP service, on `address`."),
  },
  image: {
    mirror: mirror(
      "The Debian mirror that SD cards are made from. Unless told, the one that this machine's apt uses. Without a Debian mirror of its own a machine has to be told.",
    ),
  },
  proxy: {
    next: hostPort("", PROXY_PORT, "The next hop: the server's endpoint, or the next proxy."),
    listen: hostPort(`[::]:${PROXY_PORT}`, PROXY_PORT, "Where `walt proxy run` listens."),
    ca: publicKeys("Public key of the server's VPN CA; while that is rotated, both."),
    enrolment: publicKeys("Public half of the server's enrolment key; while that is rotated, both."),
    mark: text(
      "",
      "What tells this server's lines in authorized_keys from those of others. Unless told, the fingerprint of `ca`.",
      'a fingerprint, "SHA256:…"',
      /^SHA256:[A-Za-z0-9+/]{43}$/,
    ),
    state: path("/var/lib/walt-vpn", "Folder of the relay's own host key."),
  },
  device: {
    entrypoint: entrypoints(
      "How the device gets to the server: a proxy, a chain of proxies with commas (the first is the exposed one), or `ssh://host:port` for the server itself. Of several in an array the next is tried when one fails; the first is the preferred one.",
    ),
    server: hostPort(
      "",
      SERVER_PORT,
      "The server as the last proxy names it: what was given to `walt vpn setup-proxy --next` there, the same for all entrypoints. Not used with an `ssh://` entrypoint.",
    ),
    framing: choice(
      "messages",
      FRAMING_NAMES,
      "What the server speaks. messages: a `walt server run`. original: the VPN endpoint of an existing WalT server, which knows no enrolment: the device's public key is put into its authorized_keys by hand.",
    ),
    board: choice("generic", BOARD_NAMES, "What kind of machine this device is."),
    interface: text(
      "",
      "The wired network card. Unless told: the one with the default route.",
      "the name of a network interface",
      INTERFACE,
    ),
    state: path(
      "/var/lib/walt-vpn",
      "Folder of the device's key, certificate and credentials; it must survive reboots.",
    ),
    mtu: integer(
      9000,
      1500,
      9000,
      "Largest MTU that the node is given. It gets what the server has on walt-net, if that is less; 1500 in the original framing.",
    ),
    run: path("/run/walt-vpn", "Folder of sockets, gone after a reboot."),
    silence: span("10s", "3s", "5m", "A tunnel whose server is silent for this long is built anew."),
    rekey_limit: integer(
      32_768,
      1,
      65_536,
      "The tunnel's connection to the server gets new keys after so many MiB. More than 65536 with one key is too much for AES. The connections to proxies have OpenSSH's own limit.",
    ),
  },
  "device.vm": {
    start: flag(
      true,
      "false: no virtual machine; the node is then whatever is plugged into the bridge `walt-br` with the node's MAC address.",
    ),
    memory: integerOr(
      "auto",
      "auto",
      64,
      1_048_576,
      "Memory of the virtual machine, MiB. auto: on a Raspberry Pi all but 320 MiB, which its own system needs (576 of the 905 MiB that an emulated 3 B+ has); on a generic machine half of what it has; from 256 to 4096.",
    ),
    cpus: integer(1, 1, 64, "Virtual CPUs."),
    usb: text(
      "",
      "USB ports whose devices belong to the node, as in /sys/bus/usb/devices: `1-1.2,1-1.3`. A hub's port stands for all of its ports. Unless told: the sockets of a Raspberry Pi; none of a generic machine.",
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
