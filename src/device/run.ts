/** `walt device run`: a whole device, from the search for a network to the virtual machine on walt-net. */

import { formatEntrypoint } from "../address.ts";
import { type DeviceStatus, MAX_DETAIL } from "../api/device-status.ts";
import { BOARDS } from "../boards.ts";
import type { Config } from "../config/schema.ts";
import { type Settings, withSettings } from "../config/settings.ts";
import { codeOf, messageOf, WaltError } from "../errors.ts";
import { kept } from "../kept.ts";
import { Change } from "../linux/change.ts";
import { requireDescriptors } from "../linux/limits.ts";
import { aborted } from "../linux/sleep.ts";
import { alsoTo, type Log } from "../log.ts";
import { fingerprint, publicKeyLine, shortCode } from "../ssh/keys/ed25519.ts";
import { loadOrCreateKey } from "../ssh/keys/key-files.ts";
import { safeText } from "../text.ts";
import { DeviceActions } from "./boot/actions.ts";
import { prepareReboot } from "./boot/reboot-board.ts";
import { entrypointOf, type State } from "./boot/state.ts";
import { Supervisor } from "./boot/supervisor.ts";
import { Trials } from "./boot/trial.ts";
import { SerialConsole } from "./console/serial-console.ts";
import { type ConsoleServer, serveConsole } from "./console/server.ts";
import { examineDevice } from "./doctor/examine.ts";
import { SelfExamination } from "./doctor/self-examination.ts";
import { checkConfigurationFiles, type DeviceFiles, deviceFiles, makeFolder } from "./files.ts";
import { Health } from "./health/health.ts";
import { LastErrors } from "./health/last-errors.ts";
import { readBoard } from "./identity/board.ts";
import { DEVICE_KEY_COMMENT, readCredentials } from "./identity/credentials.ts";
import { removeTrustedKeys } from "./identity/server-keys.ts";
import { KernelLog } from "./log/kernel-log.ts";
import { LineRing } from "./log/line-ring.ts";
import { linesOf } from "./log/lines-of.ts";
import { BRIDGE, VM_TAP } from "./net/bridge.ts";
import { orderHandler } from "./orders.ts";
import { entrypointsOf } from "./route/entrypoints.ts";
import { readSettings, writeSettings } from "./settings.ts";
import { type StatusSource, serveStatus } from "./status.ts";
import { usbPorts } from "./usb/ports.ts";
import { cyclePower } from "./usb/power.ts";
import { Usb } from "./usb/usb.ts";
import { BootWatch } from "./vm/boot-watch.ts";
import { VmKeeper, type VmKeeperOptions } from "./vm/keeper.ts";
import { findAccelerator } from "./vm/kvm-probe.ts";
import { totalMemory, vmMemory } from "./vm/memory.ts";
import { checkMachine, DEFAULT_MODEL, thisArchitecture } from "./vm/qemu-arguments.ts";
import { ServerClock } from "./vm/server-clock.ts";
import { type Accelerator, Vm } from "./vm/vm.ts";

/**
 * Run a device until `signal` is aborted. Resolves when everything that it started has ended.
 * @param card the configuration of its vpn.toml. What was set from the lab takes the place of values in it.
 * @param output a log, whose last lines are also kept for those who ask for them.
 * @throws WaltError when it cannot start: it does not run as root, the configuration is incomplete, or
 *   another device runs.
 */
