/** The lines of enrolment and the commands of a device, under fuzz. */

import { expect } from "bun:test";
import { formatEntrypoint } from "../../../src/address.ts";
import { encodeCommand, parseCommand, type ServerCommand } from "../../../src/enrolment/commands.ts";
import {
  CHALLENGE_LENGTH,
  DENIALS,
  encodeChallenge,
  encodeReply,
  encodeRequest,
  MAX_LINE,
  parseChallenge,
  parseReply,
  parseRequest,
  parseStored,
  type Reply,
  STORED,
} from "../../../src/enrolment/messages.ts";
import { signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey, publicKeyLine } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";
import {
  damage,
  damageJson,
  damageText,
  fuzz,
  oneOf,
  plainWords,
  type Random,
  refusedOr,
  someBytes,
} from "../fuzz.ts";

const keys = [generateKey("one"), generateKey("two")] as const;
const certificates = keys.map((key) =>
  signCertificate(key, {
    ...{ publicKey: key.publicKey, serial: 1n, keyId: "x", principals: ["walt-vpn"] },
    ...{ validAfter: 0, validBefore: 1 },
  })
    .split(" ", 2)
    .join(" "),
);
const mac = (random: Random): string =>
  Array.from({ length: 6 }, () => random(256).toString(16).padStart(2, "0")).join(":");
const node = (random: Random): string => `vpn-${random(2 ** 24).toString(16)}`;

/** A line that is not quite what it was. */
function broken(line: string, random: Random): string {
  const half = random(3);
  if (half === 0) return damageText(line, random);
  if (half === 1) return damage(Buffer.from(line), random).toString("latin1");
  return JSON.stringify(damageJson(JSON.parse(line), random)) ?? "";
}

fuzz("a request: whatever is accepted was signed, and comes back as it was sent", 1500, (random) => {
  const challenge = Buffer.from(Array.from({ length: CHALLENGE_LENGTH }, () => random(256)));
  const key = oneOf(random, ...keys);
  const board = { mac: mac(random), model: plainWords(random, 40), serialNumber: plainWords(random, 40) };
  const token = random(2) === 0 ? undefined : `walt_${"A".repeat(22)}`;
  const line = encodeRequest(board, key, challenge, token);
  expect(line.length).toBeLessThanOrEqual(MAX_LINE);
  const whole = parseRequest(line.trimEnd(), challenge);
  expect(whole).toEqual({
    ...board,
    publicKey: { ...key.publicKey, comment: whole.publicKey.comment },
    ...(token === undefined ? {} : { token }),
  });
  for (let i = 0; i < 10; i++) {
    const accepted = refusedOr(() => parseRequest(broken(line, random), challenge));
    if (accepted === undefined) continue;
    const { mac: said, model, serialNumber } = accepted;
    expect({ mac: said, model, serialNumber }).toEqual(board);
    expect(accepted.publicKey.blob).toEqual(key.publicKey.blob);
  }
});

function reply(random: Random): Reply {
  const type = oneOf(random, "pending", "granted", "denied");
  if (type === "pending") return { type };
  if (type === "denied") {
    const message = plainWords(random, 200);
    return { type, reason: oneOf(random, ...DENIALS), message, retryAfter: 1 + random(86_400) };
  }
  return {
    type,
    ...{ node: node(random), mac: mac(random), certificate: certificates[0] ?? "" },
    renewAfter: 1 + random(1_000_000),
    ...(random(2) === 0 ? {} : { nextCertificate: certificates[1] }),
    ...(random(2) === 0
      ? {}
      : {
          serverKeys: {
            hostKeys: keys.slice(random(2)).map((one) => publicKeyLine({ ...one.publicKey, comment: "" })),
            enrolmentKeys: keys.slice(random(2)).map(encodePrivateKey),
          },
        }),
  };
}

fuzz("a reply: it comes back as it was sent, and what else is accepted does, too", 800, (random) => {
  const said = reply(random);
  const line = encodeReply(said);
  expect(line.length).toBeLessThanOrEqual(MAX_LINE);
  expect(parseReply(line)).toEqual(said);
  for (let i = 0; i < 10; i++) {
    const accepted = refusedOr(() => parseReply(broken(line, random)));
    if (accepted === undefined) continue;
    expect(parseReply(encodeReply(accepted))).toEqual(accepted);
    expect(JSON.stringify(accepted)).not.toMatch(/\\u00[01]/); // control characters
  }
});

fuzz("a challenge and a confirmation", 2000, (random) => {
  const challenge = Buffer.from(Array.from({ length: CHALLENGE_LENGTH }, () => random(256)));
  const line = encodeChallenge(challenge);
  expect(parseChallenge(line)).toEqual(challenge);
  const accepted = refusedOr(() => parseChallenge(broken(line, random)));
  if (accepted !== undefined) expect(accepted).toHaveLength(CHALLENGE_LENGTH);
  refusedOr(() => parseStored(broken(STORED, random)));
  refusedOr(() => parseStored(someBytes(random, 100).toString("latin1")));
});

fuzz("a command: it comes back as it was sent, and what else is accepted does, too", 4000, (random) => {
  const host = (): string =>
    oneOf(random, `h${random(1000)}.example.org`, `192.0.2.${random(256)}`, "[2001:db8::1]");
  const hop = (): string => `${host()}${random(2) === 0 ? "" : `:${1 + random(65_535)}`}`;
  const hops = Array.from({ length: 1 + random(8) }, hop).join(",");
  const text = oneOf(random, "enrol", "renew", `tunnel via=${hops}`, `tunnel via=ssh://${hop()}`);
  const parsed = parseCommand(text);
  expect(parsed?.name).toBe(text.split(" ")[0] as ServerCommand["name"]);
  for (let i = 0; i < 5; i++) {
    const accepted = refusedOr(() => parseCommand(damageText(text, random)));
    if (accepted === undefined) continue;
    expect(parseCommand(encodeCommand(accepted))).toEqual(accepted);
    // It stands in the log and in listings.
    if (accepted.name === "tunnel") expect(formatEntrypoint(accepted.via)).toMatch(/^[a-z0-9._:/,[\]-]+$/);
  }
});
