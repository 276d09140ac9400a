/** The page: which part of it the address names, and what all parts share. */

import { AskError, hasToken } from "./ask.ts";
import { make, setText } from "./dom.ts";
import { showNode } from "./node.ts";
import { showOverview } from "./overview.ts";

/** ms until what failed is tried again. */
const RETRY = 2000;

/** What a part of the page is given. */
export interface Part {
  readonly main: HTMLElement;
  /** Aborted when another part is shown. */
  readonly signal: AbortSignal;
  /** Say what was done. */
  done(text: string): void;
  /** Say what is wrong; null: nothing is any more. */
  problem(text: string | null): void;
  /** Say which server it is. */
  server(text: string): void;
}

/** An element of the page as it is in index.html. */
function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

/** Run `once` again and again until `signal`; a failure is shown until it is over. */
export async function repeat({ signal, problem }: Part, once: () => Promise<void>): Promise<void> {
  while (!signal.aborted) {
    try {
      await once();
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof AskError)) throw error;
      problem(error.message);
      await pause(RETRY, signal);
    }
  }
}

/** Resolves after `ms`, or when `signal` is aborted. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Do something, and say what came of it. */
export async function attempt({ done, problem }: Part, what: () => Promise<string>): Promise<boolean> {
  try {
    done(await what());
    problem(null);
    return true;
  } catch (error) {
    if (!(error instanceof AskError)) throw error;
    problem(error.message);
    return false;
  }
}

let shown = new AbortController();

function show(): void {
  shown.abort();
  shown = new AbortController();
  const main = element("main");
  const line = (id: string) => (text: string | null) => {
    const place = element(id);
    place.hidden = text === null || text === "";
    setText(place, text ?? "");
  };
  const part: Part = {
    main,
    signal: shown.signal,
    done: line("done"),
    problem: line("problem"),
    server: line("server"),
  };
  main.replaceChildren();
  part.problem(null);
  part.done("");
  if (!hasToken) {
    main.append(
      make("p", {}, "Open the address that `walt web` has printed, with all that is behind its #."),
    );
    return;
  }
  const node = /^#\/node\/(.+)$/.exec(location.hash)?.[1];
  if (node === undefined) showOverview(part);
  else showNode(part, decodeURIComponent(node));
}

addEventListener("hashchange", show);
show();
