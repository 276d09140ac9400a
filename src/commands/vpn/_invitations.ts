/** What the commands of tokens and expected boards share. */

import type { ArgsDef } from "citty";
import type { ApiClient } from "../../api/client.ts";
import { type InvitationInfo, MAX_EXPIRES, MAX_NOTE } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { parseSpan } from "../../config/keys.ts";
import { usageError } from "../../errors.ts";
import { plainText, table } from "../../text.ts";
import { minute, print } from "../_command.ts";
import { operator } from "../_server.ts";

export const invitationOptions = {
  expires: {
    type: "string",
    valueHint: "duration",
    description: "How long it is valid, such as 12h or 30d (default: 7d)",
  },
  note: { type: "string", valueHint: "text", description: "Its purpose, shown in lists" },
} as const satisfies ArgsDef;

/** The options as an order to the server. @throws WaltError (usage) when one of them is wrong. */
export function invitationOrder(args: { expires?: string | undefined; note?: string | undefined }) {
  const { expires: span = "7d", note = "" } = args;
  const expires = parseSpan(span);
  if (expires === undefined || expires === 0 || expires > MAX_EXPIRES)
    throw usageError(
      `--expires ${JSON.stringify(span)} is not a duration of up to ten years`,
      "Write for example 12h or 30d.",
    );
  if (note.length > MAX_NOTE) throw usageError(`--note is longer than ${MAX_NOTE} characters`);
  return { expires, note, by: operator() };
}

/** Print the tokens, or the expected boards, of the server. */
export async function listInvitations(
  api: ApiClient,
  kind: InvitationInfo["kind"],
  json: boolean | undefined,
): Promise<void> {
  const all = (await api.call(SERVER.invitations, {})).filter((one) => one.kind === kind);
  if (json) return print(JSON.stringify(all, null, 2));
  if (all.length === 0) return print(kind === "token" ? "There are no tokens." : "No board is expected.");
  const own: readonly [string, (one: InvitationInfo) => string][] =
    kind === "token"
      ? [["USED", ({ used, uses }) => `${used} of ${uses}`]]
      : [
          ["BOARD", ({ mac }) => mac ?? "any"],
          ["SERIAL NUMBER", ({ serialNumber }) => serialNumber ?? "any"],
        ];
  print(
    table(
      ["ID", "STATE", ...own.map(([title]) => title), "UNTIL", "ADDED", "BY", "NOTE"],
      all.map((one) => [
        String(one.id),
        one.state,
        ...own.map(([, cell]) => cell(one)),
        minute(one.expiresAt),
        minute(one.addedAt),
        one.addedBy,
        plainText(one.note),
      ]),
    ),
  );
}

/** @throws WaltError (usage) when it is no number. */
export function parseId(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw usageError(`${JSON.stringify(text)} is not an ID from the list`);
  return Number(text);
}
