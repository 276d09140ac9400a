/** The names of users. */

import { readTextIfAny } from "./files.ts";
import { runAny } from "./run.ts";

/** Names that are known already, by number: no more than there are users who may use a socket. */
const known = new Map<string, string>();

/** Milliseconds that a directory of users may take. Who waits is the user of a command. */
const LONGEST = 3000;

/** The name of the user with this number, as nsswitch.conf(5) says where to look; else `uid 1000`. */
export async function userName(uid: string): Promise<string> {
  const name = known.get(uid) ?? localName(uid) ?? (await foreignName(uid));
  if (name !== undefined) known.set(uid, name);
  return name ?? `uid ${uid}`;
}

function localName(uid: string): string | undefined {
  return nameIn(readTextIfAny("/etc/passwd", 1 << 20) ?? "", uid);
}

/** A user of a directory such as LDAP. */
async function foreignName(uid: string): Promise<string | undefined> {
  const answer = await runAny(["getent", "passwd", uid], { timeout: LONGEST }).catch(() => undefined);
  return answer?.status === 0 ? nameIn(answer.stdout, uid) : undefined;
}

/** @param text lines of passwd(5) */
function nameIn(text: string, uid: string): string | undefined {
  const user = text
    .split("\n")
    .map((line) => line.split(":"))
    .find(([, , number]) => number === uid);
  const name = user?.[0] ?? "";
  return /^[\w.@+-]+\$?$/.test(name) ? name : undefined;
}