export async function runDevice(card: Config, output: Log, signal: AbortSignal): Promise<void> {
  if (process.geteuid?.() !== 0) {
    throw new WaltError("`walt device run` must run as root: it creates network interfaces", {
      hint: "Run `sudo walt device run`.",
    });
  }
  requireDescriptors();
  const logs = { board: new LineRing(), vm: new LineRing(), kernel: new KernelLog() };
  const errors = new LastErrors();
  const log = alsoTo(output, (line) => {
    logs.board.add(`${line.level.padEnd(5)} ${line.text}`);
    errors.keep(line);
  });
  const files = deviceFiles(card);
  const settings = readSettings(files.settings, (why) =>
    log.warn(`what was set from the lab is damaged, so the card's settings count: ${why}`, {
      event: "settings-damaged",
    }),
  );
  const withSet = (set: Settings): Config => withSettings(card, set, files.settings);
  const config = withSet(settings);
  let inUse = { config, hostKeys: settings.hostKeys };
  const entrypoints = entrypointsOf(config);
  makeFolder(files.run, 0o755);
  makeFolder(files.state, 0o700);
  const key = loadOrCreateKey(files.deviceKey, DEVICE_KEY_COMMENT);
  const damaged = (why: string): void =>
    log.warn(`the credentials are damaged, so the device asks for new ones: ${why}`, {
      event: "credentials-damaged",
    });
  const enrols = config.device.framing !== "original";
  const credentials = enrols ? readCredentials(files, key.publicKey, damaged) : undefined;
  const identity = readBoard(config.device.board);

  let keeper: VmKeeper | undefined;
  let accelerator: (() => Promise<Accelerator>) | undefined;
  const bootWatch = new BootWatch({
    stuck: (why) => void keeper?.restart(why),
    changed: () => tellChange(),
  });
  const console = new SerialConsole(
    linesOf((line) => {
      logs.vm.add(line);
      bootWatch.line(line);
    }),
  );
  const clock = new ServerClock();
  let usb: Usb | undefined;
  let vmMac: string | undefined;
  const startVm = (): void => {
    if (accelerator === undefined || actions.node === undefined) return;
    keeper = keepVm({
      config,
      files,
      nodeMac: () => {
        vmMac = actions.node?.mac ?? "";
        return vmMac;
      },
      mtu: () => actions.mtu,
      accelerator,
      console,
      bootWatch,
      clock,
      usb,
      tell: (vm, error) => supervisor.vm(vm, error),
      log: log.with("vm"),
    });
  };
  const trials = new Trials({
    kept: settings,
    check: (set) => void entrypointsOf(withSet(set)),
    use: (set) => {
      const next = withSet(set);
      supervisor.tell({ type: "settings", entrypoints: entrypointsOf(next) });
      inUse = { config: next, hostKeys: set.hostKeys };
      actions.reconfigure(next, set.hostKeys);
    },
    write: (set) => writeSettings(files.settings, set),
    lastError: () => supervisor.state.lastError ?? "",
    failed: (error) => log.error(messageOf(error), { event: "settings-failed" }),
    changed: ({ outcome, by, reason }) => {
      log.info("settings from the lab", { event: "settings", outcome, by, reason: reason || undefined });
      tellChange();
    },
  });
  let rebooting = false;
  const changed = new Change();
  const tellChange = (): void => {
    health.changed();
    changed.tell();
  };
  const orders = orderHandler({
    trials,
    ...{ report: () => health.report(), changed },
    console: config["device.vm"].start ? console : undefined,
    logs,
    time: (now) => clock.tell(now),
    peers: (peers) => {
      actions.peers = peers;
    },
    hops: (rounds) => actions.hops(rounds),
    rebootNode: async (how, by) => (await keeper?.reboot(how, by)) ?? { did: "not-running" },
    power: async (on, by) => (await keeper?.power(on, by)) ?? { did: "not-running" },
    prepareReboot: () => {
      const begin = prepareReboot(log);
      return () => {
        rebooting = true;
        void begin();
      };
    },
  });
  const tunnelUp = (): void => {
    trials.tunnelUp();
    if (keeper === undefined) startVm();
    // A server that has lost its registry gives the node another address.
    else if (vmMac !== undefined && actions.node?.mac !== vmMac)
      keeper.reboot("hard", "the server, which gave the node another MAC address").catch(() => {});
  };
  const { hostKeys } = settings;
  const parts = { config, files, key, identity, log, signal, hostKeys, tunnelUp, orders };
  const actions = new DeviceActions(parts, credentials);
  const doctor = new SelfExamination({
    examine: (end) => examineDevice(inUse, files, "connection", end),
    log: log.with("doctor"),
  });
  let refusal: { of: State["refusal"]; at: Date; text: string } | undefined;
  const supervisor = new Supervisor(
    {
      credentials: credentials !== undefined || !enrols,
      enrols,
      vm: config["device.vm"].start,
      entrypoints,
    },
    actions,
    log,
    (state) => {
      bootWatch.tunnel(state.tunnel === "up");
      doctor.see(state);
      if (state.refusal !== undefined && state.refusal !== refusal?.of)
        refusal = { of: state.refusal, at: new Date(), text: state.refusal.text };
      tellChange();
    },
  );

  const health = new Health(() => ({
    ...supervisor.state,
    board: config.device.board,
    state: files.state,
    interface: actions.interfaceName,
    boardMac: actions.boardMac,
    serialNumber: identity.serialNumber,
    lastEnd: keeper?.lastEnd,
    dhcp: bootWatch.dhcp,
    usb: usb?.passed() ?? [],
    entrypoint: entrypointOf(supervisor.state),
    errors: errors.errors,
    settings: trials.kept,
    trial: trials.last,
    refusal,
    diagnosis: doctor.diagnosis,
  }));

  let ended = false;
  const source: StatusSource = {
    status: () => ({
      ...statusOf(supervisor, actions),
      usb: usb?.passed() ?? [],
      ...(doctor.diagnosis === undefined ? {} : { doctor: doctor.diagnosis }),
      code: shortCode(actions.key.publicKey),
      fingerprint: fingerprint(actions.key.publicKey),
    }),
    // If that takes for ever, the board's watchdog ends it.
    illness: () => {
      if (rebooting) return "the board is being rebooted";
      return ended || signal.aborted ? "the supervisor is stopping" : undefined;
    },
  };
  const api = await serveStatus(files.socket, source, log.with("api"));
  let release = (): void => {};
  let consoleServer: ConsoleServer | undefined;
  try {
    release = lockNetwork();
    checkConfigurationFiles(files, enrols);
    actions.trustServerKeys();
    if (!enrols)
      log.info("the server's authorized_keys needs", {
        event: "key-to-install",
        key: publicKeyLine(key.publicKey),
      });
    log.info("device starts", {
      event: "device-starts",
      ...identity,
      entrypoint: entrypoints.map(formatEntrypoint).join(" or "),
      node: credentials?.name ?? credentials?.node,
    });
    actions.prerequisites.prepare();
    // To find the accelerator means to start QEMU with it, which takes seconds on a small board. So it is
    // done while the device connects to the server.
    if (config["device.vm"].start) {
      const say = (words: string): void => log.warn(words, { event: "vm-emulated" });
      accelerator = kept(() => findAccelerator({ board: config.device.board, say, signal }));
      accelerator().catch(() => {}); // the virtual machine's start tries again, and tells
      consoleServer = await serveConsole(files.consoleSocket, console);
      const ports = usbPorts(config.device.board, config["device.vm"].usb);
      usb = new Usb({ ports, log: log.with("usb"), changed: tellChange });
    }
    const running = supervisor.run(signal);
    // The supervisor ends before the signal only by a mistake in this program. Even then everything is
    // stopped below.
    await Promise.race([aborted(signal), running.catch(() => {})]);
    ended = true;
    log.info("stopping", { event: "device-stops" });
    trials.stop();
    await keeper?.stop();
    await doctor.stop();
    await actions.stop();
    await running;
    await accelerator?.().catch(() => {});
    await actions.prerequisites.stop();
    log.info("stopped", { event: "device-stops" });
  } finally {
    removeTrustedKeys(files);
    release();
    consoleServer?.stop();
    await usb?.stop();
    await api.stop();
  }
}

