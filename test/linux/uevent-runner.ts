/**
 * Hears the kernel's events on a host of the laboratory and prints them, until its standard input ends. A line there is a
 * shell command, during which nothing is heard.
 */

import { Uevents } from "../../src/linux/uevent.ts";

let fresh = 0;
const uevents = new Uevents({
  onEvent: ({ action, subsystem, path }) => console.log(`${action} ${subsystem} ${path}`),
  onSubscribed: () => console.log(`fresh ${++fresh}`),
  onFailure: (why) => console.log(`failed: ${why}`),
});
for await (const line of console) Bun.spawnSync(["sh", "-c", line]);
uevents.stop();
