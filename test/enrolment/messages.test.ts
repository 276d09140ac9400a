import { describe, expect, test } from "bun:test";
import {
  type Board,
  encodeChallenge,
  encodeReply,
  encodeRequest,
  parseChallenge,
  parseReply,
  parseRequest,
  type Reply,
} from "../../src/enrolment/messages.ts";
import { WaltError } from "../../src/errors.ts";
import { generateKey, publicKeyLine, sameKey } from "../../src/ssh/keys/ed25519.ts";

const key = generateKey("device");
const board: Board = {
  mac: "b8:27:eb:01:02:03",
  model: "Raspberry Pi 3 Model B Plus",
  serialNumber: "00000000deadbeef",
};
const challenge = Buffer.alloc(32, 7);
const CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com AAAA";

function problem(what: () => unknown): string {
  try {
    return `no error, but ${JSON.stringify(what())}`;
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    return error.message;
  }
}

/** The line with some of its fields changed; `undefined` takes one out. */
function changed(line: string, change: Record<string, unknown>): string {
  return JSON.stringify({ ...(JSON.parse(line) as object), ...change });
}

/** Each prefix of a line is refused, with a message. */
function expectRefusedWhenTruncated(line: string, parse: (line: string) => unknown): void {
  const whole = Buffer.from(line.trimEnd());
  for (let length = 0; length < whole.length; length++) {
    expect(problem(() => parse(whole.toString("utf8", 0, length)))).toContain("not JSON");
  }
}

describe("challenge", () => {
  const line = encodeChallenge(challenge);

  test("is one line, and comes back", () => {
    expect(line).toMatch(/^[^\n]+\n$/);
    expect(parseChallenge(line)).toEqual(challenge);
  });

  test("of another version says which", () => {
    expect(problem(() => parseChallenge(changed(line, { version: 2 })))).toBe(
      "the server speaks version 2 of the enrolment protocol, this device 1",
    );
  });

  test("anything else is refused", () => {
    for (const change of [
      { walt: "tunnel" },
      { walt: undefined },
      { version: 0 },
      { version: "1" },
      { version: 1.5 },
      { challenge: undefined },
      { challenge: "" },
      { challenge: Buffer.alloc(31).toString("base64") },
      { challenge: Buffer.alloc(33).toString("base64") },
      { challenge: "=".repeat(44) },
      { challenge: 7 },
    ])
      expect(problem(() => parseChallenge(changed(line, change)))).toStartWith("the server's greeting: ");
    expect(problem(() => parseChallenge("SSH-2.0-OpenSSH_9.2"))).toContain("not JSON");
    expect(problem(() => parseChallenge(`{"walt":"${"x".repeat(1 << 20)}"}`))).toContain("longer than 8192");
  });

  test("truncated at any byte is refused", () => expectRefusedWhenTruncated(line, parseChallenge));
});

