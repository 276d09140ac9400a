/** The page: which part of it the address names. */

import { hasToken } from "./ask.ts";
import { make, setText } from "./dom.ts";
import { showNode } from "./node.ts";
import { showOverview } from "./overview.ts";
import type { Part } from "./part.ts";

/** An element of the page as it is in index.html. */
function element(id: string): HTMLElement {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
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
    leave: (address, text) => {
      // After `show`, which says nothing.
      addEventListener("hashchange", () => part.done(text), { once: true });
      location.hash = address;
    },
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
