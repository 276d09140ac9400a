/**
 * The checks of the board itself: files, programs, disk, memory, clock, interfaces, and the virtual
 * machine.
 */

import { BOARDS } from "../../boards.ts";
import { type Check, fault, faultOf, noted, OK, told, unknown } from "../../doctor/check.ts";
import { ipJsonIfAny } from "../../doctor/ip.ts";
import { lookAtPrograms, lookAtTun } from "../../doctor/needs.ts";
import { lookAtClock, lookAtMemory, MADE_AFTER } from "../../doctor/resources.ts";
import { lookAtDiskErrors, lookAtRoom } from "../../doctor/storage.ts";
import { WaltError } from "../../errors.ts";
import type { Certificate } from "../../ssh/keys/certificate.ts";
import { duration } from "../../text.ts";
import { checkConfigurationFiles } from "../files.ts";
import { BRIDGE } from "../net/bridge.ts";
import { entrypointsOf } from "../route/entrypoints.ts";
import type { DeviceCase } from "./case.ts";

/** The programs that a device runs, and the Debian package of each. */
const PROGRAMS = { ip: "iproute2", ssh: "openssh-client" };
const FOLDER_CURE = "`walt vpn setup-node` writes it: copy the whole folder to the device.";

/** What must be right before the network is looked at. */
export const BOARD_CHECKS: readonly Check<DeviceCase>[] = [
  {
    id: "files",
    what: "vpn.toml names an entrypoint, and the files beside it are there.",
    after: [],
    look: ({ config, files }) =>
      told(
        () => {
          entrypointsOf(config);
          checkConfigurationFiles(files, config.device.framing !== "original");
        },
        config.file ?? "no vpn.toml",
        FOLDER_CURE,
      ),
  },
  {
    id: "programs",
    what: "ip and ssh are installed.",
    after: [],
    look: ({ machine }) => lookAtPrograms(machine, PROGRAMS),
  },
  {
    id: "disk",
    what: "The state folder (`device.state`) can be written and has room.",
    after: [],
    look: ({ machine, files }) => lookAtRoom(machine, files.state),
  },
  {
    id: "disk-errors",
    what: "The kernel has counted no errors of a disk or card (ext4).",
    after: [],
    look: ({ machine }) => lookAtDiskErrors(machine),
  },
  {
    id: "memory",
    what: "Memory is left.",
    after: [],
    look: ({ machine }) => lookAtMemory(machine),
  },
  {
    id: "clock",
    what: "The clock is later than this version and the certificate. A Raspberry Pi has none, and needs none.",
    after: [],
    look: async (device) => {
      const { machine, config } = device;
      const certificate = await device.certificate();
      const isCard = BOARDS[config.device.board].image !== undefined;
      if (isCard) return noted(`${new Date(machine.now()).toISOString()}; nothing on this board needs it`);
      const known = certificate === undefined ? [] : [certificate.validAfter * 1000];
      return lookAtClock(
        machine,
        known.map((time) => ({ time, from: "by the server's clock the certificate is valid since" })),
      );
    },
  },
  {
    id: "tun",
    what: "TAPs can be made (`/dev/net/tun`).",
    after: [],
    look: ({ machine }) => lookAtTun(machine),
  },
  {
    id: "loopback",
    what: "Ports of the loopback interface can be listened on, as `ssh` does for each proxy.",
    after: [],
    look: async ({ machine }) => {
      const code = await machine.listen({ host: "127.0.0.1", port: 0 });
      if (code === undefined) return OK;
      return fault(
        "no port of 127.0.0.1 can be listened on",
        `bind: ${code}`,
        "Set the loopback interface up: ip link set dev lo up",
      );
    },
  },
];

/** What is looked at when a person asks, and not by a supervisor that looks at itself. */
export const SUPERVISOR_CHECKS: readonly Check<DeviceCase>[] = [
  {
    id: "supervisor",
    what: "`walt device run` is running.",
    after: ["files", "programs", "disk", "tun"],
    look: async ({ isRunning, files }) =>
      (await isRunning())
        ? OK
        : fault(
            "`walt device run` is not running",
            `nothing listens on ${files.socket}`,
            "Start it: `systemctl start` and the name of its unit, or `walt device run`. Its last log lines say why it ended.",
          ),
  },
  {
    id: "bridge",
    what: "The bridge `walt-br` is there and up.",
    after: ["programs", "supervisor"],
    look: async ({ machine }) => {
      const [first] = await ipJsonIfAny(machine, ["link", "show", "dev", BRIDGE]);
      const shown = JSON.stringify(first ?? null);
      if (/"UP"/.test(shown)) return OK;
      return fault(
        first === undefined ? `the bridge ${BRIDGE} is missing` : `the bridge ${BRIDGE} is down`,
        `ip link show dev ${BRIDGE}`,
        "The supervisor makes it for the next tunnel. If it does not: event=bridge-failed in its log says why.",
      );
    },
  },
];

/** What the node needs, and the tunnel does not. */
export const VM_CHECKS: readonly Check<DeviceCase>[] = [
  {
    id: "qemu",
    what: "QEMU and the node's firmware are installed.",
    after: [],
    look: ({ config, checkVm }) =>
      config["device.vm"].start
        ? told(checkVm, "not found", "Install it.")
        : noted("no virtual machine is wanted (device.vm.start)"),
  },
  {
    id: "kvm",
    what: "KVM works, so that the node is not emulated.",
    after: ["qemu"],
    look: async ({ config, kvm }) => {
      if (!config["device.vm"].start) return noted("no virtual machine is wanted (device.vm.start)");
      const why = await kvm();
      if (why === undefined) return OK;
      return fault(
        "the virtual machine is emulated, which is slow, because KVM does not work",
        why,
        "Enable virtualisation (VT-x, AMD-V) in the firmware, and load its module: modprobe kvm_intel or kvm_amd. In a virtual machine, enable nesting.",
      );
    },
  },
];

export const CERTIFICATE_CHECK: Check<DeviceCase> = {
  id: "certificate",
  what: "The certificate is whole, and valid by this clock.",
  after: ["clock", "disk"],
  look: async (device) => {
    const { machine, config, files } = device;
    if (config.device.framing === "original") return noted("this server gives no certificates");
    if ((await machine.stat(files.credentials)) === undefined)
      return noted("the device has not been accepted yet, and has none");
    let certificate: Certificate | undefined;
    try {
      certificate = await device.certificate();
      if (certificate === undefined) throw new WaltError(`${files.certificate} does not exist`);
    } catch (error) {
      if (!(error instanceof WaltError)) throw error;
      return faultOf(
        error,
        "the credentials are damaged",
        "Nothing: the device asks for new ones with the same key, and the server grants them.",
      );
    }
    const now = machine.now();
    const { validBefore } = certificate;
    const until = new Date(Math.min(validBefore * 1000, 8.64e15)).toISOString();
    if (now < MADE_AFTER) return unknown(`it ends at ${until}; this clock cannot tell whether that is past`);
    if (now < validBefore * 1000) return noted(`it ends at ${until}`);
    return fault(
      `the certificate expired ${duration(now - validBefore * 1000)} ago`,
      `it ended at ${until}, and the clock shows ${new Date(now).toISOString()}`,
      "The device renews it by itself as soon as the way to the server is free: see what else is wrong. If the clock is wrong, set it.",
    );
  },
};
