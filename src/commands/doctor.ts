/** `walt doctor` */

import { type Diagnosis, faultsOf } from "../api/diagnosis.ts";
import { loadConfig } from "../config/load.ts";
import type { Config } from "../config/schema.ts";
import { withSettings } from "../config/settings.ts";
import { showDiagnosis } from "../doctor/show.ts";
import { EXIT, messageOf, WaltError } from "../errors.ts";
import { VERSION } from "../version.ts";
import { command, configOption, jsonOption, print, untilStopped } from "./_command.ts";

export default command({
  name: "walt doctor",
  description: "Find out what is wrong with this machine, in the order in which it must be mended",
  examples: ["walt doctor", "walt doctor --json | jq '.findings[] | select(.is == \"fault\")'"],
  args: { ...configOption, ...jsonOption },
  async run(args) {
    const config = configuration(args.config);
    const role = config instanceof WaltError ? null : (config.role ?? null);
    const diagnosis =
      config instanceof WaltError ? unreadable(config) : await examineRole(config, untilStopped());
    const faults = faultsOf(diagnosis).length;
    if (args.json) print(JSON.stringify({ version: VERSION, role, faults, ...diagnosis }, null, 2));
    else print(showDiagnosis(diagnosis, process.stdout.isTTY && (process.env["NO_COLOR"] ?? "") === ""));
    if (faults > 0) process.exitCode = EXIT.failed;
  },
});

/** The configuration, or what is wrong with it. @throws WaltError (usage) when the option cannot be meant. */
function configuration(option: string | undefined): Config | WaltError {
  try {
    return loadConfig(option);
  } catch (error) {
    if (error instanceof WaltError && error.exitCode !== EXIT.usage) return error;
    throw error;
  }
}

/** Without a configuration nothing else can be looked at. */
function unreadable(error: WaltError): Diagnosis {
  const head = { check: "configuration", of: "", is: "fault" as const };
  const what = messageOf(error).replaceAll("\n", "; ");
  const cure = error.hint ?? "Correct the file; `walt config check` checks it.";
  return {
    at: new Date().toISOString(),
    findings: [{ ...head, what, evidence: "vpn.toml cannot be used", cure }],
  };
}

/** Each role is loaded when it is examined. */
async function examineRole(config: Config, signal: AbortSignal): Promise<Diagnosis> {
  switch (config.role) {
    case "server": {
      const { examineServer } = await import("../server/doctor/examine.ts");
      return await examineServer(config, signal);
    }
    case "proxy": {
      const { examineRelay } = await import("../proxy/doctor.ts");
      const { proxySettings } = await import("./proxy/_settings.ts");
      return await examineRelay(config, () => proxySettings(config).next, signal);
    }
    case "device": {
      const { deviceFiles } = await import("../device/files.ts");
      const { readSettings } = await import("../device/settings.ts");
      const { examineDevice } = await import("../device/doctor/examine.ts");
      const files = deviceFiles(config);
      // The supervisor logs that they are damaged.
      const settings = readSettings(files.settings, () => {});
      const used = { config: withSettings(config, settings, files.settings), hostKeys: settings.hostKeys };
      return await examineDevice(used, files, "all", signal);
    }
    case undefined:
      return unreadable(noRole(config));
  }
}

function noRole({ file }: Config): WaltError {
  return new WaltError(
    file === undefined ? "this machine has no role: there is no vpn.toml" : `${file} does not say a role`,
    {
      hint: 'Name a vpn.toml with --config, which has role = "server", "proxy" or "device" at its top.',
    },
  );
}
