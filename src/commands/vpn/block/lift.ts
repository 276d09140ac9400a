/** `walt vpn block lift` */

import type { BlockInfo } from "../../../api/messages.ts";
import { SERVER } from "../../../api/routes.ts";
import { codeBegins, LEAST_CODE, parseCode } from "../../../enrolment/typed-code.ts";
import { WaltError } from "../../../errors.ts";
import { sourceOf } from "../../../source.ts";
import { plainText } from "../../../text.ts";
import { command, print } from "../../_command.ts";
import { operator, serverOptions, withServer } from "../../_server.ts";

export default command({
  name: "walt vpn block lift",
  description: "Lift blocks: monitors show what asks with these keys, or from these sources, again",
  examples: ["walt vpn block lift PG2WB-J9NS3", "walt vpn block lift 192.0.2.7"],
  args: {
    blocked: {
      type: "positional",
      required: true,
      valueHint: "…",
      description: `A short code or its first characters (${LEAST_CODE} or more), or an address, as in \`walt vpn block list\`. Several are allowed`,
    },
    ...serverOptions,
  },
  async run(args, every) {
    await withServer(args, async (api) => {
      const blocks = await api.call(SERVER.blocks, {});
      // All of them must fit before anything is done.
      for (const block of new Set(every("blocked").map((typed) => blockOf(blocks, typed)))) {
        const { kind, what, code } = block;
        await api.call(SERVER.lift, { kind, what, by: operator() });
        const lifted = kind === "key" ? `The key ${code ?? what}` : `The source ${what}`;
        print(`${lifted} is not blocked any more. What asks again is shown by monitors.`);
      }
    });
  },
});

/** @throws WaltError unless it is one of them. */
function blockOf(blocks: readonly BlockInfo[], typed: string): BlockInfo {
  const code = parseCode(typed, LEAST_CODE);
  const fits = blocks.filter(({ kind, what, code: of }) =>
    kind === "key"
      ? code !== undefined && codeBegins(of ?? "", code)
      : [typed, sourceOf(typed)].includes(what),
  );
  const [only, ...others] = fits;
  const shown = plainText(typed);
  if (only === undefined)
    throw new WaltError(`nothing is blocked that is called ${shown}`, {
      hint: "`walt vpn block list` shows what is blocked. Nothing was lifted.",
    });
  if (others.length > 0)
    throw new WaltError(`${shown} fits several: ${fits.map((one) => one.code ?? one.what).join(", ")}`, {
      hint: "Type more of the code. Nothing was lifted.",
    });
  return only;
}
