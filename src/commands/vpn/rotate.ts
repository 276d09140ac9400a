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

/** What every proxy needs, before and after. */
const SCRIPT = "Make the proxies' script again with `walt vpn setup-proxy`, and run it on each proxy";

const NEXT_STEP = {
  ca: `${SCRIPT}: it lets in certificates of both.`,
  enrolment: `${SCRIPT}: it lets in both keys. Cards that are made from now on have the new one.`,
  host: "Cards that are made from now on know both.",
} as const;

/** Of the host key and the enrolment key, which cards have. */
const OLD_CARDS = "Boards that were never accepted need a new card: those made before have the old key.";

const LAST_STEP = {
  ca: `${SCRIPT}: the old key is good there until then.`,
  enrolment: `${SCRIPT}: the old key is good there until then.\n${OLD_CARDS}`,
  host: OLD_CARDS,
} as const;

function begun(one: RotationInfo): string {
  const boards =
    one.waiting.length === 0
      ? "All boards have it."
      : `Boards get it with their next certificate, or at their next start. Without it: ${one.waiting.join(", ")}.`;
  return [
    `The new ${one.key} key ${one.next} stands beside ${one.fingerprint}.`,
    ...[NEXT_STEP[one.key], boards, `Then: walt vpn rotate ${one.key} --finish`],
  ].join("\n");
}

function finished({ key, fingerprint }: RotationInfo): string {
  return `The ${key} key is ${fingerprint} now. The old one is deleted.\n${LAST_STEP[key]}`;
}
