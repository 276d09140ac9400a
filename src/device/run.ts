/** `walt device run`: everything of a device, from looking for a network to a virtual machine on walt-net. */

import { rmSync } from "node:fs";
import { type Entrypoint, formatEntrypoint, parseEntrypoint } from "../address.ts";
import type { DeviceStatus } from "../api/types.ts";
import type { Config } from "../config/schema.ts";
import { codeOf, messageOf, WaltError } from "../errors.ts";
import type { Log } from "../log.ts";
import { fingerprint, publicKeyLine, shortCode } from "../ssh/keys/ed25519.ts";
import { loadOrCreateKey } from "../ssh/keys/key-files.ts";
import { safeText } from "../text.ts";
import { DeviceActions } from "./boot/actions.ts";
import { Supervisor } from "./boot/supervisor.ts";
import { SerialConsole } from "./console/ring.ts";
import { type ConsoleServer, serveConsole } from "./console/server.ts";
import { type DeviceFiles, deviceFiles, makeFolder, prepareGiven } from "./files.ts";
import { readBoard } from "./identity/board.ts";
import { readCredentials } from "./identity/credentials.ts";
import { BRIDGE, VM_TAP } from "./net/bridge.ts";
import { serveStatus } from "./status.ts";
import { usbPorts } from "./usb/ports.ts";
import { Usb } from "./usb/usb.ts";
import { VmKeeper, type VmKeeperOptions } from "./vm/keeper.ts";
import { findAccelerator } from "./vm/kvm-probe.ts";
import { totalMemory, vmMemory } from "./vm/memory.ts";
import { type Accelerator, Vm } from "./vm/vm.ts";

/** Characters of an error or of the stage's words in the status. */
const MAX_WORDS = 500;

/**
 * Run a device until `signal` is aborted; returns when all that it started is gone.
 * @throws WaltError when it cannot even begin: not root, no configuration, another one runs.
 */
export async function runDevice(config: Config, log: Log, signal: AbortSignal): Promise<void> {
  if (process.geteuid?.() !== 0) {
    throw new WaltError("a device makes network interfaces, which only root may", {
      hint: "Run it as root: `sudo walt device run`.",
    });
  }
  const entrypoints = entrypointsOf(config);
  const names = entrypoints.map(formatEntrypoint);
  const files = deviceFiles(config);
  makeFolder(files.run, 0o755);
  makeFolder(files.state, 0o700);
  const key = loadOrCreateKey(files.deviceKey, "walt-device");
  const damaged = (why: string): void => log.warn(`the credentials are damaged, asking for new ones: ${why}`);
  const enrols = config.device.framing !== "original";
  const credentials = enrols ? readCredentials(files, key.publicKey, damaged) : undefined;
  const identity = readBoard(config.device.board);

  let keeper: VmKeeper | undefined;
  let accelerator: Promise<Accelerator> | undefined;
  const console = new SerialConsole();
  let usb: Usb | undefined;
  const firstUp = (mac: string): void => {
    if (accelerator === undefined) return;
    keeper = keepVm({
      config,
      files,
      mac,
      mtu: () => actions.mtu,
      accelerator,
      console,
      usb,
      tell: (vm, error) => supervisor.vm(vm, error),
      log: log.with("vm"),
    });
  };
  const parts = { config, files, entrypoints, key, identity, log, signal, firstUp };
  const actions = new DeviceActions(parts, credentials);
  const supervisor = new Supervisor(
    {
      credentials: credentials !== undefined || !enrols,
      enrols,
      vm: config["device.vm"].start,
      entrypoints: names,
    },
    actions,
    log,
  );

  let ended = false;
  const api = await serveStatus(files.socket, {
    status: () => ({
      ...statusOf(supervisor, actions),
      usb: usb?.passed() ?? [],
      code: shortCode(key.publicKey),
      fingerprint: fingerprint(key.publicKey),
      via: names[supervisor.state.entrypoint] ?? null,
    }),
    // If that takes for ever, the board's watchdog ends it.
    illness: () => (ended || signal.aborted ? "the supervisor is stopping" : undefined),
  });
  let release = (): void => {};
  let consoleServer: ConsoleServer | undefined;
  try {
    release = lockNetwork();
    prepareGiven(files, enrols);
    if (!enrols) log.info("the server's authorized_keys needs", { key: publicKeyLine(key.publicKey) });
    log.info("device starts", {
      ...identity,
      entrypoint: names.join(" or "),
      node: credentials?.node,
    });
    actions.prepare();
    // It is tried in earnest, which takes seconds on a small board: done while the ways to the server are built.
    if (config["device.vm"].start) {
      const say = (words: string): void => log.warn(words);
      accelerator = findAccelerator({ board: config.device.board, say, signal });
      consoleServer = serveConsole(files.consoleSocket, console);
      const ports = usbPorts(config.device.board, config["device.vm"].usb);
      usb = new Usb({ ports, log: log.with("usb") });
    }
    const running = supervisor.run(signal);
    // It ends by itself only by a mistake of ours, which is not to leave anything behind either.
    await Promise.race([aborted(signal), running.catch(() => {})]);
    ended = true;
    log.info("stopping");
    await keeper?.stop();
    await actions.stop();
    await running;
    await accelerator;
    await actions.cleanUp();
    log.info("stopped");
  } finally {
    rmSync(files.enrolmentKeyCopy, { force: true });
    release();
    consoleServer?.stop();
    await usb?.stop();
    await api.stop();
  }
}

