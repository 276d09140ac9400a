/** The checks of what a server keeps: its keys, the registry, and the certificates that it gave. */

import { dirname, join } from "node:path";
import { type Check, fault, faultOf, isDenied, noted, OK, told } from "../../doctor/check.ts";
import { WaltError } from "../../errors.ts";
import { duration } from "../../text.ts";
import { KEY_NAMES } from "../keys.ts";
import { MIGRATIONS } from "../migrations.ts";
import { refuseOlder } from "../serial-mark.ts";
import type { ServerCase } from "./case.ts";

/**
 * Devices renew certificates at half of their validity. One that has less left than this part of it has
 * not.
 */
const LEFT = 0.25;
/** Names that a message lists. */
const LISTED = 5;
/** Milliseconds by which the keys' files may be newer than the registry's. */
const SLACK = 60_000;

export const STATE_CHECKS: readonly Check<ServerCase>[] = [
  {
    id: "keys",
    what: "The three private keys can be read, belong to the right user, and nobody else can read them.",
    after: [],
    look: async ({ machine, keys, checkKey, registry, config }) => {
      const owner = (await machine.stat(config.server.state))?.uid;
      const missing: string[] = [];
      for (const name of KEY_NAMES) {
        const path = join(keys, name);
        const facts = await machine.stat(path);
        if (facts === undefined) {
          missing.push(path);
          continue;
        }
        if (owner !== undefined && facts.uid !== owner) {
          return fault(
            `${path} belongs to another user than ${config.server.state}, so that the service cannot read it`,
            `user ${facts.uid}, and ${owner} for the folder`,
            `chown ${owner} ${path}`,
          );
        }
        const evidence = `mode ${facts.mode.toString(8)}`;
        const checked = told(
          () => checkKey(path),
          evidence,
          "Restore it from a backup: walt server restore FILE.",
        );
        if (checked.is === "fault") return checked;
      }
      if (missing.length === 0) return OK;
      const isNew = missing.length === KEY_NAMES.length && (await registry()) === undefined;
      if (isNew) return noted("they are made at the first start");
      return fault(
        `keys are missing: ${missing.join(", ")}`,
        `the others, or the registry, are in ${dirname(keys)}`,
        "Restore them from a backup: walt server restore FILE. Without it new ones are made at the next start, and all boards and proxies must be set up again.",
      );
    },
  },
  {
    id: "registry",
    what: "The registry is whole, of a version that this walt knows, and not older than the keys.",
    after: [],
    look: async (server) => {
      const { machine, registryFile, keys } = server;
      const restore =
        "Restore the newest whole copy: systemctl stop walt-vpn; walt server restore; systemctl start walt-vpn. If there is none, restore a backup: walt server restore FILE.";
      let facts: Awaited<ReturnType<ServerCase["registry"]>>;
      try {
        facts = await server.registry();
      } catch (error) {
        if (!(error instanceof WaltError) || isDenied(error)) throw error;
        return faultOf(error, registryFile, restore);
      }
      if (facts === undefined) return noted("it is made at the first start");
      if (facts.version > MIGRATIONS.length) {
        return fault(
          `${registryFile} has version ${facts.version}; this walt knows versions up to ${MIGRATIONS.length}`,
          "PRAGMA user_version",
          "A newer walt wrote it. Install that one.",
        );
      }
      if (facts.check !== "ok")
        return fault(
          `the registry ${registryFile} is damaged`,
          `PRAGMA quick_check: ${facts.check}`,
          restore,
        );
      const mark = (await machine.read(join(keys, "serial"))) ?? "";
      const evidence = "the number of the last certificate is kept beside the keys, too";
      const older = told(() => refuseOlder(registryFile, BigInt(facts.lastSerial), mark), evidence, "");
      if (older.is === "fault") return older;
      const files = [registryFile, `${registryFile}-wal`];
      const written = await Promise.all(files.map((file) => machine.stat(file)));
      const last = Math.max(...written.map((one) => one?.modified ?? 0));
      for (const name of ["ca", "host"] as const) {
        const made = (await machine.stat(join(keys, name)))?.modified ?? 0;
        if (facts.devices.length === 0 || made <= last + SLACK) continue;
        return fault(
          `the ${name} key is newer than the registry: they do not belong together`,
          `${join(keys, name)} is of ${new Date(made).toISOString()}, and the registry of ${new Date(last).toISOString()}`,
          "Was one of them restored from a backup and the other not? Restore both from the same one. Right after `walt vpn rotate` it is in order: start the doctor again when a device has renewed its certificate.",
        );
      }
      return noted(`${facts.devices.length} devices`);
    },
  },
  {
    id: "certificates",
    what: "All devices that are not away renew their certificates in time.",
    after: ["registry"],
    look: async (server) => {
      const now = server.machine.now();
      const validity = server.config.server.certificate_validity;
      const devices = (await server.registry())?.devices ?? [];
      const ending = devices.filter(({ expires }) => expires !== undefined && expires > now);
      const soon = ending
        .filter(({ expires = 0 }) => expires < now + validity * LEFT)
        .toSorted((a, b) => (a.expires ?? 0) - (b.expires ?? 0));
      const past = devices.filter(({ expires }) => expires !== undefined && expires <= now);
      if (soon.length > 0) {
        const shown = soon
          .slice(0, LISTED)
          .map(({ node, expires = now }) => `${node} in ${duration(expires - now)}`);
        const more = soon.length > LISTED ? `, and ${soon.length - LISTED} more` : "";
        return fault(
          `${soon.length === 1 ? "a certificate ends" : `${soon.length} certificates end`} soon, and should have been renewed at half of its time`,
          `${shown.join(", ")}${more}`,
          "`walt node show` shows whether their tunnels are up. Boards that are off renew by themselves when they are back. For others see event=failure in the board's log.",
        );
      }
      return noted(
        past.length === 0
          ? ""
          : `expired while their boards are away: ${past.length}; they renew when they are back`,
      );
    },
  },
];
