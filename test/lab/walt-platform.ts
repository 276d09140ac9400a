/**
 * A WalT server as its nodes see it, after what was measured of WalT's own programs: isc-dhcpd, which tells nodes
 * apart by user class; TFTP and HTTP, which serve each client its own image; and the notification of booted nodes.
 * Run as a program (`walt-platform.ts <folder> <address>`) it is HTTP and notification.
 */

import { appendFileSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join, normalize } from "node:path";
import { gzipSync } from "node:zlib";
import { cpioNewc, type Entry } from "./cpio.ts";
import type { Host } from "./host.ts";
import type { NodeOs } from "./node-os.ts";
import type { LabProcess } from "./process.ts";

const NOTIFICATION = 12347;
/** On nodes, for a few requests of the server. */
export const NODE_PORT = 12346;

/** A node that is registered. */
export interface PlatformNode {
  name: string;
  mac: string;
  address: string;
  model: string;
}

/** The image's `start.ipxe` for our node: WalT's own is longer, and asks for the same files. */
const startScript = (model: string, cmdline: string): string => `#!ipxe
echo start.ipxe of ${model}
kernel http://\${next-server}/boot/kernel root=/dev/nfs boot=netroot walt.node.model=${model} walt.server.ip=\${next-server} panic=30 BOOTIF=01-\${netX/mac:hexhyp} ${cmdline} initrd=initrd || goto failed
initrd --name initrd http://\${next-server}/boot/initrd || goto failed
boot || goto failed
:failed
echo start.ipxe failed
exit 1
`;

/** What runs in the node: it tells the server that it has booted, for as long as it runs, and takes requests. */
const INIT = `#!/bin/sh
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for module in $(cat /modules/order); do insmod /modules/$module; done
server=$(sed -n 's/.*walt.server.ip=\\([^ ]*\\).*/\\1/p' /proc/cmdline)
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -s /dhcp -t 5 -T 1 -A 1
echo "walt-node: booted as $(hostname) at $(date -u +%s)"
(while :; do nc -l -p ${NODE_PORT} -e /control; done) &
while :; do
  { echo REQ_NOTIFY_BOOTUP_STATUS; sleep 86400; } | nc $server ${NOTIFICATION}
  sleep 1
done
`;

const CONTROL = `#!/bin/sh
PATH=/bin
read -r mode
read -r request
case $request in
REBOOT) echo OK; (sleep 1; reboot -f) </dev/null >/dev/null 2>&1 & ;;
*) echo "KO unknown request" ;;
esac
`;

/**
 * Put what runs in the node into a folder of an image: a second archive behind the initramfs of a node's OS.
 * @param os undefined for an image without a kernel.
 */
export function writeImage(folder: string, os: NodeOs | undefined, model: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "start.ipxe"), startScript(model, os?.cmdline ?? ""));
  if (os === undefined) return;
  const script = (path: string, data: string): Entry => ({ path, type: "file", data, mode: 0o755 });
  const applets = ["nc", "sed", "date"].map(
    (name): Entry => ({ path: `bin/${name}`, type: "link", target: "busybox" }),
  );
  copyFileSync(os.vmlinuz, join(folder, "kernel"));
  copyFileSync(os.initrd, join(folder, "initrd"));
  appendFileSync(
    join(folder, "initrd"),
    gzipSync(cpioNewc([...applets, script("init", INIT), script("control", CONTROL)])),
  );
}

/** dhcpd.conf(5). The log has the model of each node that asks. */
function dhcpdConfig(server: string, network: string, nodes: readonly PlatformNode[]): string {
  const host = (one: PlatformNode): string =>
    `host ${one.name} { hardware ethernet ${one.mac}; fixed-address ${one.address}; option host-name "${one.name}"; }\n`;
  return `authoritative;
ddns-update-style none;
option domain-name "walt";
default-lease-time 6000000;
max-lease-time 6000000;
next-server ${server};
option tftp-server-name "${server}";
if substring(option user-class, 0, 10) = "walt.node." {
  log(info, concat("model by user class: ", substring(option user-class, 10, 40)));
} elsif substring(option vendor-class-identifier, 0, 10) = "walt.node." {
  log(info, concat("model by vendor class: ", substring(option vendor-class-identifier, 10, 40)));
} elsif option vendor-class-identifier = "PXEClient:Arch:00000:UNDI:002001" {
  filename "pxe/walt-x86-undionly.kpxe";
}
subnet ${network}.0 netmask 255.255.255.0 { range ${network}.100 ${network}.200; }
${nodes.map(host).join("")}`;
}

export class WaltPlatform {
  /** Says what is loaded, and which nodes are booted. */
  readonly files: LabProcess;
  dhcp: LabProcess | undefined;
  #tftp: LabProcess | undefined;
  readonly #folder: string;

