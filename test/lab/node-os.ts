/**
 * A small OS for nodes to boot from the network: Debian's cloud kernel and busybox, downloaded but not installed.
 * It takes an address by DHCP, answers ping, serves a file by HTTP, and says so on its serial console, where it also repeats what
 * is typed.
 */

import { mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { arch } from "node:os";
import { basename, join } from "node:path";
import { gzipSync } from "node:zlib";
import { messageOf, WaltError } from "../../src/errors.ts";
import { run, runAny } from "../../src/linux/run.ts";
import { cpioNewc, type Entry } from "./cpio.ts";

/** What the node serves at `http://<node>/blob`: this line again and again, cut at `BLOB_BYTES`. */
export const BLOB_LINE = "a walt node boots over the network\n";
export const BLOB_BYTES = 4 << 20;

/** Its content, to compare a transfer with. */
export function blob(): Buffer {
  return Buffer.alloc(BLOB_BYTES, BLOB_LINE);
}

/** What the node prints on its console when its file can be had: `walt-node: ready <address> <hostname>`. */
export const READY = /walt-node: ready (\S+) (\S+)/;

/** The modules it loads; those they depend on are found. What the kernel has built in, or has not, is passed over. */
const MODULES = [
  ...["virtio_pci", "virtio_mmio", "virtio_net", "virtio-rng"],
  ...["xhci-pci", "usb-storage", "sd_mod"], // a cloud kernel has no USB
];

const APPLETS = [
  "cat",
  "head",
  "httpd",
  "insmod",
  "ip",
  "mount",
  "reboot",
  "sha256sum",
  "sleep",
  "udhcpc",
  "yes",
  "hostname",
];

const INIT = `#!/bin/sh
PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for module in $(cat /modules/order); do insmod /modules/$module; done
ip link set lo up
ip link set eth0 up
httpd -p 80 -h /www
(yes "${BLOB_LINE.trim()}" | head -c ${BLOB_BYTES} > /www/blob; cd /www; sha256sum blob > blob.sha256) &
udhcpc -i eth0 -s /dhcp -t 5 -T 1 -A 1 -x hostname:walt-node
wait %1
echo "walt-node: ready $(cat /address) $(hostname)"
while read -r line; do echo "walt-node: heard $line"; done
while :; do sleep 3600; done
`;

/** udhcpc's script (its README.scripts): the lease comes in the environment. */
const DHCP = `#!/bin/sh
PATH=/bin
case $1 in
bound|renew)
  ip address replace $ip/$mask dev $interface
  [ -z "$router" ] || ip route replace default via \${router%% *}
  [ -z "$hostname" ] || hostname "$hostname"
  echo $ip > /address ;;
esac
`;

/** Bytes of each USB stick that the node reads. */
export const STICK_BYTES = 64 << 10;

/** `http://<node>/cgi-bin/usb`: `usb VENDOR:PRODUCT` for each USB device but root hubs, `disk SHA-256` for each stick; a line each. */
const USB = `#!/bin/sh
PATH=/bin
printf 'Content-Type: text/plain\\r\\n\\r\\n'
for device in /sys/bus/usb/devices/*-*; do
  [ -f $device/idVendor ] && echo "usb $(cat $device/idVendor):$(cat $device/idProduct)"
done
for disk in /sys/block/sd*; do
  [ -d $disk ] || continue
  sum=$(head -c ${STICK_BYTES} /dev/\${disk##*/} | sha256sum)
  echo "disk \${sum%% *}"
done
`;

/** `http://<node>/cgi-bin/reboot`: what a person at the node would type. */
const REBOOT = `#!/bin/sh
printf 'Content-Type: text/plain\\r\\n\\r\\nrebooting\\n'
(sleep 1; reboot -f) </dev/null >/dev/null 2>&1 &
`;

export interface NodeOs {
  /** Names of the folders that hold the three files: what iPXE may call this architecture. */
  architectures: readonly string[];
  vmlinuz: string;
  initrd: string;
  /** The kernel's command line. */
  cmdline: string;
}

/**
 * Build it for this machine's architecture: `<boot>/<architecture>/{vmlinuz,initrd.img,cmdline}`. Takes some 30 MB of
 * download and 110 MB in `work`, an existing folder that is left to the caller.
 * @throws WaltError when a package cannot be had.
 */
export async function buildNodeOs(boot: string, work: string): Promise<NodeOs> {
  const arm = arch() === "arm64";
  const root = join(work, "node-os");
  mkdirSync(root, { recursive: true });
  await download(work, [
    await kernelPackage(arm ? "linux-image-cloud-arm64" : "linux-image-cloud-amd64"),
    "busybox-static",
  ]);
  for (const name of readdirSync(work)) {
    if (name.endsWith(".deb")) await run(["dpkg-deb", "-x", join(work, name), root], { timeout: 120_000 });
  }
  return await assembleNodeOs(boot, root, arm ? "arm64" : "x64");
}

/** The second half of `buildNodeOs`: from the packages' content in `root`. */
export async function assembleNodeOs(boot: string, root: string, machine: "x64" | "arm64"): Promise<NodeOs> {
  const arm = machine === "arm64";
  // iPXE's ${buildarch} is that of its own code: "i386" for the PC BIOS, whatever the processor.
  const [first, ...aliases] = arm ? ["arm64"] : ["x86_64", "i386"];
  const folder = join(boot, first ?? "");
  mkdirSync(folder, { recursive: true });
  const kernel = readdirSync(join(root, "boot")).find((name) => name.startsWith("vmlinuz-"));
  if (kernel === undefined) throw new WaltError("the kernel package holds no kernel");
  const os: NodeOs = {
    architectures: [first ?? "", ...aliases],
    vmlinuz: join(folder, "vmlinuz"),
    initrd: join(folder, "initrd.img"),
    cmdline: `console=${arm ? "ttyAMA0" : "ttyS0"} quiet panic=-1 mitigations=off random.trust_bootloader=on`,
  };
  writeFileSync(os.vmlinuz, readFileSync(join(root, "boot", kernel)));
  writeFileSync(os.initrd, gzipSync(cpioNewc(await entries(root)), { level: 1 }));
  writeFileSync(join(folder, "cmdline"), `${os.cmdline}\n`);
  for (const alias of aliases) symlinkSync(first ?? "", join(boot, alias));
  return os;
}

/** The real kernel package behind the one that always depends on the newest. */
async function kernelPackage(meta: string): Promise<string> {
  const shown = await runAny(["apt-cache", "depends", meta], { timeout: 300_000 });
  return shown.stdout.match(/Depends: (linux-image-\S+)/)?.[1] ?? meta;
}

/** apt-get download checks signatures like an installation does. When the lists are missing or old they are fetched once. */
async function download(folder: string, packages: readonly string[]): Promise<void> {
  const get = ["sh", "-c", 'cd "$0" && exec apt-get download --quiet "$@"', folder, ...packages];
  if ((await runAny(get, { timeout: 300_000 })).status === 0) return;
  await runAny(["apt-get", "update", "--quiet"], { timeout: 300_000 });
  try {
    await run(get, { timeout: 300_000 });
  } catch (error) {
    throw new WaltError(`cannot download the Debian packages of the node's OS: ${messageOf(error)}`, {
      hint: `Try: apt-get update && apt-get download ${packages.join(" ")}`,
      cause: error,
    });
  }
}

/** The initial file system. */
async function entries(root: string): Promise<Entry[]> {
  const modules = await moduleFiles(root);
  const busybox = ["bin/busybox", "usr/bin/busybox"]
    .map((path) => join(root, path))
    .find((path) => Bun.file(path).size > 0);
  if (busybox === undefined) throw new WaltError("the package busybox-static holds no busybox");
  const script = (path: string, data: string): Entry => ({ path, type: "file", data, mode: 0o755 });
  return [
    ...["bin", "dev", "proc", "sys", "modules", "www", "www/cgi-bin"].map(
      (path): Entry => ({ path, type: "folder" }),
    ),
    { path: "dev/console", type: "device", major: 5, minor: 1 },
    { path: "bin/busybox", type: "file", data: readFileSync(busybox), mode: 0o755 },
    ...["sh", ...APPLETS].map((name): Entry => ({ path: `bin/${name}`, type: "link", target: "busybox" })),
    ...modules.map(
      ({ name, data }): Entry => ({ path: `modules/${name}.ko`, type: "file", data, mode: 0o644 }),
    ),
    {
      path: "modules/order",
      type: "file",
      data: modules.map(({ name }) => `${name}.ko\n`).join(""),
      mode: 0o644,
    },
    script("init", INIT),
    script("dhcp", DHCP),
    script("www/cgi-bin/reboot", REBOOT),
    script("www/cgi-bin/usb", USB),
  ];
}

/** The modules wanted and those they need, in the order they have to be loaded. */
async function moduleFiles(root: string): Promise<{ name: string; data: Buffer }[]> {
  const base = ["lib/modules", "usr/lib/modules"]
    .map((path) => join(root, path))
    .find((path) => isFolder(path));
  if (base === undefined) throw new WaltError("the kernel package holds no modules");
  const normal = (name: string): string => name.replaceAll("-", "_");
  const paths = new Map<string, string>();
  for (const path of readdirSync(base, { recursive: true, encoding: "utf8" })) {
    const name = basename(path).match(/^(.+)\.ko(\.xz|\.zst)?$/)?.[1];
    if (name !== undefined) paths.set(normal(name), join(base, path));
  }
  const found: { name: string; data: Buffer }[] = [];
  const add = async (name: string): Promise<void> => {
    const path = paths.get(name);
    if (path === undefined || found.some((one) => one.name === name)) return;
    const data = path.endsWith(".ko") ? readFileSync(path) : await decompressed(path);
    // modinfo(8): the section .modinfo holds "depends=a,b" among its zero-terminated strings
    const depends = data.toString("latin1").match(/\0depends=([^\0]*)\0/)?.[1] ?? "";
    for (const other of depends.split(",").filter((word) => word !== "")) await add(normal(other));
    found.push({ name, data });
  };
  for (const name of MODULES) await add(normal(name));
  return found;
}

function isFolder(path: string): boolean {
  try {
    return readdirSync(path).length > 0;
  } catch {
    return false;
  }
}

async function decompressed(path: string): Promise<Buffer> {
  const program = path.endsWith(".xz") ? "xz" : "zstd";
  const child = Bun.spawn([program, "-dc", path], { stdout: "pipe", stderr: "inherit" });
  const data = Buffer.from(await new Response(child.stdout).arrayBuffer());
  if ((await child.exited) !== 0) throw new WaltError(`cannot decompress ${path} with ${program}`);
  return data;
}
