/**
 * A machine with real USB, which the one that tests run on may not have: emulated, with Debian's kernel, and this machine's
 * own files as its root, so that it runs the same programs. Its USB devices are plugged and pulled by QMP.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Qmp } from "../../src/device/vm/qmp.ts";
import { run, runAny } from "../../src/linux/run.ts";
import { cpioNewc, type Entry } from "../lab/cpio.ts";
import { eventually } from "../lab/eventually.ts";
import { SYSTEM_PATH } from "../lab/need.ts";
import { LabProcess } from "../lab/process.ts";

/** What it loads: the way to its files, TAPs, the USB controller, and drivers that hold on to the devices. */
const MODULES = ["virtio_pci", "9pnet_virtio", "9p", "overlay", "tun", "xhci_pci", "usbhid", "hid_generic"];
const APPLETS = ["sh", "mount", "mkdir", "insmod", "chroot", "poweroff"];

/** Its root is this machine's, read-only, below a layer in memory. */
const init = (modules: readonly string[], program: readonly string[]): string => `#!/bin/sh
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for module in ${modules.join(" ")}; do insmod /modules/$module.ko; done
mount -t 9p -o trans=virtio,version=9p2000.L,ro,msize=524288,cache=loose host /lower
mount -t tmpfs layer /layer
mkdir /layer/upper /layer/work
mount -t overlay -o lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work overlay /root
for folder in dev proc sys; do mount --move /$folder /root/$folder; done
mount -t tmpfs run /root/run
export PATH=${SYSTEM_PATH} HOME=/root
chroot /root ${program.join(" ")}
poweroff -f
`;

export class UsbBoard implements AsyncDisposable {
  private constructor(
    readonly process: LabProcess,
    readonly qmp: Qmp,
  ) {}

  /**
   * Boot it in `folder`, where the kernel is put; `program` is run on it.
   * @param devices more of QEMU's arguments: its USB controllers and devices.
   */
  static async start(
    folder: string,
    program: readonly string[],
    devices: readonly string[],
  ): Promise<UsbBoard> {
    const root = await unpackKernel(folder);
    const kernel = readdirSync(join(root, "boot")).find((name) => name.startsWith("vmlinuz-"));
    const socket = join(folder, "qmp.sock");
    writeFileSync(join(folder, "initrd"), cpioNewc(entries(root, program)));
    const qemu = [
      ...["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max"],
      ...["-m", "1536", "-smp", "2", "-nodefaults", "-no-reboot", "-display", "none"],
      ...["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"],
      ...["-chardev", `socket,id=qmp,path=${socket},server=on,wait=off`, "-mon", "chardev=qmp,mode=control"],
      ...["-kernel", join(root, "boot", kernel ?? ""), "-initrd", join(folder, "initrd")],
      ...["-append", "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on"],
      ...["-virtfs", "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"],
      ...devices,
    ];
    // Its group ends with us even when the test is killed.
    const process = new LabProcess(
      ["setpriv", "--pdeathsig", "KILL", ...qemu],
      ["sh", "-c", '"$@"; exit $?', "sh"],
      { PATH: SYSTEM_PATH },
    );
    const connect = async (): Promise<Qmp | undefined> => {
      if (process.ended !== undefined) throw new Error(`QEMU ended (${process.ended}): ${process.output}`);
      return await Qmp.connect(socket).catch(() => undefined); // it has not made its socket yet
    };
    try {
      return new UsbBoard(process, await eventually("QEMU answers", connect, { every: 20, within: 30_000 }));
    } catch (error) {
      await process.stop("SIGKILL");
      throw error;
    }
  }

  /** Plug in one of QEMU's devices: `{ driver: "usb-kbd", id: "kbd", port: "1.2" }`. */
  async plug(device: Record<string, string>): Promise<void> {
    await this.qmp.execute("device_add", device);
  }

  async pull(id: string): Promise<void> {
    await this.qmp.execute("device_del", { id });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.qmp.stop();
    await this.process.stop("SIGKILL", { tree: true });
  }
}

/** Debian's kernel that has USB (the one for clouds, which the node boots, has none); the folder of its files. */
async function unpackKernel(folder: string): Promise<string> {
  const shown = await runAny(["apt-cache", "depends", "linux-image-amd64"], { timeout: 300_000 });
  const name = /Depends: (linux-image-\S+)/.exec(shown.stdout)?.[1] ?? "linux-image-amd64";
  const get = ["sh", "-c", 'cd "$0" && exec apt-get download --quiet "$@"', folder, name, "busybox-static"];
  if ((await runAny(get, { timeout: 300_000 })).status !== 0) {
    await runAny(["apt-get", "update", "--quiet"], { timeout: 300_000 });
    await run(get, { timeout: 300_000 });
  }
  const root = join(folder, "kernel");
  for (const file of readdirSync(folder).filter((file) => file.endsWith(".deb"))) {
    await run(["dpkg-deb", "-x", join(folder, file), root], { timeout: 120_000 });
  }
  return root;
}

function entries(root: string, program: readonly string[]): Entry[] {
  const modules = withDependencies(root);
  const busybox = ["bin/busybox", "usr/bin/busybox"].map((path) => join(root, path));
  const found = busybox.find((path) => Bun.file(path).size > 0) ?? "";
  const folders = ["bin", "dev", "proc", "sys", "modules", "lower", "layer", "root"];
  return [
    ...folders.map((path): Entry => ({ path, type: "folder" })),
    { path: "dev/console", type: "device", major: 5, minor: 1 },
    { path: "bin/busybox", type: "file", data: readFileSync(found), mode: 0o755 },
    ...APPLETS.map((name): Entry => ({ path: `bin/${name}`, type: "link", target: "busybox" })),
    ...[...modules].map(
      ([name, data]): Entry => ({ path: `modules/${name}.ko`, type: "file", data, mode: 0o644 }),
    ),
    { path: "init", type: "file", data: init([...modules.keys()], program), mode: 0o755 },
  ];
}

/** The modules, those that one depends on before it. */
function withDependencies(root: string): Map<string, Uint8Array> {
  const base = ["lib/modules", "usr/lib/modules"].map((path) => join(root, path));
  const folder = base.find((path) => readdirSyncIfAny(path).length > 0) ?? "";
  const paths = new Map<string, string>();
  for (const path of readdirSync(folder, { recursive: true, encoding: "utf8" })) {
    const name = /^(.+)\.ko(\.xz)?$/.exec(basename(path))?.[1];
    if (name !== undefined) paths.set(name.replaceAll("-", "_"), join(folder, path));
  }
  const found = new Map<string, Uint8Array>();
  const add = (name: string): void => {
    const path = paths.get(name);
    if (path === undefined || found.has(name)) return; // it is built in
    const data = path.endsWith(".xz") ? Bun.spawnSync(["xz", "-dc", path]).stdout : readFileSync(path);
    const depends = /\0depends=([^\0]*)\0/.exec(data.toString("latin1"))?.[1] ?? "";
    for (const other of depends.split(",")) add(other.replaceAll("-", "_"));
    found.set(name, data);
  };
  for (const name of MODULES) add(name);
  return found;
}

function readdirSyncIfAny(path: string): string[] {
  try {
    return readdirSync(path);
  } catch {
    return [];
  }
}
