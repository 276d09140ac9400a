/** The settings that an operator gave to this device from the lab, in the state folder. */

import { NO_SETTINGS, parseSettings, type Settings } from "../config/settings.ts";
import { messageOf } from "../errors.ts";
import { readTextIfAny, writeFileAtomic } from "../linux/files.ts";
import { Fields } from "../parse.ts";

/** Characters of the file. */
const FILE_MAX = 65_536;

/** Settings that are kept, with who gave them, and when. */
export interface KeptSettings extends Settings {
  readonly by: string;
  readonly at: string;
}

/** What became of the last trial. */
export interface TrialOutcome {
  readonly id: string;
  readonly by: string;
  readonly outcome: "trying" | "kept" | "reverted";
  /** Why they were not kept, in words; "" unless `reverted`. */
  readonly reason: string;
}

/**
 * The settings of a file.
 * @param damaged called with the reason when they cannot be read: then there are none.
 */
export function readSettings(file: string, damaged: (why: string) => void): Settings {
  try {
    const text = readTextIfAny(file, FILE_MAX);
    return text === undefined ? NO_SETTINGS : parseSettings(Fields.parse(text, file, FILE_MAX));
  } catch (error) {
    damaged(messageOf(error));
    return NO_SETTINGS;
  }
}

/** @throws WaltError when the file cannot be written: then it is as before. */
export function writeSettings(file: string, settings: KeptSettings): void {
  writeFileAtomic(file, `${JSON.stringify(settings, undefined, 2)}\n`, { mode: 0o600 });
}
