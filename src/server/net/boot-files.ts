/** Boot files of a managed walt-net over HTTP: an iPXE script per architecture, kernel and initramfs. */

import { constants } from "node:fs";
import { access } from "node:fs/promises";
import { join } from "node:path";
import { codeOf, messageOf, WaltError } from "../../errors.ts";
import { readTextIfAny } from "../../linux/files.ts";
import { addressOf, HttpServer } from "../../linux/http.ts";
import type { Log } from "../../log.ts";
import { LogLimiter } from "../../ssh/server/log-limiter.ts";

/** Architectures, as iPXE names them. */
const ARCHITECTURES = ["x86_64", "arm64"] as const;
const FILES = ["vmlinuz", "initrd.img"] as const;

/** The first script. It loads the script of its architecture. A BIOS build of iPXE always reports i386. */
export function entryScript(base: string): string {
  return `#!ipxe
set arch \${buildarch}
iseq \${arch} i386 && set arch x86_64 ||
:again
chain --replace ${base}/boot/\${arch}/boot.ipxe ||
echo walt: no boot files yet for \${arch}, trying again in 5 seconds
sleep 5
goto again
`;
}

/**
 * The script of one architecture. What an earlier round loaded is forgotten, so that memory does not fill up.
 * @param cmdline one line of kernel parameters.
 */
export function archScript(base: string, arch: string, cmdline: string): string {
  return `#!ipxe
imgfree
kernel ${base}/boot/${arch}/vmlinuz initrd=initrd.img ${cmdline} || goto failed
initrd --name initrd.img ${base}/boot/${arch}/initrd.img || goto failed
boot || goto failed
:failed
sleep 5
chain --replace ${base}/boot.ipxe
`;
}

/** Connections at once, and of one node: a node that boots needs one or two. */
const MOST = 512;
const EACH = 16;
/** ms without a byte after which a connection is ended. */
const IDLE = 120_000;

/** A node's last request for its boot script. */
export interface BootSeen {
  readonly at: Date;
  /** The boot file that is missing or cannot be read; null if it got its script. */
  readonly missing: string | null;
}

/** Addresses whose last request is remembered. */
const REMEMBERED = 4096;

export class BootService {
  private constructor(
    private readonly http: HttpServer,
    /** The last requests for boot scripts, by IPv4 address. */
    readonly seen: ReadonlyMap<string, BootSeen>,
  ) {}

  /**
   * Serve on the server's address on walt-net.
   * @param folder of `<arch>/{vmlinuz,initrd.img,cmdline}`
   * @param all the log; the lines that a node causes in it are bounded
   * @throws WaltError when the port is taken.
   */
  static async start(address: string, port: number, folder: string, all: Log): Promise<BootService> {
    const base = `http://${address}:${port}`;
    const limiter = new LogLimiter();
    const seen = new Map<string, BootSeen>();
    const see = (from: string, missing: string | null): void => {
      seen.delete(from);
      seen.set(from, { at: new Date(), missing });
      for (const oldest of seen.keys()) {
        if (seen.size <= REMEMBERED) break;
        seen.delete(oldest);
      }
    };
    const answer = async (request: Request, from: string): Promise<Response> => {
      const path = new URL(request.url).pathname;
      const log = limiter.limit(all, from);
      if (path === "/boot.ipxe") return new Response(entryScript(base));
      const match = /^\/boot\/([a-z0-9_]+)\/([a-z.]+)$/.exec(path);
      const arch = ARCHITECTURES.find((a) => a === match?.[1]);
      if (arch !== undefined && match?.[2] === "boot.ipxe") {
        const missing = await firstMissing(folder, arch);
        see(from, missing?.file ?? null);
        if (missing !== undefined) {
          log.warn("a node asks to boot, but a boot file is missing or cannot be read", {
            event: "boot-file-missing",
            from,
            ...missing,
          });
          return new Response("no boot files\n", { status: 404 });
        }
        log.info("a node boots", { event: "node-boots", from, arch });
        const cmdline = (readTextIfAny(join(folder, arch, "cmdline"), 2048) ?? "")
          .trim()
          .replaceAll(/\s+/g, " ");
        return new Response(archScript(base, arch, cmdline));
      }
      const file = FILES.find((f) => f === match?.[2]);
      if (arch === undefined || file === undefined) return new Response("not found\n", { status: 404 });
      const content = Bun.file(join(folder, arch, file));
      if (!(await content.exists())) return new Response("not found\n", { status: 404 });
      return new Response(content, { headers: { "content-length": String(content.size) } });
    };
    const failed = (error: unknown): void =>
      limiter
        .limit(all, "")
        .error("a boot request failed", { event: "boot-failed", reason: messageOf(error) });
    try {
      const http = await HttpServer.start({
        ...{ place: { host: address, port }, most: MOST, each: EACH, idle: IDLE, maxBody: 1024 },
        ...{ clientOf: addressOf, answer, failed },
        onError: (error) => {
          failed(error);
          return new Response("internal error\n", { status: 500 });
        },
      });
      return new BootService(http, seen);
    } catch (error) {
      throw new WaltError(`cannot serve boot files on ${base}: ${messageOf(error)}`, {
        hint: "Another program may use the port; set server.network.boot_port.",
        cause: error,
      });
    }
  }

  async stop(): Promise<void> {
    await this.http.stop();
  }
}

/** The first boot file that cannot be read, and the system's reason. */
async function firstMissing(
  folder: string,
  arch: string,
): Promise<{ file: string; reason: string } | undefined> {
  for (const name of FILES) {
    const file = join(folder, arch, name);
    try {
      await access(file, constants.R_OK);
    } catch (error) {
      return { file, reason: codeOf(error) ?? messageOf(error) };
    }
  }
  return undefined;
}
