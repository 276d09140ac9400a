/** What the commands of tokens and expected boards share. */

import type { ArgsDef } from "citty";
import { type InvitationInfo, MAX_EXPIRES, MAX_NOTE } from "../../api/messages.ts";
import { SERVER } from "../../api/routes.ts";
import { parseSpan } from "../../config/keys.ts";
import { usageError } from "../../errors.ts";
import { plainText } from "../../text.ts";
import { minute } from "../_command.ts";
import { operator, type ServerArgs, withServer } from "../_server.ts";
import { type Column, checkListArgs, type List, type ListArgs, printList } from "../_table.ts";

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

const COMMON: readonly Column<InvitationInfo>[] = [
  { title: "UNTIL", cell: (one) => minute(one.expiresAt) },
  { title: "ADDED", cell: (one) => minute(one.addedAt), spare: 3 },
  { title: "BY", cell: (one) => one.addedBy, spare: 2 },
  { title: "NOTE", cell: (one) => plainText(one.note), isText: true, spare: 1 },
];
const FIRST: readonly Column<InvitationInfo>[] = [
  { title: "ID", cell: (one) => String(one.id) },
  { title: "STATE", cell: (one) => one.state },
];

/** The tokens, and the boards that are expected, as lists. */
export const INVITATIONS: Readonly<Record<InvitationInfo["kind"], List<InvitationInfo>>> = {
  token: {
    columns: [...FIRST, { title: "USED", cell: ({ used, uses }) => `${used} of ${uses}` }, ...COMMON],
    by: (one) => String(one.id),
    empty: "There are no tokens.",
  },
  board: {
    columns: [
      ...FIRST,
      { title: "BOARD", cell: ({ mac }) => mac ?? "any" },
      { title: "SERIAL NUMBER", cell: ({ serialNumber }) => serialNumber ?? "any" },
      ...COMMON,
    ],
    by: (one) => String(one.id),
    empty: "No board is expected.",
  },
};

/** Print the tokens, or the expected boards, of the server. @throws WaltError (usage) as `checkListArgs`. */
export async function listInvitations(
  kind: InvitationInfo["kind"],
  args: ListArgs & ServerArgs,
): Promise<void> {
  checkListArgs(INVITATIONS[kind], args);
  const all = await withServer(args, (api) => api.call(SERVER.invitations, {}));
  const own = all.filter((one) => one.kind === kind);
  printList(INVITATIONS[kind], own, args);
}

/** @throws WaltError (usage) when it is no number. */
export function parseId(text: string): number {
  if (!/^[1-9]\d{0,14}$/.test(text)) throw usageError(`${JSON.stringify(text)} is not an ID from the list`);
  return Number(text);
}
