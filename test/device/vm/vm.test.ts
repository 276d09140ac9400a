/** The node's VM: boots over a real network in a real QEMU, and its end is told in words, whatever ended it. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { appendFileSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { tryAccelerator, twice } from "../../../src/device/vm/kvm-probe.ts";
import { findAccelerator, type MachineOptions, qemuArguments } from "../../../src/device/vm/vm.ts";
import { startBootServer } from "../../lab/boot-server.ts";
import { cpioNewc, type Entry } from "../../lab/cpio.ts";
import { eventually } from "../../lab/eventually.ts";
import type { Host } from "../../lab/host.ts";
import { Lab } from "../../lab/lab.ts";
import { describeWith, LAB } from "../../lab/need.ts";
import { BLOB_BYTES, blob, buildNodeOs, READY } from "../../lab/node-os.ts";
import type { LabProcess } from "../../lab/process.ts";

const ARCH = process.arch === "arm64" ? "arm64" : "x64";
const NEEDS = {
  programs: [
    ARCH === "arm64" ? "qemu-system-aarch64" : "qemu-system-x86_64",
    ...["dnsmasq", "ping", "apt-get", "dpkg-deb"],
  ],
  files: [ARCH === "arm64" ? "/usr/lib/ipxe/ipxe-arm64.efi" : "/usr/lib/ipxe/ipxe.lkrn"],
};

const MACHINE: MachineOptions = {
  board: "generic",
  arch: ARCH,
  accel: "tcg",
  memory: 512,
  cpus: 1,
  nodeMac: "52:54:00:01:02:03",
  mtu: 1500,
  model: "a-model",
  tap: "tap-vm",
  qmpSocket: "/run/walt-vpn/qmp.sock",
};

/** What a person at the node's keyboard would do, to be asked for at `http://<node>/cgi-bin/<name>`, which tells the MTU. */
const DOINGS = {
  poweroff: "echo o > /proc/sysrq-trigger",
  // What acpid and systemd-logind do. Linux tells the power button as an input device, here the last one: of ACPI on
  // a PC, of a GPIO pin on arm64.
  button:
    "insmod /modules/button.ko; insmod /modules/gpio_keys.ko; insmod /modules/evdev.ko; for input in /dev/input/event*; do :; done; " +
    "head -c 24 $input && echo o > /proc/sysrq-trigger",
  panic: "insmod /modules/pvpanic.ko; insmod /modules/pvpanic-pci.ko; echo c > /proc/sysrq-trigger",
};

/** A second archive behind the node's initramfs (Linux: Documentation/driver-api/early-userspace/buffer-format.rst). */
function addDoings(initrd: string, packages: string): void {
  const kernel = readdirSync(packages, { recursive: true, encoding: "utf8" });
  /** Nothing where the kernel has it built in. */
  const module = (name: string): Entry[] => {
    const path = kernel.find((path) => path.includes(`/${name}.ko`));
    if (path === undefined) return [];
    const data = path.endsWith(".xz")
      ? Bun.spawnSync(["xz", "-dc", join(packages, path)]).stdout
      : readFileSync(join(packages, path));
    return [{ path: `modules/${name}.ko`, type: "file", data, mode: 0o644 }];
  };
  const script = ([name, command]: [string, string]): Entry => {
    const answer = "printf 'Content-Type: text/plain\\r\\n\\r\\n'; cat /sys/class/net/eth0/mtu";
    const data = `#!/bin/sh\nPATH=/bin\n${answer}\n(sleep 1; ${command}) </dev/null >/dev/null 2>&1 &\n`;
    return { path: `www/cgi-bin/${name}`, type: "file", data, mode: 0o755 };
  };
  const entries = [
    ...["button", "gpio_keys", "evdev", "pvpanic", "pvpanic-pci"].flatMap(module),
    ...Object.entries(DOINGS).map(script),
  ];
  appendFileSync(initrd, gzipSync(cpioNewc(entries)));
}

