/** A monitor on a terminal that can draw: what waits stands in a table below what happened, and keys answer. */

import { emitKeypressEvents } from "node:readline";
import type { ApiClient } from "../../api/client.ts";
import { LiveRegion } from "./_live-region.ts";
import { type Action, MonitorScreen } from "./_monitor-screen.ts";
import { MonitorTable } from "./_monitor-table.ts";
import { hasColours, lostText, saidOf, sendAnswer, type View, wordsOf } from "./_monitor-view.ts";

/** Columns and lines of a terminal that has room for the table. */
const LEAST_COLUMNS = 60;
const LEAST_LINES = 14;

/** Whether this is a terminal that can draw the table in place. */
export function hasTable(): boolean {
  const { stdin, stdout, env } = process;
  const { TERM = "dumb", LC_ALL = "", LC_CTYPE = "", LANG = "" } = env;
  const locale = [LC_ALL, LC_CTYPE, LANG].find((one) => one !== "") ?? "";
  if (!stdin.isTTY || !stdout.isTTY || ["", "dumb"].includes(TERM) || !/utf-?8/i.test(locale)) return false;
  return stdout.columns >= LEAST_COLUMNS && stdout.rows >= LEAST_LINES;
}

/** A table that is drawn in place, and answers by keys. */
export function tableView(api: ApiClient): View {
  const { stdin, stdout } = process;
  const options = { columns: stdout.columns, colours: hasColours(), table: true };
  const screen = new MonitorScreen(options);
  const table = new MonitorTable(screen);
  const region = new LiveRegion(stdout);
  /** What was said of a lost connection; undefined while there is one. */
  let lost: string | undefined;
  let isRaw = false;
  const draw = (printed?: string): void => region.draw(table.lines(stdout.rows), printed);
  const act = (actions: readonly Action[]): void => {
    table.settle(Date.now());
    const printed: string[] = [];
    for (const action of actions) {
      if ("print" in action) printed.push(action.print);
      else if ("say" in action) table.say(action.say);
      else if ("answer" in action) {
        const { answer } = action;
        sendAnswer(api, answer).then(
          () => {
            const said = saidOf(answer);
            if (said !== undefined) draw(said);
          },
          (error: unknown) => act(screen.failed(answer.id, wordsOf(error), Date.now())),
        );
      }
    }
    draw(printed.length === 0 ? undefined : printed.join("\n"));
  };
  const cooked = (): void => {
    if (isRaw) stdin.setRawMode(false);
    isRaw = false;
  };
  return {
    event: (event) => {
      if (event.type === "watching" && lost !== undefined) draw("Connected again.");
      lost = undefined;
      act(screen.event(event, Date.now()));
    },
    input: async (signal) => {
      const { promise, resolve } = Promise.withResolvers<boolean>();
      const press = (text: string | undefined, key: { name?: string; ctrl?: boolean }): void => {
        if (key.ctrl === true && (key.name === "c" || key.name === "d")) resolve(true);
        else if (key.ctrl !== true) act(table.key({ name: key.name ?? "", text: text ?? "" }, Date.now()));
      };
      const resize = (): void => {
        options.columns = stdout.columns;
        region.redraw(table.lines(stdout.rows));
      };
      // What was typed before the table was there is not for it.
      table.quiet(Date.now());
      emitKeypressEvents(stdin);
      stdin.setRawMode(true);
      isRaw = true;
      process.once("exit", cooked);
      stdin
        .on("keypress", press)
        .once("end", () => resolve(true))
        .once("error", () => resolve(true));
      stdout.on("resize", resize);
      signal.addEventListener("abort", () => resolve(false), { once: true });
      if (signal.aborted) resolve(false);
      stdin.resume();
      const ended = await promise;
      stdin.off("keypress", press).pause();
      stdout.off("resize", resize);
      cooked();
      return ended;
    },
    lost: (why) => {
      table.lost();
      screen.lost();
      const isNews = lost === undefined || (why !== "" && lostText(why) !== lost);
      draw(isNews ? lostText(why) : undefined);
      lost = lostText(why);
    },
    stop: () => {
      region.draw([]);
      cooked();
    },
  };
}
