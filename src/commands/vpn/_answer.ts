/** `walt vpn accept` and `walt vpn deny`: answers to requests for access, also to devices that ask again only later. */

import type { ArgsDef } from "citty";
import type { ListedRequest } from "../../api/events.ts";
import { SERVER } from "../../api/routes.ts";
import { codeBegins, LEAST_CODE, parseCode } from "../../enrolment/typed-code.ts";
import { messageOf, usageError, WaltError } from "../../errors.ts";
import { parseNodeName } from "../../node-name.ts";
import { plainText } from "../../text.ts";
import { jsonOption, print } from "../_command.ts";
import { operator, serverOptions, withServer } from "../_server.ts";

export const answerOptions = {
  code: {
    type: "positional",
    required: true,
    valueHint: "…",
    description: `The short code that the device shows, or its first characters (${LEAST_CODE} or more). Several codes are allowed`,
  },
  ...serverOptions,
  ...jsonOption,
} as const satisfies ArgsDef;

interface Given {
  code: string;
  fingerprint: string;
  /** Of an accepted device. */
  node: string | null;
}

/**
 * Answer the requests of these codes, all of which must fit one request each.
 * @param name what the node of the one accepted device is to be called; by default the server chooses.
 * @throws WaltError when a code fits none or several, and nothing was answered then; or when an answer failed.
 */
export async function answerCodes(
  args: { config?: string | undefined; server?: string | undefined; json?: boolean | undefined },
  codes: readonly string[],
  accept: boolean,
  name?: string,
): Promise<void> {
  if (name !== undefined && codes.length > 1) throw usageError("--name is for one device: give one code");
  const named = name === undefined ? {} : { name: parseNodeName(name) };
  const wanted = codes.map((typed) => {
    const code = parseCode(typed, LEAST_CODE);
    if (code === undefined)
      throw usageError(`"${plainText(typed)}" is neither a short code nor the beginning of one`);
    return { typed, code };
  });
  const failures: string[] = [];
  const given: Given[] = [];
  await withServer(args, async (api) => {
    const requests = await api.call(SERVER.requests, {});
    const chosen = wanted.map(({ typed, code }) => requestOf(requests, typed, code));
    for (const { id, fingerprint, code } of new Set(chosen)) {
      try {
        const { node } = await api.call(SERVER.answer, { id, fingerprint, accept, by: operator(), ...named });
        given.push({ code, fingerprint, node });
        if (args.json) continue;
        if (node !== null)
          print(`${code} is accepted as ${node}. It connects at once, or when it asks again.`);
        else print(`${code} is denied. \`walt vpn accept ${code}\` can still accept it.`);
      } catch (error) {
        failures.push(`${code}: ${messageOf(error)}`);
      }
    }
  });
  if (args.json) print(JSON.stringify(given, null, 2));
  if (failures.length > 0) throw new WaltError(failures.join("\n"));
}

function requestOf(requests: readonly ListedRequest[], typed: string, code: string): ListedRequest {
  const fitting = requests.filter((one) => codeBegins(one.code, code));
  const [only, ...others] = fitting;
  if (only === undefined) {
    throw new WaltError(`no device with a code that begins with ${plainText(typed)} asks for access`, {
      hint: '`walt vpn requests` shows those that do. With `server.admission = "monitor"` the server knows only those that are waiting.',
    });
  }
  if (others.length > 0) {
    throw new WaltError(`${plainText(typed)} fits several: ${fitting.map((one) => one.code).join(", ")}`, {
      hint: "Type more of the code that the device shows. Nothing was answered.",
    });
  }
  return only;
}
