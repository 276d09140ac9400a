/** A host of the laboratory: a machine of its own as far as network, processes, /etc, /home, /root, /run and /var are concerned. */

import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { type RunResult, run as runOutside } from "../../src/linux/run.ts";
import { Holder } from "./namespace.ts";
import { SYSTEM_PATH } from "./need.ts";
import { namespaceOf } from "./proc.ts";
import { LabProcess, type SpawnOptions } from "./process.ts";

/** Options of a program that is run to its end. */
export interface HostRunOptions extends SpawnOptions {
  /** Text for its standard input; none unless given. */
  input?: string;
  /** Killed after this many ms; 30 000 unless told. */
  timeout?: number;
}

/** Where a host is plugged in. */
export interface Port {
  /** Name of the network. */
  network: string;
  /** Interface in the host: `eth0`, `eth1`, … */
  device: string;
  ipv4: string;
  /** Undefined on a kernel without IPv6. */
  ipv6: string | undefined;
  /** Cut the wire, or mend it. */
  wire(state: "up" | "down"): Promise<void>;
}

/** Folders that a host may write without anybody else seeing it; it begins with what the machine has there. */
export const PRIVATE_FOLDERS = [
  "/etc",
  "/home",
  "/root",
  "/srv",
  "/var/lib",
  "/var/log",
  "/var/mail",
  "/var/spool",
];

/**
 * The private folders, as one list for mount(8): fstab(5) of their overlays, the folders that these need, and their modes
 * where they are not 755. (A process for each took longer than all else of a host.)
 */
function overlays(hosts: string, id: string): { fstab: string; modes: string; folders: string[] } {
  const fstab: string[] = [];
  const modes: string[] = [];
  const folders: string[] = [];
  for (const folder of PRIVATE_FOLDERS.filter((name) => existsSync(name)).map((name) => realpathSync(name))) {
    const [upper, work] = [`${hosts}/.over${folder}/upper`, `${hosts}/.over${folder}/work`];
    folders.push(upper, work);
    const mode = (statSync(folder).mode & 0o7777).toString(8);
    if (mode !== "755") modes.push(`${mode} ${upper}`);
    const options = `lowerdir=${folder},upperdir=${upper},workdir=${work}`.replaceAll(" ", "\\040");
    // What is mounted already is passed over, by its source: with the host's id it is another one in a host in a host.
    fstab.push(`${id} ${folder} overlay ${options}`);
  }
  return { fstab: fstab.join("\n"), modes: modes.join("\n"), folders };
}

/** Arguments: folder of the host, folder of all hosts, name, machine id, and the three of `overlays`. */
const SETUP = `
dir=$1 hosts=$2 name=$3 id=$4 fstab=$5 modes=$6
shift 6
ip link set lo up
echo "$name" > /proc/sys/kernel/hostname
for key in ipv4/ip_forward ipv6/conf/all/forwarding ipv6/conf/default/accept_dad ipv6/conf/all/accept_dad; do
  echo 0 > /proc/sys/net/$key 2>/dev/null || :
done
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p -m 755 /run/lab /run/lock
mount --bind "$dir" /run/lab
mount -t tmpfs -o mode=755 tmpfs "$hosts"
mkdir -p -m 755 "$dir" "$@"
mount --move /run/lab "$dir"
rmdir /run/lab
[ -z "$modes" ] || while read -r mode folder; do chmod "$mode" "$folder"; done <<END
$modes
END
echo "$fstab" > "$dir/fstab"
mount --all --fstab "$dir/fstab"
cd /etc
rm -rf "$dir/fstab" update-motd.d walt /var/lib/walt /var/lib/walt-vpn hosts resolv.conf machine-id nsswitch.conf ssh/ssh_host_* ssh/sshd_config.d/*
echo "$name" > hostname
echo "$id" > machine-id
: > resolv.conf
printf 'passwd: files\\ngroup: files\\nshadow: files\\nhosts: files dns\\n' > nsswitch.conf
`;

export class Host {
  readonly #holder: Holder;
  readonly #processes: LabProcess[] = [];
  readonly #ports: Port[] = [];

  private constructor(
    readonly name: string,
    /** Its private folder: inside only this host sees it, under the same path. */
    readonly dir: string,
    holder: Holder,
  ) {
    this.#holder = holder;
  }

  /** Made by `Lab.host`. `hosts` is the folder that holds the folders of all hosts. */
  static async start(name: string, hosts: string): Promise<Host> {
    const dir = join(hosts, name);
    mkdirSync(join(dir, "tmp"), { recursive: true });
    const id = randomBytes(16).toString("hex");
    const { fstab, modes, folders } = overlays(hosts, id);
    const args = [dir, hosts, name, id, fstab, modes, ...folders];
    const host = new Host(name, dir, await Holder.start(SETUP, args));
    host.hosts({});
    return host;
  }

