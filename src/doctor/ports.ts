/** Checks of ports: whether a daemon answers on its own, and who has one that the daemon cannot have. */

import { formatHostPort, type HostPort } from "../address.ts";
import { fault, noted, OK, type Outcome, unknown } from "./check.ts";
import type { Machine } from "./machine.ts";

/** Hosts that stand for all addresses of a machine, and where it reaches itself by them. */
const EVERYWHERE: Readonly<Record<string, string>> = { "::": "::1", "0.0.0.0": "127.0.0.1" };

/**
 * Whether a port that a daemon needs is free.
 * @param key of vpn.toml that sets the port.
 */
export async function lookAtFreePort(machine: Machine, at: HostPort, key: string): Promise<Outcome> {
  const code = await machine.listen(at);
  const place = formatHostPort(at);
  if (code === undefined) return OK;
  if (code === "EACCES") return unknown(`only root may listen on ${place}: run \`walt doctor\` as root`);
  if (code === "EADDRINUSE") {
    return fault(
      `the port ${place} is taken`,
      `${await holderOf(machine, at.port)} listens there`,
      `End that program, or set another port: ${key}.`,
    );
  }
  return fault(
    `${place} cannot be listened on`,
    `bind: ${code}`,
    code === "EADDRNOTAVAIL"
      ? `The machine does not have this address: give it the address, or set another one: ${key}.`
      : `Set another address: ${key}.`,
  );
}

/**
 * Whether a daemon that runs answers on its SSH port.
 * @param key of vpn.toml that sets the port.
 */
export async function lookAtOwnSshPort(machine: Machine, at: HostPort, key: string): Promise<Outcome> {
  const local = { ...at, host: EVERYWHERE[at.host] ?? at.host };
  let talk = await machine.talk(local);
  // A machine without IPv6.
  if (talk.is === "none" && local.host === "::1") talk = await machine.talk({ ...at, host: "127.0.0.1" });
  const place = formatHostPort(at);
  if (talk.is === "none") {
    return fault(
      `the daemon runs, and nothing answers on its port ${place}`,
      `connect: ${talk.code}`,
      "Restart it, and look into its log: it may have run out of file descriptors.",
    );
  }
  if (talk.line?.startsWith("SSH-2.0-")) return noted(`${place}: ${talk.line}`);
  return fault(
    `another program than walt has the port ${place}`,
    `${await holderOf(machine, at.port)} listens there, and says ${JSON.stringify(talk.line ?? "nothing")}`,
    `End that program, or set another port: ${key}.`,
  );
}

/** The program that listens on a TCP port, in words. */
export async function holderOf(machine: Machine, port: number): Promise<string> {
  const ran = await machine.run(["ss", "-Hltnp", `sport = :${port}`]);
  // users:(("sshd",pid=712,fd=3))
  const [, program, pid] = /users:\(\("([^"]+)",pid=(\d+)/.exec(ran?.stdout ?? "") ?? [];
  return program === undefined ? "another program" : `${program} (process ${pid})`;
}
