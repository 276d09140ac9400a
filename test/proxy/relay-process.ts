/**
 * `walt proxy run` as a process of its own: its memory can be measured, and an endless loop in it ends with
 * it.
 */

import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type KeyPair, publicKeyLine } from "../../src/ssh/keys/ed25519.ts";

const MAIN = join(import.meta.dir, "../../src/main.ts");

export class RelayProcess {
  /** What it has written to its log. */
  log = "";
  readonly #watchers = new Set<() => void>();
  readonly #drained: Promise<void>;

  private constructor(
    readonly child: Bun.Subprocess<"ignore", "ignore", "pipe">,
    private readonly folder: string,
  ) {
    this.#drained = this.#read();
  }

  /** Start it on a port of 127.0.0.1 that the system chooses, forwarding to `next` alone. */
  static async start(o: { ca: KeyPair; enrolment: KeyPair; next: number }): Promise<RelayProcess> {
    const folder = mkdtempSync(join(tmpdir(), "walt-relay-process-"));
    const file = join(folder, "vpn.toml");
    const port = await freePort();
    writeFileSync(
      file,
      [
        'role = "proxy"\n[proxy]',
        `listen = "127.0.0.1:${port}"\nnext = "127.0.0.1:${o.next}"\nstate = "${folder}"`,
        `ca = "${publicKeyLine(o.ca.publicKey)}"\nenrolment = "${publicKeyLine(o.enrolment.publicKey)}"\n`,
      ].join("\n"),
    );
    const child = Bun.spawn([process.execPath, MAIN, "proxy", "run", "--config", file], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    const relay = new RelayProcess(child, folder);
    relay.port = port;
    await relay.said("proxy is ready");
    return relay;
  }

  port = 0;

  /** Wait until its log holds a text so many times; at most 20 s. */
  async said(text: string, count = 1): Promise<void> {
    const late = Bun.sleep(60_000).then(() => {
      throw new Error(`the relay did not say "${text}" ${count} times; it said:\n${this.log.slice(-4000)}`);
    });
    while (this.log.split(text).length <= count) {
      if (this.child.exitCode !== null)
        throw new Error(`the relay ended; it said:\n${this.log.slice(-4000)}`);
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#watchers.add(resolve);
      await Promise.race([promise, late]);
    }
    late.catch(() => {});
  }

  /** Bytes of memory that it holds now. */
  get memory(): number {
    const kb = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${this.child.pid}/status`, "utf8"))?.[1];
    return Number(kb) * 1024;
  }

  /** Descriptors of sockets that it has open. */
  get sockets(): number {
    const folder = `/proc/${this.child.pid}/fd`;
    return readdirSync(folder).filter((fd) => {
      try {
        return readlinkSync(join(folder, fd)).startsWith("socket:");
      } catch {
        return false; // closed meanwhile
      }
    }).length;
  }

  /** Seconds of processor time that it has used. */
  get cpu(): number {
    const fields = readFileSync(`/proc/${this.child.pid}/stat`, "utf8").split(") ")[1]?.split(" ") ?? [];
    return (Number(fields[11]) + Number(fields[12])) / 100;
  }

  /** SIGTERM; its exit status, and -1 when it does not end within 20 s and had to be killed. */
  async stop(): Promise<number> {
    this.child.kill("SIGTERM");
    const status = await Promise.race([this.child.exited, Bun.sleep(60_000).then(() => -1)]);
    this.child.kill("SIGKILL");
    await this.child.exited;
    await this.#drained;
    rmSync(this.folder, { recursive: true, force: true });
    return status;
  }

  async #read(): Promise<void> {
    const decoder = new TextDecoder();
    for await (const chunk of this.child.stderr) {
      this.log += decoder.decode(chunk, { stream: true });
      for (const watcher of this.#watchers) watcher();
      this.#watchers.clear();
    }
    for (const watcher of this.#watchers) watcher();
  }
}

/** A port of 127.0.0.1 that is free now. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === "string") throw new Error("no port");
  return address.port;
}
