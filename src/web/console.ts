/** A node's console: xterm.js on a WebSocket. */

import { Terminal } from "@xterm/xterm";
import "@xterm/xterm/css/xterm.css";
import { socket } from "./ask.ts";
import { button, make, setText } from "./dom.ts";
import { CONSOLE_PROTOCOL, type ConsoleMode, type ConsoleNotice, TYPED_MAX } from "./messages.ts";

/** Size of a serial console, which has none of its own. */
const COLUMNS = 80;
const ROWS = 24;
/** Pixels of the letters, at most and at least; their width is 0.6 of it. */
const LETTERS = { most: 14, least: 6, width: 0.6 };

/** Add the console, closed at first, to a place of the page. @param signal closes it. */
export function addConsole(place: HTMLElement, node: string, signal: AbortSignal): void {
  const state = make("p", { class: "none", role: "status" }, "Closed.");
  const screen = make("div", { class: "screen" });
  let close = (): void => {};
  const open = (mode: ConsoleMode) => () => {
    close();
    close = attach(screen, state, node, mode);
  };
  const buttons = make(
    "div",
    { class: "buttons" },
    button("Watch", open("watch")),
    button("Type", open("write")),
    button("Type in place of others", open("take")),
    button("Close", () => {
      close();
      setText(state, "Closed.");
    }),
  );
  place.append(buttons, state, screen);
  signal.addEventListener("abort", () => close());
}

/** @returns what closes it. */
function attach(screen: HTMLElement, state: HTMLElement, node: string, mode: ConsoleMode): () => void {
  // An empty screen is not shown, and has no width of its own.
  const room = screen.parentElement?.clientWidth ?? 0;
  const size = Math.floor(room / COLUMNS / LETTERS.width);
  const terminal = new Terminal({
    cols: COLUMNS,
    rows: ROWS,
    fontSize: Math.max(LETTERS.least, Math.min(LETTERS.most, size)),
    screenReaderMode: true,
    disableStdin: mode === "watch",
  });
  screen.replaceChildren();
  terminal.open(screen);
  if (mode !== "watch") terminal.focus();
  setText(state, "Connecting …");
  const way = socket("console", { node, mode }, CONSOLE_PROTOCOL);
  way.binaryType = "arraybuffer";
  let isEnded = false;
  const type = (bytes: Uint8Array<ArrayBuffer>): void => {
    if (way.readyState !== WebSocket.OPEN) return;
    for (let at = 0; at < bytes.length; at += TYPED_MAX) way.send(bytes.subarray(at, at + TYPED_MAX));
  };
  terminal.onData((text) => type(new TextEncoder().encode(text)));
  terminal.onBinary((text) => type(Uint8Array.from(text, (one) => one.charCodeAt(0))));
  way.addEventListener("message", ({ data }: MessageEvent<string | ArrayBuffer>) => {
    if (typeof data !== "string") return terminal.write(new Uint8Array(data));
    const notice = JSON.parse(data) as ConsoleNotice;
    isEnded = notice.type === "ended";
    if (notice.type === "ended") terminal.options.disableStdin = true;
    setText(state, wordsOf(notice));
  });
  way.addEventListener("close", () => {
    terminal.options.disableStdin = true;
    if (!isEnded) setText(state, "The connection to `walt web` has ended.");
  });
  return () => {
    isEnded = true;
    way.close();
    terminal.dispose();
  };
}

function wordsOf(notice: ConsoleNotice): string {
  switch (notice.type) {
    case "begun":
      return notice.writes ? "What you type goes to the node." : "You look on without typing.";
    case "lost":
      return "The way to the console is lost; it is tried again.";
    case "ended": {
      const { error = "The console has ended.", hint } = notice;
      return hint === undefined ? error : `${error}. ${hint}`;
    }
  }
}
