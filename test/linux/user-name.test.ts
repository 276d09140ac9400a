/** Names of users, from this machine's own list. */

import { expect, test } from "bun:test";
import { userName } from "../../src/linux/user-name.ts";

test("a user has the name that the machine knows; a number that nobody has is told as one", async () => {
  const own = Bun.spawnSync(["id", "-un"]).stdout.toString().trim();
  expect(await userName(String(process.getuid?.()))).toBe(own);
  expect(await userName("4000000000")).toBe("uid 4000000000");
  expect(await userName("x:y")).toBe("uid x:y");
});
