/** The page's requests to `walt web`. */

import type { Done, Refused } from "./messages.ts";

/** Where the token is kept: for this tab alone, and over a reload. */
const KEPT = "walt-token";

/** The token, out of the address that was opened: it is not to be seen, sent or bookmarked with it. */
export function takeToken(): string {
  const { hash, pathname } = location;
  if (/^#[\w-]{20,}$/.test(hash)) {
    sessionStorage.setItem(KEPT, hash.slice(1));
    history.replaceState(null, "", `${pathname}#/`);
  }
  return sessionStorage.getItem(KEPT) ?? "";
}

const token = takeToken();
// The address with a token is opened in a tab that shows the page already.
addEventListener("hashchange", () => {
  const before = token;
  if (takeToken() !== before) location.reload();
});

export const hasToken = token !== "";

/** What `walt web` did not do, in words. */
export class AskError extends Error {
  constructor({ error, hint }: Refused) {
    super(hint === undefined ? error : `${error}. ${hint}`);
  }
}

async function ask<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(`/api/${path}`, { ...init, headers: { authorization: `Bearer ${token}` } });
  } catch (error) {
    if (init.signal?.aborted === true) throw error;
    throw new AskError({ error: "`walt web` does not answer", hint: "Has it ended? Start it again." });
  }
  const answer: unknown = await response.json();
  if (!response.ok) throw new AskError(answer as Refused);
  return answer as T;
}

/** Ask for something. @throws AskError; what the abort of `signal` gives. */
export function read<T>(
  name: string,
  query: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<T> {
  return ask<T>(`${name}?${new URLSearchParams(query)}`, { signal });
}

/** Have something done. @throws AskError. */
export function act(name: string, body: object): Promise<Done> {
  return ask<Done>(name, { method: "POST", body: JSON.stringify(body) });
}

/** A WebSocket, with the token in the one header that a script may set. */
export function socket(name: string, query: Readonly<Record<string, string>>, protocol: string): WebSocket {
  const url = new URL(`/api/${name}?${new URLSearchParams(query)}`, location.href);
  url.protocol = "ws:";
  url.hash = "";
  return new WebSocket(url, [protocol, token]);
}
