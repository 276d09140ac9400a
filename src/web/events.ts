/** What happened, the newest first. */

import { make } from "./dom.ts";
import type { EventRow } from "./messages.ts";

/** A list of events in `place`, and the function that shows others in it. @param named whether it names nodes. */
export function eventList(place: HTMLElement, named: boolean): (events: readonly EventRow[]) => void {
  const list = make("ul", { class: "events" });
  place.append(list);
  let shown = "";
  return (events) => {
    const all = JSON.stringify(events);
    if (all === shown) return;
    shown = all;
    list.replaceChildren(
      ...events.map(({ at, node, what, by }) => {
        const time = make("time", { datetime: at }, new Date(at).toLocaleString("sv-SE"));
        const whose = named && node !== "" ? `${node}: ` : "";
        return make("li", {}, time, ` ${whose}${what}${by === "" ? "" : ` (${by})`}`);
      }),
    );
  };
}