interface KeepVmOptions extends Pick<VmKeeperOptions, "tell" | "log"> {
  config: Config;
  files: DeviceFiles;
  /** The node's MAC address, asked for at each start. */
  nodeMac: () => string;
  /** The current MTU of the node's network, bytes. */
  mtu: () => number;
  accelerator: () => Promise<Accelerator>;
  console: SerialConsole;
  bootWatch: BootWatch;
  clock: ServerClock;
  usb: Usb | undefined;
}

/** Start the virtual machine, and start it again whenever it ends. */
function keepVm({
  config,
  files,
  nodeMac,
  mtu,
  accelerator,
  console,
  bootWatch,
  clock,
  usb,
  tell,
  log,
}: KeepVmOptions): VmKeeper {
  const { board, framing } = config.device;
  const { cpus, model } = config["device.vm"];
  // In the original framing there is nobody who tells the time.
  const patience = framing === "original" ? 0 : undefined;
  let starts = 0;
  return new VmKeeper({
    start: async (signal) => {
      const arch = thisArchitecture();
      checkMachine(arch); // that QEMU is missing is told with its package
      const memory = vmMemory(config["device.vm"].memory, board, totalMemory());
      const machine = {
        board,
        arch,
        accel: await accelerator(),
        memory,
        cpus,
        nodeMac: nodeMac(),
        mtu: mtu(),
        model: model === "" ? DEFAULT_MODEL[arch] : model,
        tap: VM_TAP,
      };
      const time = await clock.time(signal, patience);
      signal.throwIfAborted();
      console.note(starts++ === 0 ? "the virtual machine starts" : "the virtual machine is started again");
      bootWatch.started();
      const vm = await Vm.start({ ...machine, time, qmpSocket: files.qmpSocket }, console, log, signal);
      log.info("virtual machine runs", { event: "vm-started", ...machine });
      usb?.use(vm);
      void vm.ended.then(({ reason }) => {
        usb?.use(undefined);
        console.note(reason);
      });
      return vm;
    },
    cycleUsb: async () => {
      const ports = usbPorts(board, config["device.vm"].usb);
      const power = await cyclePower({ ports, usbSwitch: BOARDS[board].usbSwitch });
      if (power !== undefined)
        log.info("the power of the node's USB ports was cycled", {
          event: "usb-power",
          ports: power.cycled?.join(" "),
          reason: power.kept,
        });
      return power;
    },
    tell,
    log,
  });
}

