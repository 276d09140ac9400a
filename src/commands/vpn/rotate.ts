/** `walt vpn rotate` */

import { ROTATED, type RotationInfo } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { usageError } from "../../errors.ts";
import { table } from "../../text.ts";
import { command, jsonOption, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";

export default command({
  name: "walt vpn rotate",
  description:
    "Change a key of the server while devices are connected: first a new one beside the old one, then with --finish the new one alone",
  examples: [
    "walt vpn rotate   # shows the keys, and which boards have not got a new one",
    "walt vpn rotate enrolment",
    "walt vpn rotate enrolment --finish",
  ],
  args: {
    key: {
      type: "positional",
      required: false,
      description: "ca: signs devices' certificates; host: proves the server; enrolment: is on every card",
    },
    finish: { type: "boolean", description: "The new key takes the place of the old one, which is deleted" },
    force: {
      type: "boolean",
      description: "With --finish: also when boards have not got the new key, which may not get in any more",
    },
    ...serverOptions,
    ...jsonOption,
  },
  async run(args) {
    const { finish = false, force = false } = args;
    if (force && !finish) throw usageError("--force is for --finish");
    const key = ROTATED.find((one) => one === args.key);
    if (key === undefined) {
      if (args.key !== undefined)
        throw usageError(
          `there is no key ${JSON.stringify(args.key)}`,
          `The keys are ${ROTATED.join(", ")}.`,
        );
      if (finish) throw usageError("--finish needs the key whose rotation is to be finished");
    }
    await withServer(args, async (api) => {
      if (key === undefined) {
        const all = await api.call(SERVER.rotations, {});
        print(args.json ? JSON.stringify(all, null, 2) : overview(all));
        return;
      }
      const by = operator();
      const now = finish
        ? await api.call(SERVER.finishRotation, { key, force, by })
        : await api.call(SERVER.rotate, { key, by });
      if (args.json) print(JSON.stringify(now, null, 2));
      else print(finish ? finished(now) : begun(now));
    });
  },
});

function overview(all: readonly RotationInfo[]): string {
  const keys = table(
    ["KEY", "IN USE", "NEW", "BOARDS WITHOUT IT"],
    all.map((one) => [
      one.key,
      one.fingerprint,
      one.next ?? "-",
      one.next === null ? "-" : String(one.waiting.length),
    ]),
  );
  const left = all.filter((one) => one.waiting.length > 0);
  return [keys, ...left.map((one) => `without the new ${one.key} key: ${one.waiting.join(", ")}`)].join("\n");
}

const NEXT_STEP = {
  ca: "Make the proxies' script again with `walt vpn setup-proxy`, and run it on each proxy: it lets in certificates of both.",
  enrolment:
    "Make the proxies' script again with `walt vpn setup-proxy`, and run it on each proxy: it lets in both keys. Cards that are made from now on have the new one.",
  host: "Cards that are made from now on know both.",
} as const;

function begun(one: RotationInfo): string {
  const boards =
    one.waiting.length === 0
      ? "All boards have it."
      : `Boards get it with their next certificate, or at their next start. Without it yet: ${one.waiting.join(", ")}.`;
  return `The new ${one.key} key ${one.next} stands beside ${one.fingerprint}.\n${NEXT_STEP[one.key]}\n${boards}\nThen: walt vpn rotate ${one.key} --finish`;
}

function finished(one: RotationInfo): string {
  const more =
    one.key === "host"
      ? "Cards that were made before the rotation do not let boards in any more that were never accepted: make them anew."
      : "Make the proxies' script again with `walt vpn setup-proxy`, and run it on each proxy: the old key is good there until then.";
  return `The ${one.key} key is ${one.fingerprint} now. The old one is deleted.\n${more}`;
}
