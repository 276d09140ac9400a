/** Why a login on a node failed, in words with what to do about it. */

import type { NodeInfo } from "../../api/messages.ts";
import { WaltError } from "../../errors.ts";
import { explainSshFailure } from "../../ssh/openssh/arguments.ts";
import { duration, safeText } from "../../text.ts";
import { forwardingForbidden, isForbidden } from "../_server.ts";

/** A node, as far as a login needs it. */
export type LoginNode = Pick<NodeInfo, "name" | "mac" | "address" | "state" | "since">;

/** The node that the words are about. */
export interface Wanted {
  readonly name: string;
  readonly address: string;
  readonly user: string;
  /** The keys that were tried, in words. */
  readonly tried: string;
}

/** The address of a node for a login. @throws WaltError when its tunnel is down, or it has no address. */
export function addressOf({ name, address, state, since }: LoginNode): string {
  if (state === "down") {
    const age = since === null ? "" : ` for ${duration(Date.now() - Date.parse(since))}`;
    throw new WaltError(`${name} is down: its device has had no tunnel${age}`, {
      hint: `\`walt vpn events ${name}\` tells what happened.`,
    });
  }
  if (address === null) {
    throw new WaltError(`${name} is up, but has no IP address yet`, { hint: seeConsole(name) });
  }
  return address;
}

function seeConsole(name: string): string {
  return `\`walt node console ${name}\` shows what the node does.`;
}

/** Whether ssh refused the host key that it was shown (OpenSSH 9 and 10). */
export function refusedHostKey(said: string): boolean {
  return /REMOTE HOST IDENTIFICATION HAS CHANGED|No \S+ host key is known for|Host key verification failed/.test(
    said,
  );
}

type Words = (wanted: Wanted, match: RegExpExecArray) => [message: string, hint: string];

/** What OpenSSH 9 and 10 say. The first that is found counts: a cause stands before its consequences. */
const CAUSES: readonly (readonly [RegExp, Words])[] = [
  [
    /Connection refused/,
    ({ name, address }) => [
      `${name} has no SSH server: it refuses connections to ${address}:22`,
      `Its image has no sshd, or has not started it yet. ${seeConsole(name)}`,
    ],
  ],
  [
    /Network is unreachable/,
    ({ name, address }) => [
      `${name}: this machine has no route to ${address}`,
      "Run the command on the server, or give --server ssh://user@host.",
    ],
  ],
  [
    /No route to host|Host is unreachable|[Tt]imed out/,
    ({ name, address }) => [
      `${name} is up, but does not answer at ${address}`,
      `It may be booting, or its image does not use the network. ${seeConsole(name)}`,
    ],
  ],
  [
    /Permission denied \(([^)\n]*)\)|Too many authentication failures/,
    ({ name, user, tried }, [, methods]) => [
      `${name} does not let ${user} in${methods === undefined ? "" : ` (it takes ${methods})`}; tried: ${tried}`,
      `The image must have your public key in ${user}'s authorized_keys. -i gives another key, --user another user.`,
    ],
  ],
  [
    /subsystem request failed/,
    ({ name }) => [
      `${name}: its sshd has no SFTP server, which copies need`,
      "Add one to the image (Debian's package is openssh-sftp-server).",
    ],
  ],
  [
    /open failed: (?:connect failed: )?([^\n]*)/,
    ({ name, address }, [, reason]) => [
      `${name}: the server's machine cannot connect to ${address}:22 (${reason})`,
      seeConsole(name),
    ],
  ],
];

/**
 * The error of an ssh that failed; undefined if what it said is no failure that is known.
 * @param said what ssh and the ssh of the way to the node printed.
 */
export function loginFailure(said: string, wanted: Wanted): WaltError | undefined {
  if (isForbidden(said)) return forwardingForbidden();
  for (const [pattern, words] of CAUSES) {
    const match = pattern.exec(said);
    if (match === null) continue;
    const [message, hint] = words(wanted, match);
    return new WaltError(safeText(message, 1000), { hint });
  }
  const { kind, text } = explainSshFailure(said, wanted.name);
  return kind === "failed" ? undefined : new WaltError(text);
}

/** Several nodes failed at the same moment, for different reasons, and nothing tells which is whose. */
export function mixedFailure({ name, address }: Wanted, said: readonly string[]): WaltError {
  const reasons = said.map((line) => safeText(line.replace(/^.*open failed: (connect failed: )?/, ""), 100));
  return new WaltError(`${name} cannot be reached at ${address}: one of: ${reasons.join("; ")}`, {
    hint: "Repeat the command with this node alone, to see its own reason.",
  });
}

/**
 * The error of an scp that did not copy everything.
 * @param said its own words.
 * @param name of the node, unless it is shown already.
 */
export function copyFailure(said: string, name?: string): WaltError {
  const lines = said.split("\n").filter((line) => line.trim() !== "");
  const words = lines.map((line) => safeText(line.replace(/^scp: /, "").trim(), 300)).slice(0, 20);
  const what = words.length === 0 ? "scp failed" : words.join("\n");
  return new WaltError(name === undefined ? what : `${name}: ${what}`);
}
