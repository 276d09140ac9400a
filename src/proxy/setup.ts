/** `walt proxy setup`: the script of `walt vpn setup-proxy`, run on the spot. */

import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { messageOf, WaltError } from "../errors.ts";
import { smallFolder } from "../linux/files.ts";
import { type ProxyScriptOptions, proxySetupScript } from "./script.ts";

/**
 * Run the script with `sh`, on our own terminal, where sudo may ask for a password; its exit status.
 * `args` are the script's: `--remove`, `--allow-server`, `--help`.
 * @throws WaltError when it cannot be started.
 */
export async function setupProxy(o: ProxyScriptOptions, args: readonly string[]): Promise<number> {
  // A file of its own, in a folder that nobody else can write to: the script starts itself again through
  // sudo.
  const folder = smallFolder((made) => {
    writeFileSync(join(made, "proxy-setup.sh"), proxySetupScript(o), { mode: 0o700 });
    return made;
  });
  try {
    const script = join(folder, "proxy-setup.sh");
    const child = Bun.spawn(["sh", script, ...args], { stdio: ["inherit", "inherit", "inherit"] });
    return await child.exited;
  } catch (error) {
    throw new WaltError(`cannot run the setup script: ${messageOf(error)}`, { cause: error });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
