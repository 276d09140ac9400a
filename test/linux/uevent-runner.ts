/** Hears the kernel's events on a host of the laboratory and prints them, until a line on standard input says so. */

import { Uevents } from "../../src/linux/uevent.ts";

let fresh = 0;
const uevents = new Uevents({
  heard: ({ action, subsystem, path }) => console.log(`${action} ${subsystem} ${path}`),
  fresh: () => console.log(`fresh ${++fresh}`),
  failed: (why) => console.log(`failed: ${why}`),
});
for await (const _ of console) break;
uevents.stop();