describeWith([LAB, NEEDS], "VM", () => {
  let lab: Lab;
  let server: Host;
  let device: Host;

  /** Start a VM on the device; `started` when QEMU runs it. */
  function start(more: Partial<MachineOptions> = {}, prefix: readonly string[] = []): LabProcess {
    const options = JSON.stringify({ ...MACHINE, ...more });
    return device.spawn([...prefix, process.execPath, join(import.meta.dir, "vm-runner.ts"), options]);
  }
  async function started(vm: LabProcess): Promise<string> {
    return (await vm.waitFor(/vm: started (\d+)/))[1] ?? "";
  }

  beforeAll(async () => {
    lab = await Lab.create();
    server = await lab.host("server");
    device = await lab.host("device");
    const work = join(lab.dir, "work");
    mkdirSync(work);
    const os = await buildNodeOs(join(server.dir, "boot"), work);
    addDoings(os.initrd, join(work, "node-os"));
    await startBootServer(server, server.dir, os.cmdline);
    await device.ip(
      "link add br0 type bridge stp_state 0",
      "link set br0 up",
      "link set eth0 master br0",
      "tuntap add tap-vm mode tap",
      "link set tap-vm master br0 up",
    );
    await device.must(["mkdir", "-p", "/run/walt-vpn"]);
  }, 300_000);
  afterAll(() => lab.stop());

  test("boots over the network, answers ping, serves a file unharmed, and says so when it reboots", async () => {
    const accel = await findAccelerator();
    const vm = start({ accel });
    await started(vm);
    const address = (await vm.waitFor(READY, { timeout: 120_000 }))[1] ?? "";
    expect((await server.run(["ping", "-c3", "-i0.2", "-W5", address])).status).toBe(0);
    const fetcher = `
      const bytes = await (await fetch("http://${address}/blob")).bytes();
      console.log(bytes.length, new Bun.CryptoHasher("sha256").update(bytes).digest("hex"));`;
    const sum = new Bun.CryptoHasher("sha256").update(blob()).digest("hex");
    expect(await server.must([process.execPath, "-e", fetcher])).toBe(`${BLOB_BYTES} ${sum}\n`);
    await server.must([process.execPath, "-e", `await fetch("http://${address}/cgi-bin/reboot")`]);
    await vm.waitFor(/vm: ended: the node rebooted \(orderly\)/);
    await vm.exited;
    expect(device.processes()).toEqual([]);
  }, 240_000);

  test.each([
    ["poweroff", /vm: ended: the node powered itself off \(orderly\)\n/],
    ["panic", /vm: ended: the node's kernel panicked\n/],
  ])(
    "a %s of the node, which has jumbo frames, is told from a reboot",
    async (doing, words) => {
      const vm = start({ accel: await findAccelerator(), mtu: 9000 });
      const address = (await vm.waitFor(READY, { timeout: 120_000 }))[1] ?? "";
      const fetcher = `console.log(await (await fetch("http://${address}/cgi-bin/${doing}")).text());`;
      expect((await server.must([process.execPath, "-e", fetcher])).trim()).toBe("9000");
      await vm.waitFor(words);
      await vm.exited;
    },
    180_000,
  );

  test("the power button reaches a guest that listens to it, and none other", async () => {
    const vm = start({ accel: await findAccelerator() });
    await started(vm);
    vm.write("power\n"); // which firmware and iPXE do not notice
    const address = (await vm.waitFor(READY, { timeout: 120_000 }))[1] ?? "";
    vm.write("power\n"); // and neither does a Linux without any program for it
    await server.must([process.execPath, "-e", `await fetch("http://${address}/cgi-bin/button")`]);
    // The guest opens its input device a second after the answer: the button is pressed until it notices.
    await eventually(
      "the guest powers itself off",
      () => {
        if (vm.ended === undefined) vm.write("power\n");
        return vm.output.includes("vm: ended: ");
      },
      { every: 500, within: 60_000 },
    );
    await vm.waitFor(/vm: ended: the node powered itself off \(orderly\)\nvm: end guest-shutdown, exit 0\n/);
    await vm.exited;
  }, 240_000);

  test("stop ends QEMU and removes its socket", async () => {
    const vm = start();
    await started(vm);
    vm.write("stop enough\n");
    await vm.waitFor(/vm: ended: stopped: enough\nvm: end stopped, exit 0\n/);
    expect(await vm.exited).toBe(0);
    expect(device.processes()).toEqual([]);
    expect((await device.run(["test", "-e", MACHINE.qmpSocket])).status).toBe(1);
  });

  test("stop kills a QEMU that does not answer any more", async () => {
    const vm = start();
    const pid = await started(vm);
    await device.must(["kill", "-STOP", pid]);
    vm.write("stop\n");
    await vm.waitFor(/vm: ended: stopped/);
    expect(device.processes().filter((one) => one.command.includes("qemu"))).toEqual([]);
  }, 120_000);

  test("a killed QEMU is told as such", async () => {
    const vm = start();
    await device.must(["kill", "-KILL", await started(vm)]);
    await vm.waitFor(/vm: ended: QEMU was killed \(SIGKILL\)\nvm: end killed, SIGKILL\n/);
  });

  test("a machine that QEMU halts is not left standing still", async () => {
    const vm = start();
    await started(vm);
    vm.write("qmp stop\n"); // what an error of KVM does
    await vm.waitFor(/vm: ended: QEMU halted the machine \(paused\)\nvm: end halted, exit 0\n/);
  });

  test("a QEMU left over by a killed owner makes way for the next", async () => {
    const first = start();
    await started(first);
    await first.stop("SIGKILL");
    expect(device.processes().filter((one) => one.command.includes("qemu"))).toHaveLength(1);
    const second = start();
    await started(second);
    expect(second.output).toContain("a QEMU was left over");
    expect(device.processes().filter((one) => one.command.startsWith("qemu"))).toHaveLength(1);
    second.write("stop\n");
    await second.exited;
  });

  test("a QEMU whose owner lives is left alone", async () => {
    const first = start();
    await started(first);
    await start().waitFor(/vm: failed: \/run\/walt-vpn\/qmp\.sock is in use/);
    expect(first.ended).toBeUndefined();
    first.write("stop\n");
    await first.waitFor(/vm: ended: stopped/);
    await first.exited;
  }, 120_000);

  test("QEMU's own words are the reason when it does not start", async () => {
    await device.ip("tuntap add tap-busy mode tap");
    const holder = start({ tap: "tap-busy", qmpSocket: "/run/walt-vpn/holder.sock" });
    await started(holder);
    await start({ tap: "tap-busy" }).waitFor(
      /vm: failed: the virtual machine did not start: QEMU ended \(exit 1\): .*tap-busy.*busy/,
    );
    holder.write("stop\n");
    await holder.exited;
  });

  test("a missing QEMU is named with its package", async () => {
    await start({}, ["env", "PATH=/nonexistent"]).waitFor(
      /vm: failed: cannot start the virtual machine: the program qemu-system-\w+ is missing; apt-get install \S+ qemu-system-(x86|arm)\n/,
    );
  });

  test("the probe for an accelerator executes, and gives up in time where nothing does", async () => {
    expect(await tryAccelerator(MACHINE)).toBeUndefined();
    expect(await tryAccelerator(MACHINE, 1)).toMatch(/executed nothing within/);
  });
});

test("a VM of another architecture is emulated, and the reason is said", async () => {
  const said: string[] = [];
  const other = ARCH === "x64" ? "arm64" : "x64";
  expect(await findAccelerator({ arch: other, say: (why) => said.push(why) })).toBe("tcg");
  const why = `this machine is ${ARCH}, but the virtual machine is ${other}`;
  expect(said).toEqual([`the virtual machine is emulated, which is slow, because KVM does not work: ${why}`]);
});

describe("KVM is tried", () => {
  const probe =
    (...results: (string | undefined)[]) =>
    async (): Promise<string | undefined> =>
      results.length === 0 ? "tried too often" : results.shift();

  test("once where it works, and once more where it does not, with the reason", async () => {
    const said: string[] = [];
    const say = (words: string): void => void said.push(words);
    expect(await twice(probe(undefined), undefined, say)).toBeUndefined();
    expect(said).toEqual([]);
    expect(await twice(probe("it hangs", undefined), undefined, say)).toBeUndefined();
    expect(said).toEqual(["KVM did not work and is tried once more: it hangs"]);
    expect(await twice(probe("it hangs", "it broke"), undefined, say)).toBe("it broke");
  });

  test("no more when the device stops", async () => {
    expect(await twice(probe("aborted"), AbortSignal.abort())).toBe("aborted");
  });
});

test.each(["x64", "arm64"] as const)("iPXE on %s takes its command line for a script", (arch) => {
  const args = qemuArguments({ ...MACHINE, arch, accel: "tcg" });
  expect(args[args.indexOf("-append") + 1]).toStartWith("#!ipxe\nset user-class walt.node.a-model\n");
});

test("QEMU's arguments on the Raspberry Pi", () => {
  const args = qemuArguments({ ...MACHINE, board: "rpi-3-b-plus", arch: "arm64", accel: "kvm" }).join(" ");
  expect(args).toStartWith(
    "qemu-system-aarch64 -machine virt,acpi=off,accel=kvm,kernel_irqchip=off -cpu host -m 512M -smp 1",
  );
  expect(args).toContain(
    " -bios /usr/share/qemu-efi-aarch64/QEMU_EFI.fd -kernel /usr/lib/ipxe/ipxe-arm64.efi ",
  );
  expect(args).toContain(" -netdev tap,id=net0,ifname=tap-vm,script=no,downscript=no ");
  expect(args).toContain(" -device virtio-net-pci,netdev=net0,mac=52:54:00:01:02:03,romfile= ");
  expect(args).toContain(" -no-reboot ");
  const jumbo = qemuArguments({ ...MACHINE, board: "rpi-3-b-plus", arch: "arm64", accel: "kvm", mtu: 9000 });
  expect(jumbo).toContain("virtio-net-pci,netdev=net0,mac=52:54:00:01:02:03,romfile=,host_mtu=9000");
});

test("QEMU's arguments on a PC: a comma in a path stays part of it, and a Pi's board is refused", () => {
  const args = qemuArguments({ ...MACHINE, arch: "x64", accel: "tcg", qmpSocket: "/run/a,b/qmp" });
  expect(args.join(" ")).toStartWith(
    "qemu-system-x86_64 -machine q35,graphics=off -accel tcg,thread=multi -cpu max",
  );
  expect(args).toContain("type=1,manufacturer=QEMU,product=Standard PC (i440FX + PIIX,, 1996)");
  expect(args).not.toContain("-rtc");
  const timed = qemuArguments({ ...MACHINE, arch: "x64", accel: "tcg", time: new Date(1e12) });
  expect(timed.join(" ")).toContain(" -rtc base=2001-09-09T01:46:40,clock=rt ");
  expect(args).toContain("socket,id=qmp,path=/run/a,,b/qmp,server=on,wait=off");
  expect(() => qemuArguments({ ...MACHINE, arch: "x64", board: "rpi-3-b-plus" })).toThrow(
    /which has arm64, but this machine has x64/,
  );
});
