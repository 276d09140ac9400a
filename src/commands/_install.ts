/** What the commands that install on this machine check first. */

import { WaltError } from "../errors.ts";

/** @param name of the command. @throws WaltError when it cannot install. */
export function requireInstallable(name: string): void {
  if (!Bun.main.startsWith("/$bunfs/")) {
    throw new WaltError("only the compiled binary can be installed", {
      hint: `Run \`bun run build\`, then \`${name.replace("walt", "dist/walt-linux-x64")}\`.`,
    });
  }
  if (process.getuid?.() !== 0) throw new WaltError("installing needs root", { hint: `sudo ${name}` });
}