function entrypointsOf(config: Config): Entrypoint[] {
  const hint = "`walt vpn setup-node` writes a vpn.toml with both; name it with --config.";
  const { entrypoint: texts, server } = config.device;
  if (texts.length === 0) throw new WaltError("device.entrypoint is not set", { hint });
  const entrypoints = texts.map(parseEntrypoint);
  const proxy = entrypoints.find((entrypoint) => "proxies" in entrypoint);
  if (proxy !== undefined && server === undefined) {
    throw new WaltError(
      `device.server is not set, and the entrypoint ${formatEntrypoint(proxy)} is a proxy`,
      { hint },
    );
  }
  return entrypoints;
}

interface KeepVmOptions extends Pick<VmKeeperOptions, "tell" | "log"> {
  config: Config;
  files: DeviceFiles;
  /** The node's. */
  mac: string;
  /** Of the node's network now, bytes. */
  mtu: () => number;
  accelerator: Promise<Accelerator>;
  console: SerialConsole;
  usb: Usb | undefined;
}

/** Keep the virtual machine of the node running. */
function keepVm({ config, files, mac, mtu, accelerator, console, usb, tell, log }: KeepVmOptions): VmKeeper {
  const { board } = config.device;
  const { cpus } = config["device.vm"];
  const { arch } = process;
  return new VmKeeper({
    start: async (signal) => {
      if (arch !== "x64" && arch !== "arm64") throw new WaltError(`no virtual machine for ${arch}`);
      const memory = vmMemory(config["device.vm"].memory, board, totalMemory());
      const machine = { board, arch, accel: await accelerator, memory, cpus, mac, mtu: mtu(), tap: VM_TAP };
      signal.throwIfAborted();
      console.note("the virtual machine starts");
      const vm = await Vm.start({ ...machine, qmpSocket: files.qmpSocket }, console, log);
      log.info("virtual machine runs", machine);
      usb?.use(vm);
      void vm.ended.then(({ reason }) => {
        usb?.use(undefined);
        console.note(reason);
      });
      return vm;
    },
    tell,
    log,
  });
}

function statusOf(
  supervisor: Supervisor,
  actions: DeviceActions,
): Omit<DeviceStatus, "code" | "fingerprint" | "via" | "usb"> {
  const { stage, detail, lastError, tunnel, vm } = supervisor.state;
  return {
    stage,
    // They may have words in them that came over the network.
    detail: safeText(detail, MAX_WORDS),
    lastError: lastError === null ? null : safeText(lastError, MAX_WORDS),
    nextTryIn: actions.nextTryIn ?? null,
    since: supervisor.since.toISOString(),
    node: actions.node?.node ?? null,
    mac: actions.node?.mac ?? null,
    tunnel,
    rtt: actions.traffic?.rtt || null,
    loss: actions.traffic !== undefined && actions.traffic.pings > 0 ? actions.traffic.loss : null,
    traffic: actions.traffic ?? null,
    vm,
    certificateRenewal: actions.renewal ?? null,
  };
}

/**
 * One device per network namespace, as its bridge has a fixed name: held by a socket with a name in the abstract namespace,
 * which belongs to the network namespace and is gone with the process (unix(7), network_namespaces(7)).
 * @returns what releases it.
 * @throws WaltError when another device holds it.
 */
function lockNetwork(): () => void {
  try {
    const lock = Bun.listen({
      unix: `\0walt-device-${BRIDGE}`,
      socket: { open: (socket) => void socket.end(), data() {} },
    });
    return () => lock.stop(true);
  } catch (error) {
    const inUse = /EADDRINUSE/.test(`${codeOf(error) ?? ""} ${messageOf(error)}`);
    throw new WaltError(
      inUse
        ? `another \`walt device run\` owns the bridge ${BRIDGE} of this network namespace`
        : `cannot lock the bridge ${BRIDGE}: ${messageOf(error)}`,
      { hint: "Stop it first: there is one device per machine.", cause: error },
    );
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}