/** The status that `walt device status` shows, except for what `runDevice` adds. */
function statusOf(
  supervisor: Supervisor,
  actions: DeviceActions,
): Omit<DeviceStatus, "code" | "fingerprint" | "usb" | "doctor"> {
  const { stage, detail, lastError, tunnel, vm } = supervisor.state;
  return {
    stage,
    // These two may quote what came over the network.
    detail: safeText(detail, MAX_DETAIL),
    lastError: lastError === null ? null : safeText(lastError, MAX_DETAIL),
    nextTryIn: actions.nextTryIn ?? null,
    since: supervisor.since.toISOString(),
    node: actions.node?.name ?? actions.node?.node ?? null,
    mac: actions.node?.mac ?? null,
    tunnel,
    via: formatEntrypoint(entrypointOf(supervisor.state)),
    rtt: actions.traffic?.rtt || null,
    loss: actions.traffic !== undefined && actions.traffic.pings > 0 ? actions.traffic.loss : null,
    traffic: actions.traffic ?? null,
    vm,
    certificateRenewal: actions.renewal ?? null,
  };
}

/**
 * Make sure that this is the only device in its network namespace, because its bridge has a fixed name. The
 * lock is a listening socket with a name in the abstract namespace. Such a name belongs to the network
 * namespace, and is free again when the process ends (unix(7), network_namespaces(7)).
 * @returns a function that releases the lock.
 * @throws WaltError when another device has the lock.
 */
function lockNetwork(): () => void {
  try {
    const lock = Bun.listen({
      unix: `\0walt-device-${BRIDGE}`,
      socket: { open: (socket) => void socket.end(), data() {} },
    });
    return () => lock.stop(true);
  } catch (error) {
    const inUse = codeOf(error) === "EADDRINUSE";
    throw new WaltError(
      inUse
        ? `another \`walt device run\` owns the bridge ${BRIDGE} of this network namespace`
        : `cannot lock the bridge ${BRIDGE}: ${messageOf(error).replaceAll("\0", "@")}`,
      {
        ...(inUse ? { hint: "Stop the other one first: a machine can be only one device." } : {}),
        cause: error,
      },
    );
  }
}
