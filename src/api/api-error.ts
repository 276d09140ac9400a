/** Why a daemon refuses a request: a code for programs, beside the words for people. */

import { WaltError } from "../errors.ts";
import type { Fields } from "../parse.ts";
import { safeText } from "../text.ts";

export const CODES = {
  /** The request is not as it should be. */
  malformed: 400,
  /** There is no such request. */
  "unknown-request": 404,
  /** No registered device has a node of that name. */
  "unknown-node": 400,
  /** Another node has this name, or may come to have it. */
  "name-taken": 400,
  /** The request for access was answered already, expired, or was withdrawn. */
  "not-waiting": 400,
  "not-blocked": 400,
  /** There is no such token or expected board, or it was withdrawn. */
  "unknown-invitation": 400,
  /** There are as many as there may be. */
  "too-many": 400,
  /** There is no new key that could take the place of the old one. */
  "not-rotating": 400,
  /** Boards have not got the new key. */
  "boards-left": 400,
  /** There is no such order that is being carried out, or it is another user's. */
  "unknown-session": 400,
  /** The node's tunnel is down. */
  "node-down": 400,
  /** The node's device is of a version, or of a kind, that cannot do it. */
  "not-able": 400,
  /** It could not be done; the words say why. */
  failed: 400,
  /** A bug: the daemon's log has it. */
  internal: 500,
} as const;

export type ApiCode = keyof typeof CODES;

/** An error that travels with its code from the daemon to the command. */
export class ApiError extends WaltError {
  constructor(
    readonly code: ApiCode,
    message: string,
    hint?: string,
  ) {
    super(message, hint === undefined ? {} : { hint });
  }
}

/** The body of an error's answer. */
export function encodeError(error: ApiError): object {
  return {
    code: error.code,
    error: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
}

/**
 * The error of an answer.
 * @throws WaltError when it is none.
 */
export function parseError(f: Fields): ApiError {
  return new ApiError(parseCode(f), lines(f.text("error", 4000)), hintOf(f));
}

/** A code that only a newer version knows is `failed`. */
export function parseCode(f: Fields): ApiCode {
  const code = f.text("code", 40);
  return Object.keys(CODES).find((one): one is ApiCode => one === code) ?? "failed";
}

function hintOf(f: Fields): string | undefined {
  return f.has("hint") ? lines(f.text("hint", 1000)) : undefined;
}

/** A message may have several lines. */
function lines(text: string): string {
  return text
    .split("\n")
    .map((line) => safeText(line, 4000))
    .join("\n");
}
