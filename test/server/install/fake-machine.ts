/** A folder in the place of a machine's root, for `walt server install`. */

import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { type Machine, placesOf } from "../../../src/install/machine.ts";
import { ServerKeys } from "../../../src/server/keys.ts";
import { Registry } from "../../../src/server/registry.ts";

/** What our program looks like to whoever recognises it: ELF, with the unit's text inside. */
export const program = (version: string): string =>
  `\x7fELF ${version} Changes belong into a drop-in: systemctl edit walt-vpn`;

/** The unit of an earlier version, as it was written. */
export const EARLIER_UNIT = `# Written by \`walt server install\`. Changes belong into a drop-in: systemctl edit walt-server
[Unit]
Description=WalT VPN server

[Service]
ExecStart="/usr/local/bin/walt" server run --config "/etc/walt/walt.toml"
StateDirectory=walt
RuntimeDirectory=walt
`;

/** Some of what a WalT server has, by path; a text that begins with "-> " is a link. */
export const WALT: Readonly<Record<string, string>> = {
  "/etc/walt/server.conf":
    "network:\n    walt-net:\n        raw-device: eth1\n        ip: 192.168.152.1/22\n",
  "/etc/systemd/system/walt-server.service":
    "[Unit]\nDescription=WalT server daemon\n[Service]\nExecStart=/opt/walt/bin/walt-server-daemon\n",
  "/etc/systemd/system/walt-server-vpn.service": "[Unit]\nDescription=WalT VPN server\n",
  "/etc/systemd/system/multi-user.target.wants/walt-server.service":
    "-> /etc/systemd/system/walt-server.service",
  "/usr/local/bin/walt": "-> /opt/walt/bin/walt",
  "/opt/walt/bin/walt": "#!/opt/walt/bin/python3\n",
  "/var/lib/walt/nodes/vnode/disk": "disk",
  "/var/lib/walt/keys/image1/ssh_host_ed25519_key": "key of an image",
  "/var/lib/walt/vpn/.ssh/authorized_keys":
    'cert-authority,restrict,command="walt-vpn-endpoint" ecdsa AAAA\n',
  "/run/walt/walt-server/sock": "x",
};

export class FakeMachine implements Machine {
  readonly binary: string;
  packaged = false;
  /** Programs that were run, as typed. */
  readonly ran: string[] = [];
  /** What programs print, by what is typed. */
  readonly says = new Map<string, string>();
  /** Services that run. */
  readonly active = new Set<string>();

  constructor(
    readonly root: string,
    readonly systemd = false,
  ) {
    this.put("/root/walt-linux-x64", program("new"), 0o755);
    this.put("/etc/group", "root:x:0:\n");
    this.put("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    this.binary = join(root, "/root/walt-linux-x64");
  }

  put(path: string, text: string, mode = 0o644): void {
    const at = join(this.root, path);
    mkdirSync(dirname(at), { recursive: true });
    if (text.startsWith("-> ")) symlinkSync(text.slice(3), at);
    else writeFileSync(at, text, { mode });
  }

  putAll(files: Readonly<Record<string, string>>): void {
    for (const [path, text] of Object.entries(files)) this.put(path, text);
  }

  read(path: string): string {
    return readFileSync(join(this.root, path), "utf8");
  }

  has(path: string): boolean {
    return lstatSync(join(this.root, path), { throwIfNoEntry: false }) !== undefined;
  }

  /** An installation of an earlier version that has run: keys, a registry, boot files. */
  putEarlier(): void {
    this.put("/usr/local/bin/walt", program("old"), 0o755);
    this.put("/etc/systemd/system/walt-server.service", EARLIER_UNIT);
    this.putEarlierState();
  }

  /** Its configuration, keys, registry and boot files alone. */
  putEarlierState(): void {
    this.put("/etc/walt/walt.toml", 'role = "server"\n# mine\n');
    const state = join(this.root, "/var/lib/walt");
    mkdirSync(state, { recursive: true });
    ServerKeys.load(state);
    rmSync(join(state, "keys/mark")); // of later versions
    chmodSync(join(state, "keys"), 0o700);
    new Registry(join(state, "registry.sqlite")).close();
    this.put("/var/lib/walt/dhcp.leases", "lease\n");
    this.put("/var/lib/walt/boot/x86_64/vmlinuz-6", "kernel");
    this.put("/var/lib/walt/boot/x86_64/vmlinuz", "-> vmlinuz-6");
    this.put("/etc/group", "root:x:0:\nwalt:x:999:alice\n");
  }

  run(command: readonly string[]): Promise<{ status: number; stdout: string; stderr: string }> {
    this.ran.push(command.join(" "));
    const [name, ...words] = command;
    const last = words.at(-1) ?? "";
    if (name === "groupadd") this.put("/etc/group", `${this.read("/etc/group")}${last}:x:998:\n`);
    if (name === "useradd") {
      const value = (option: string): string => words[words.indexOf(option) + 1] ?? "";
      const line = `${last}:x:998:998:${value("--comment")}:${value("--home-dir")}:${value("--shell")}\n`;
      this.put("/etc/passwd", this.read("/etc/passwd") + line);
    }
    if (name === "systemctl" && words[0] === "start") this.active.add(last);
    if (name === "systemctl" && words[0] === "stop") this.active.delete(last);
    const status = words[0] === "is-active" && !this.active.has(last) ? 3 : 0;
    const stdout = this.says.get(command.join(" ")) ?? "";
    return Promise.resolve({ status, stdout, stderr: "" });
  }

  /** Everything below the root by path: mode and content, or where a link leads. */
  tree(folder = "/"): Record<string, string> {
    const found: Record<string, string> = {};
    for (const name of readdirSync(join(this.root, folder)).toSorted()) {
      const path = join(folder, name);
      const at = join(this.root, path);
      const stat = lstatSync(at);
      const mode = (stat.mode & 0o777).toString(8);
      if (stat.isSymbolicLink()) found[path] = `-> ${readlinkSync(at)}`;
      else if (stat.isDirectory()) Object.assign(found, { [path]: mode }, this.tree(path));
      else found[path] = `${mode} ${stat.isFile() ? Bun.hash(readFileSync(at)).toString(16) : "special"}`;
    }
    return found;
  }

  /** The public half of the server's CA, wherever it is. */
  ca(): string {
    const place = ["/var/lib/walt-vpn", "/var/lib/walt"].find((p) =>
      existsSync(join(this.root, p, "keys/ca.pub")),
    );
    return this.read(`${place ?? ""}/keys/ca.pub`);
  }

  get places() {
    return placesOf(this.root);
  }
}
