/**
 * `bun run bench:image`: how long a base and an image take, how large they are, and how long an emulated board takes until it asks
 * for access, beside the same board with a bare busybox in its initramfs, one after the other in one run; and what memory the last
 * of these boards has left once its virtual machine runs, by logging in to it.
 */

import { chmodSync, copyFileSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cacheFolder } from "../../src/image/base/cache.ts";
import { cpioNewc } from "../../src/image/base/cpio.ts";
import { writeImage } from "../../src/image/card/write.ts";
import { run } from "../../src/linux/run.ts";
import { table } from "../../src/text.ts";
import { Board } from "../e2e/board.ts";
import { makeCard } from "../e2e/card.ts";
import { startRouter } from "../e2e/site.ts";
import { waltBinary } from "../lab/binary.ts";
import { World } from "../lab/world.ts";
import { type BoardMemory, loginKey, memoryWithVm } from "./board-memory.ts";
import { count, orUsage } from "./options.ts";
import { median } from "./stats.ts";

const { values } = orUsage(() =>
  parseArgs({
    options: {
      json: { type: "boolean", default: false },
      runs: { type: "string", default: "3" },
      cache: { type: "string" },
    },
  }),
);
const runs = count("runs", values.runs, 1000);
const SLOW = 300_000;
const say = (text: string): boolean => process.stderr.write(`${text}\n`);

/** The first process of the board that the other is compared with. */
const BARE = `#!/bin/sh
/bin/mount -t devtmpfs dev /dev
echo "bare shell" >/dev/console
exec /bin/sleep 99999
`;

/** Its duration in ms, and what it gives. */
async function timed<T>(body: () => Promise<T>): Promise<[number, T]> {
  const start = performance.now();
  const value = await body();
  return [performance.now() - start, value];
}

const folder = mkdtempSync(join(tmpdir(), "walt-bench-"));
try {
  for (const target of ["x64", "arm64"] as const) {
    copyFileSync(await waltBinary(target), join(folder, `walt-linux-${target}`));
    chmodSync(join(folder, `walt-linux-${target}`), 0o755);
  }
  const walt = [join(folder, "walt-linux-x64"), "image", "build", "--cache", cacheFolder(values.cache)];
  say("a base, with everything downloaded before");
  await run(walt, { timeout: 1_200_000 });
  const [build, text] = await timed(() => run([...walt, "--force", "--json"], { timeout: 1_200_000 }));
  const { image: base } = JSON.parse(text) as { image: string };

  say("images");
  const file = Buffer.from("x".repeat(400));
  const deviceFiles = { "vpn.toml": file, known_hosts: file, enrolment_key: file };
  const output = join(folder, "card.dd");
  const one = { base, deviceFiles, output, force: true };
  const raw: number[] = [];
  const packed: number[] = [];
  for (let i = 0; i < runs; i++) raw.push((await timed(() => writeImage({ ...one, compress: false })))[0]);
  for (let i = 0; i < runs; i++) packed.push((await timed(() => writeImage({ ...one, compress: true })))[0]);

  say("boots");
  await using world = await World.create();
  const router = await world.lab.host("router");
  const names = world.proxies.map(({ name, host }) => [name, host.address()] as const);
  await startRouter(router, Object.fromEntries(names));
  const key = await loginKey(router);
  world.server.writeFile(`${world.server.dir}/login.pub`, key.publicHalf);
  const card = await makeCard(world, base, ["--ssh-key", `${world.server.dir}/login.pub`]);
  const bare: number[] = [];
  const asks: number[] = [];
  let free = "";
  let memory: BoardMemory | undefined;
  for (let i = 0; i < runs; i++) {
    // The kernel unpacks one archive behind the other, and the later file of a name counts.
    const small = await Board.create(await world.lab.host(`bare${i}`), card.image, "52:54:00:bb:00:01");
    const other = cpioNewc([{ path: "init", type: "file", data: BARE, mode: 0o755 }]);
    small.replaceInitramfs(Buffer.concat([small.initramfs(), other]));
    bare.push((await timed(async () => (await small.powerOn()).waitFor(/bare shell/, { timeout: SLOW })))[0]);
    await small.cutPower();
    const board = await Board.create(await world.lab.host(`board${i}`), card.image, `52:54:00:bb:01:0${i}`);
    asks.push(
      (await timed(async () => (await board.powerOn()).waitFor(/event=access-asked/, { timeout: SLOW })))[0],
    );
    free = /(\d+ MB of \d+ MB) free/.exec(board.log())?.[1] ?? "?";
    if (i === runs - 1) memory = await memoryWithVm(world, router, board, key.file);
    await board.cutPower();
  }

  const stat = statSync(output);
  const results = {
    baseBuildMs: Math.round(build),
    imageMs: Math.round(median(raw)),
    compressedImageMs: Math.round(median(packed)),
    rawBytes: stat.size,
    sparseBytes: stat.blocks * 512,
    compressedBytes: statSync(`${output}.zst`).size,
    freeBeforeVm: free,
    ...memory,
    bareShellMs: Math.round(median(bare)),
    requestMs: Math.round(median(asks)),
    requestToBare: Number((median(asks) / median(bare)).toFixed(2)),
  };
  if (values.json) console.log(JSON.stringify({ ...results, samples: { raw, packed, bare, asks } }, null, 2));
  else
    console.log(
      table(
        ["WHAT", "VALUE"],
        Object.entries(results).map(([name, value]) => [name, String(value)]),
      ),
    );
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
