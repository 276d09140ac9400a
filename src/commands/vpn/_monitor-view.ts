/** What the ways to show a monitor share. */

import type { ApiClient } from "../../api/client.ts";
import type { MonitorEvent } from "../../api/events.ts";
import { SERVER } from "../../api/routes.ts";
import { messageOf, WaltError } from "../../errors.ts";
import { operator } from "../_server.ts";
import type { GivenAnswer } from "./_monitor-screen.ts";

export interface View {
  event(event: MonitorEvent): void;
  /**
   * Read answers until `signal`. @returns whether standard input has ended.
   * @throws WaltError when it is nobody's answers.
   */
  input(signal: AbortSignal): Promise<boolean>;
  /** The server cannot be reached; we go on trying. @param why what ssh says; empty if it says nothing. */
  lost(why: string): void;
  /** The command ends. */
  stop(): void;
}

/** The words of an error and of its hint, on one line. */
export function wordsOf(error: unknown): string {
  const hint = error instanceof WaltError ? error.hint : undefined;
  return hint === undefined ? messageOf(error) : `${messageOf(error)}. ${hint}`;
}

/** What is said when the server went away, and again when there is another reason. */
export function lostText(why: string): string {
  return `The connection to the server is lost; trying again.${why === "" ? "" : ` ssh: ${why}`}`;
}

/** Send an answer, and the note that came with it. */
export async function sendAnswer(api: ApiClient, { note, ...answer }: GivenAnswer): Promise<void> {
  const { node } = await api.call(SERVER.answer, { ...answer, by: operator() });
  if (note !== undefined && node !== null) await api.call(SERVER.note, { node, note, by: operator() });
}

/** What is said of an answer beside its outcome, which all monitors are told. */
export function saidOf({ block }: GivenAnswer): string | undefined {
  if (block === undefined) return undefined;
  return block === "key"
    ? "This key is blocked: no monitor shows it again. `walt vpn accept` can still accept it."
    : "What comes from there is denied for an hour, or until `walt vpn block lift`.";
}

export function hasColours(): boolean {
  const { NO_COLOR = "", TERM = "dumb" } = process.env;
  return process.stdout.isTTY && NO_COLOR === "" && TERM !== "dumb";
}