  /** Its network namespace, for `ip link set … netns`, `nsenter --net=` and the like. */
  get ns(): string {
    return `/proc/${this.pid}/ns/net`;
  }

  /** Id of the process that holds its namespaces. */
  get pid(): number {
    return this.#holder.pid;
  }

  /** Where it is plugged in, in the order of its interfaces. */
  get ports(): readonly Port[] {
    return this.#ports;
  }

  /** Its port on a network. */
  port(network = "internet"): Port {
    const found = this.#ports.find((port) => port.network === network);
    if (found === undefined) throw new Error(`${this.name} is not on the network ${network}`);
    return found;
  }

  /** Its IPv4 address on a network. */
  address(network = "internet"): string {
    return this.port(network).ipv4;
  }

  /** For `Lab`: one more interface was plugged in. */
  plugged(port: Port): void {
    this.#ports.push(port);
  }

  /** The path under which the outside sees a file of the host: `host.path("/etc/walt/vpn.toml")`. */
  path(inside: string): string {
    return join(`/proc/${this.pid}/root`, inside);
  }

  /** Write a file of the host, with the folders above it. */
  writeFile(inside: string, text: string | Uint8Array, mode = 0o644): void {
    mkdirSync(dirname(this.path(inside)), { recursive: true });
    writeFileSync(this.path(inside), text, { mode });
  }

  /** Its /etc/hosts: these names, `localhost` and its own name. The only way names are resolved here. */
  hosts(names: Record<string, string>): void {
    const lines = Object.entries(names).map(([name, address]) => `${address} ${name}`);
    this.writeFile(
      "/etc/hosts",
      ["127.0.0.1 localhost", "::1 localhost", `127.0.1.1 ${this.name}`, ...lines, ""].join("\n"),
    );
  }

  /** What has to stand in front of a command to run it here; for who wants to own its stdio. The forking nsenter(1) is the child then. */
  enter(cwd = this.dir): string[] {
    return [...this.#holder.enter(), `--wdns=${cwd}`, "--"];
  }

  /** The environment programs get here. */
  environment(more: Record<string, string> = {}): Record<string, string> {
    return { PATH: SYSTEM_PATH, HOME: "/root", LC_ALL: "C.UTF-8", TMPDIR: join(this.dir, "tmp"), ...more };
  }

  /** Start a program; it ends with the host at the latest. */
  spawn(command: readonly string[], options: SpawnOptions = {}): LabProcess {
    const made = new LabProcess(command, this.enter(options.cwd), this.environment(options.env));
    this.#processes.push(made);
    return made;
  }

  /**
   * Run a program to its end, whatever its exit status (127: there is none of that name).
   * @throws Error when it takes too long, with its output.
   */
  async run(command: readonly string[], options: HostRunOptions = {}): Promise<RunResult> {
    const made = new LabProcess(command, this.enter(options.cwd), this.environment(options.env));
    if (options.input !== undefined) made.write(options.input);
    await made.closeInput();
    const timeout = options.timeout ?? 60_000;
    const late = Promise.withResolvers<undefined>();
    const timer = setTimeout(() => late.resolve(undefined), timeout);
    const status = await Promise.race([made.exited, late.promise]);
    clearTimeout(timer);
    if (status === undefined) {
      await made.stop("SIGKILL", { tree: true });
      throw new Error(`${this.name}: ${command.join(" ")} took longer than ${timeout} ms:\n${made.output}`);
    }
    return { status, stdout: made.stdout, stderr: made.stderr };
  }

  /**
   * Run a program that must succeed; its standard output.
   * @throws Error with its output.
   */
  async must(command: readonly string[], options: HostRunOptions = {}): Promise<string> {
    const { status, stdout, stderr } = await this.run(command, options);
    if (status !== 0)
      throw new Error(`${this.name}: ${command.join(" ")}: exit ${status}: ${stderr}${stdout}`);
    return stdout;
  }

  /** Lines for `ip -batch` in its network. */
  async ip(...lines: readonly string[]): Promise<void> {
    await runOutside([...this.#holder.enterNetwork(), "ip", "-batch", "-"], {
      input: `${lines.join("\n")}\n`,
    });
  }

  /** All processes that run here now: to see that nothing was left behind. */
  processes(): { pid: number; command: string }[] {
    return namespaceOf(this.pid);
  }

  /** End everything that was started here: SIGTERM first, last started first, then SIGKILL. */
  async endAll(): Promise<void> {
    for (const one of this.#processes.splice(0).toReversed())
      if (one.ended === undefined) await one.stop("SIGTERM", { grace: 3000 });
  }

  /** End everything that runs here and the host itself. */
  async stop(): Promise<void> {
    await this.endAll();
    await this.#holder.stop();
  }
}