describe("request", () => {
  const line = encodeRequest(board, key, challenge);
  const parse = (text: string): unknown => parseRequest(text, challenge);

  test("is one short line, and comes back with its key", () => {
    expect(line).toMatch(/^[^\n]+\n$/);
    expect(Buffer.byteLength(line)).toBeLessThan(8192);
    const { publicKey, ...rest } = parseRequest(line, challenge);
    expect(rest).toEqual(board);
    expect(sameKey(publicKey, key.publicKey)).toBe(true);
  });

  test("signed for another challenge is refused", () => {
    expect(problem(() => parseRequest(line, Buffer.alloc(32, 8)))).toBe(
      "enrolment request: the signature does not belong to the public key",
    );
  });

  test("what is signed cannot be changed afterwards", () => {
    for (const change of [
      { mac: "b8:27:eb:01:02:04" },
      { model: "Raspberry Pi 4" },
      { model: "" },
      { serialNumber: "1" },
      // the same bytes, cut between the fields elsewhere
      { model: `${board.model}0`, serialNumber: board.serialNumber.slice(1) },
      { publicKey: publicKeyLine(generateKey("other").publicKey) },
    ])
      expect(problem(() => parse(changed(line, change)))).toBe(
        "enrolment request: the signature does not belong to the public key",
      );
  });

  test("a wrong signature is refused, be it one bit or its length", () => {
    const signature = Buffer.from((JSON.parse(line) as { signature: string }).signature, "base64");
    const flipped = Buffer.from(signature);
    flipped[10] = (flipped[10] ?? 0) ^ 1;
    for (const bad of [
      flipped,
      Buffer.alloc(64),
      signature.subarray(1),
      Buffer.concat([signature, Buffer.of(0)]),
    ])
      expect(problem(() => parse(changed(line, { signature: bad.toString("base64") })))).toMatch(
        /^enrolment request: .*signature/,
      );
  });

  test("each field out of its bounds is refused by its name", () => {
    const other = generateKey("x");
    const fields: Record<string, unknown[]> = {
      version: [undefined, 0, 2, "1", null],
      mac: [
        undefined,
        null,
        7,
        "",
        "B8:27:EB:01:02:03",
        "b8-27-eb-01-02-03",
        "b8:27:eb:01:02",
        "x".repeat(1 << 12),
      ],
      model: [undefined, null, {}, "x".repeat(101)],
      serialNumber: [undefined, 7, [], "x".repeat(65)],
      publicKey: [undefined, "", "ssh-rsa AAAA", "ssh-ed25519 AAAA", `ssh-ed25519 ${"A".repeat(500)}`],
      signature: [undefined, "", "!", 7, "A".repeat(100)],
    };
    for (const [name, values] of Object.entries(fields)) {
      for (const value of values)
        expect(problem(() => parse(changed(line, { [name]: value })))).toMatch(
          new RegExp(`^enrolment request: .*${name}`),
        );
    }
    expect(problem(() => parse(encodeRequest({ ...board, mac: "nonsense" }, other, challenge)))).toContain(
      "mac",
    );
  });

  test("a megabyte, an array, a number, an unfinished line", () => {
    expect(problem(() => parse(`{"model":"${"x".repeat(1 << 20)}"}`))).toBe(
      "enrolment request: it is longer than 8192 characters",
    );
    for (const text of ["[]", "7", "null", '"text"'])
      expect(problem(() => parse(text))).toContain("expected an object");
    expectRefusedWhenTruncated(line, parse);
  });

  test("what it says of itself is harmless on a terminal, though the signature is over what was sent", () => {
    const evil = { ...board, model: "Pi\u001b[2J\u202e", serialNumber: "1\n2" };
    expect(parseRequest(encodeRequest(evil, key, challenge), challenge)).toMatchObject({
      model: "Pi?[2J?",
      serialNumber: "1?2",
    });
  });
});

describe("reply", () => {
  const granted: Reply = {
    type: "granted",
    node: "vpn-010203",
    mac: "52:54:00:01:02:03",
    certificate: CERTIFICATE,
    renewAfter: 302_400,
  };
  const denied: Reply = {
    type: "denied",
    reason: "operator",
    message: "the operator denied it",
    retryAfter: 5,
  };

  test("each kind is one line, and comes back", () => {
    for (const reply of [granted, { ...granted, name: "lab-3" }, denied, { type: "pending" } as const]) {
      const line = encodeReply(reply);
      expect(line).toMatch(/^[^\n]+\n$/);
      expect(parseReply(line)).toEqual(reply);
      expectRefusedWhenTruncated(line, parseReply);
    }
  });

  test("each field out of its bounds is refused by its name", () => {
    const cases: [Reply, Record<string, unknown[]>][] = [
      [{ type: "pending" }, { type: [undefined, "PENDING", "", 1, "renewed"] }],
      [
        denied,
        {
          reason: [undefined, "because", 1],
          message: [undefined, 1, "x".repeat(301)],
          retryAfter: [undefined, 0, -1, 86_401, 1.5, "5", Number.NaN],
        },
      ],
      [
        granted,
        {
          node: [undefined, "", "VPN", "../x", "a b", "x".repeat(33), "-a", "a\n"],
          mac: [undefined, "52:54:00:01:02", "52:54:00:01:02:0G"],
          certificate: [
            undefined,
            "ssh-ed25519 AAAA",
            `${CERTIFICATE} comment`,
            `${CERTIFICATE}\n`,
            `${CERTIFICATE}${"A".repeat(4096)}`,
          ],
          renewAfter: [undefined, 0, 315_360_001, "5"],
        },
      ],
    ];
    for (const [reply, fields] of cases) {
      for (const [name, values] of Object.entries(fields)) {
        for (const value of values)
          expect(problem(() => parseReply(changed(encodeReply(reply), { [name]: value })))).toMatch(
            new RegExp(`^the server's reply: .*${name}`),
          );
      }
    }
  });

  test("its message is harmless on a terminal", () => {
    expect(parseReply(encodeReply({ ...denied, message: "no\u001b[2J\r\n" } as Reply))).toMatchObject({
      message: "no?[2J??",
    });
  });
});
