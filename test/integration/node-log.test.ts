/** A board's logs, a ping and reboots from the lab, with the commands that an operator types; no virtual machine runs. */

import { expect, test } from "bun:test";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const LINE = /^\d{4}-\d\d-\d\dT[\d:.]{12}Z /;

describeWith([...INTEGRATION, { files: ["/dev/kmsg"] }], "a board's logs from the lab", () => {
  test("what is kept, what comes, and what was written while the tunnel was down; ^C; a reader that stops", async () => {
    await using world = await World.create();
    const device = await world.device("device1");
    const node = await device.enrol();
    const log = (...more: string[]) => world.walt(world.server, "node", "log", node, ...more);
    const board = await log();
    expect([board.status, board.stderr]).toEqual([0, ""]);
    expect(board.stdout).toMatch(/event=device-starts/);
    for (const line of board.stdout.trimEnd().split("\n")) expect(line).toMatch(LINE);
    const kernel = await log("--kernel", "--lines", "3");
    expect([kernel.status, kernel.stdout.trimEnd().split("\n").length]).toEqual([0, 3]);
    const vm = await log("--vm");
    expect([vm.status, vm.stderr]).toEqual([
      1,
      expect.stringContaining("the device runs no virtual machine"),
    ]);

    const following = ["--board", "--kernel"].map((source) =>
      world.server.spawn([world.binary, "node", "log", node, "-f", source]),
    );
    const [ofBoard, ofKernel] = following;
    if (ofBoard === undefined || ofKernel === undefined) throw new Error("nothing follows");
    await ofBoard.waitFor(/event=device-starts/);
    await ofKernel.waitFor(LINE);
    const mark = `walt test ${Date.now()}`;
    await world.stopServer();
    for (const one of following) await one.waitFor(/The way to the board is lost; it is tried again/);
    await device.host.must(["sh", "-c", `echo '${mark}' > /dev/kmsg`]);
    await world.startServer();
    await device.isUp();
    await ofKernel.waitFor(new RegExp(`Z ${mark}\n`), { timeout: 60_000 });
    // What the supervisor logged of the loss itself was written without a tunnel.
    await ofBoard.waitFor(/the server stops[\s\S]*event=tunnel-up|the server stops[\s\S]*tunnel is up/, {
      timeout: 60_000,
    });
    const shown = ofBoard.stdout.split("\n").filter((line) => line !== "");
    expect(shown.filter((line) => line.includes("event=device-starts"))).toHaveLength(1);
    expect(ofKernel.stdout.split(mark)).toHaveLength(2);
    for (const one of following) expect(await one.stop("SIGINT")).toBe(0);

    // A reader that has enough ends the command, at the next line at the latest.
    const words = `${world.binary} node log ${node} -f --kernel | head -n 1`;
    const head = world.server.spawn(["sh", "-c", words]);
    await head.waitFor(/\n/);
    await eventually(
      "the end",
      async () => {
        await device.host.must(["sh", "-c", "echo 'walt test: one more' > /dev/kmsg"]);
        return head.ended;
      },
      { every: 200 },
    );
    expect([head.ended, head.output.split("\n").length, head.stderr]).toEqual(["exit 0", 2, ""]);

    // Reboots side by side: one node is down, the other has no virtual machine, and its board is a container.
    const down = await world.device("device2");
    const other = await down.enrol();
    await down.stop();
    await eventually(
      "the node is down",
      async () => (await world.nodes()).find(({ name }) => name === other)?.state === "down",
    );
    for (const [how, why] of [
      ["--hard", "the device runs no virtual machine"],
      ["--board", "the device runs in a container, so it cannot reboot the board"],
    ] as const) {
      const many = await world.walt(world.server, "node", "reboot", node, other, how);
      expect(many.status).toBe(1);
      expect(many.stderr).toContain(`${node}: ${why}`);
      expect(many.stderr).toContain(`${other}: the tunnel of ${other} is down`);
      expect(many.stderr).toContain("walt: 2 of 2 nodes failed");
    }
  }, 180_000);
});