  private constructor(
    readonly host: Host,
    readonly bridge: string,
    /** Of the server on its bridge, the first one of a /24. */
    readonly address: string,
  ) {
    this.#folder = join(host.dir, "walt");
    mkdirSync(join(this.#folder, "clients"), { recursive: true });
    this.files = host.spawn([process.execPath, import.meta.path, this.#folder, address]);
  }

  static async start(host: Host, bridge: string, address: string): Promise<WaltPlatform> {
    const platform = new WaltPlatform(host, bridge, address);
    const tftp = host.spawn([
      ...["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--log-facility=-", "--port=0"],
      ...["--user=root", "--pid-file=", `--listen-address=${address}`, "--bind-interfaces"],
      ...["--enable-tftp", `--tftp-root=${platform.#folder}/clients`, "--tftp-unique-root"],
    ]);
    platform.#tftp = tftp;
    await Promise.all([tftp.waitFor(/TFTP root is/), platform.files.waitFor(/listening/)]);
    return platform;
  }

  /** Serve DHCP to these nodes from now on, and to each the image of its model in `images`. */
  async register(nodes: readonly PlatformNode[], images: string): Promise<void> {
    await this.dhcp?.stop();
    for (const { address, model } of nodes)
      symlinkSync(join(images, model), join(this.#folder, "clients", address));
    const known = nodes.map(({ address, ...node }) => ({
      ...{ ...node, ip: address, virtual: false, image: `waltplatform/${node.model}-default:latest` },
      ...{ booted: false, config: {} },
    }));
    const list = { num_nodes: known.length, nodes: known };
    writeFileSync(join(this.#folder, "nodes.json"), JSON.stringify(list));
    const network = this.address.split(".").slice(0, 3).join(".");
    const [config, leases] = [join(this.#folder, "dhcpd.conf"), join(this.#folder, "leases")];
    writeFileSync(config, dhcpdConfig(this.address, network, nodes));
    writeFileSync(leases, "");
    this.dhcp = this.host.spawn(["dhcpd", "-4", "-f", "-d", "-cf", config, "-lf", leases, this.bridge]);
    await this.dhcp.waitFor(/Server starting service|Sending on/);
  }

  /** End its programs. */
  async stop(): Promise<void> {
    await Promise.all([this.dhcp, this.#tftp, this.files].map((program) => program?.stop()));
  }

  /** Wait until a node is booted. @param after a position in the output of `files`. */
  async booted({ address }: PlatformNode, timeout: number, after = 0): Promise<void> {
    await this.files.waitFor(new RegExp(`booted ${address.replaceAll(".", "\\.")}\n`), { timeout, after });
  }

  /** Ask a node to reboot; its answer. */
  async reboot({ address }: PlatformNode): Promise<string> {
    const asked = `const { promise, resolve } = Promise.withResolvers();
      const socket = await Bun.connect({ hostname: "${address}", port: ${NODE_PORT}, socket: {
        data: (_, bytes) => resolve(bytes.toString()), close: () => resolve("") } });
      socket.write("MODE single\\nREBOOT\\n");
      console.log((await promise).trim());
      process.exit(0);`;
    return (await this.host.must([process.execPath, "-e", asked])).trim();
  }
}

if (import.meta.main) {
  const [folder = "", hostname = ""] = process.argv.slice(2);
  Bun.serve({
    port: 80,
    hostname,
    idleTimeout: 0, // what is in the socket's buffer may take a slow node minutes
    fetch: async (request, server) => {
      const { pathname } = new URL(request.url);
      const client = server.requestIP(request)?.address ?? "";
      const file = Bun.file(join(folder, "clients", client, normalize(pathname).replace(/^\/boot\//, "")));
      const found = await file.exists();
      console.log(`${found ? 200 : 404} ${client} ${pathname}`);
      return found ? new Response(file) : new Response("no such file\n", { status: 404 });
    },
  });
  // The web API of the server's own machine.
  Bun.serve({
    port: 80,
    hostname: "127.0.0.1",
    fetch: (request) =>
      new URL(request.url).pathname === "/api/v1/nodes"
        ? new Response(Bun.file(join(folder, "nodes.json")))
        : new Response("no such page\n", { status: 404 }),
  });
  Bun.listen<{ timer: Timer | undefined }>({
    port: NOTIFICATION,
    hostname,
    socket: {
      open: (socket) => {
        socket.data = { timer: undefined };
      },
      data: (socket, bytes) => {
        if (bytes.toString().trim() !== "REQ_NOTIFY_BOOTUP_STATUS") return;
        socket.write("OK\n");
        socket.data.timer = setInterval(() => socket.write("\n"), 20_000);
        console.log(`booted ${socket.remoteAddress}`);
      },
      close: (socket) => clearInterval(socket.data.timer),
      error: () => {},
    },
  });
  console.log("listening");
}
