/** The device's side of enrolment and renewal against a scripted server: a child process that says what it is told to. */

import { afterAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Answer, ask, renew } from "../../../src/device/identity/enrol.ts";
import { ChildLines } from "../../../src/device/route/server-command.ts";
import { encodeChallenge, encodeReply, type Grant, parseRequest } from "../../../src/enrolment/messages.ts";
import { Children } from "../../../src/linux/child.ts";
import { signCertificate } from "../../../src/ssh/keys/certificate.ts";
import { generateKey, type KeyPair, sameKey } from "../../../src/ssh/keys/ed25519.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-enrol-"));
const children = new Children();
afterAll(async () => {
  await children.stop();
  rmSync(dir, { recursive: true });
});

const key = generateKey("device");
const ca = generateKey("ca");
const board = {
  mac: "b8:27:eb:00:00:01",
  model: "Raspberry Pi 3 Model B Plus",
  serialNumber: "00000000deadbeef",
};
const challenge = Buffer.alloc(32, 7);
const greeting = encodeChallenge(challenge);

function certificateFor(pair: KeyPair, principal = "walt-vpn"): string {
  const content = {
    serial: 1n,
    keyId: "vpn-010203",
    principals: [principal],
    validAfter: 0,
    validBefore: 2_000_000_000,
  };
  const [type, base64] = signCertificate(ca, { publicKey: pair.publicKey, ...content }).split(" ");
  return `${type} ${base64}`;
}

const grant: Grant = {
  node: "vpn-010203",
  mac: "52:54:00:01:02:03",
  certificate: certificateFor(key),
  renewAfter: 3600,
};
const granted = (change: Partial<Grant> = {}): string =>
  encodeReply({ type: "granted", ...grant, ...change });
const pending = encodeReply({ type: "pending" });

let count = 0;
/** A server that says `before`, reads a line into a file, says `after` and ends; without `after` it does not wait. */
function server(before: string, after?: string): { lines: ChildLines; request: string } {
  const name = join(dir, String(count++));
  writeFileSync(`${name}.before`, before);
  if (after !== undefined) writeFileSync(`${name}.after`, after);
  const script = 'cat "$0.before"; [ ! -e "$0.after" ] || { head -n 1 > "$0.request"; cat "$0.after"; }';
  return {
    lines: new ChildLines(children.spawn(["sh", "-c", script, name], "pipe")),
    request: `${name}.request`,
  };
}

const asking = (lines: ChildLines, waits: () => void = () => {}): Promise<Answer> =>
  ask(lines, board, key, undefined, waits);
const why = async (before: string, after?: string): Promise<string> => {
  try {
    return JSON.stringify(await asking(server(before, after).lines));
  } catch (error) {
    return String(error);
  }
};

describe("asking for access", () => {
  test("answers the challenge with a request that our key signed, and takes the grant", async () => {
    const peer = server(greeting, pending + granted());
    let waited = 0;
    expect(await asking(peer.lines, () => waited++)).toEqual({ granted: grant });
    expect(waited).toBe(1);
    const request = parseRequest(readFileSync(peer.request, "utf8").trim(), challenge);
    expect(request).toMatchObject(board);
    expect(sameKey(request.publicKey, key.publicKey)).toBe(true);
  });

  test("a grant may come at once, in the same bytes as everything else", async () => {
    expect(await asking(server(greeting, granted()).lines)).toEqual({ granted: grant });
    expect(await asking(server(greeting + pending + pending + granted()).lines)).toEqual({ granted: grant });
  });

  test("a denial is an answer, not an error", async () => {
    const denial = { reason: "operator", message: "the operator denied this device", retryAfter: 7 } as const;
    const answer = await asking(server(greeting, encodeReply({ type: "denied", ...denial })).lines);
    expect(answer).toMatchObject({ denied: denial });
  });

  test("another version is named", async () => {
    const newer = greeting.replace('"version":1', '"version":2');
    expect(await why(newer)).toContain("version 2 of the enrolment protocol, this device 1");
  });

  test("garbage instead of a greeting or a reply is an error with its beginning", async () => {
    expect(await why("SSH-2.0-whatever\r\n")).toContain("the server's greeting: it is not JSON");
    expect(await why('{"walt":"enrolment","version":1,"challenge":"AAAA"}\n')).toContain("challenge");
    expect(await why(greeting, "\u001b]0;x\u0007\n")).not.toContain("\u001b");
    expect(await why(greeting, '{"type":"welcome"}\n')).toContain("type must be");
    expect(await why(greeting, '["granted"]\n')).toContain("expected an object");
  });

  test("a server that breaks off, also in the middle of a line, is an error", async () => {
    expect(await why("")).toContain("ended the connection before it greeted");
    expect(await why(greeting)).toContain("ended the connection before it answered");
    expect(await why(greeting, pending)).toContain("ended the connection before it answered");
    expect(await why(greeting, granted().slice(0, -10))).toContain("ended the connection before it answered");
  });

  test("a megabyte where a line is expected is refused, with newline or without", async () => {
    const megabyte = "x".repeat(1 << 20);
    expect(await why(megabyte)).toContain("a line is longer than 8192 bytes");
    expect(await why(greeting, `{"type":"${megabyte}"}\n`)).toContain("a line is longer than 8192 bytes");
  });

  test("endless pending is given up", async () => {
    expect(await why(greeting, pending.repeat(200))).toContain('replied "pending" 100 times');
  });

  test("a certificate that is not ours or not for proxies is not kept", async () => {
    expect(await why(greeting, granted({ certificate: certificateFor(generateKey("other")) }))).toContain(
      "another key",
    );
    expect(await why(greeting, granted({ certificate: certificateFor(key, "root") }))).toContain(
      "that proxies refuse",
    );
    expect(await why(greeting, granted({ certificate: grant.certificate.slice(0, 80) }))).toContain(
      "certificate",
    );
  });

  test("a MAC address that no network card can have is refused", async () => {
    expect(await why(greeting, granted({ mac: "01:00:5e:00:00:01" }))).toContain("no network card can have");
    expect(await why(greeting, granted({ mac: "00:00:00:00:00:00" }))).toContain("no network card can have");
  });

  test("a server that says nothing does not hold the device for ever", async () => {
    const silent = children.spawn(["sleep", "60"], "pipe");
    expect(await new ChildLines(silent).next(20).catch(String)).toContain("the server sent nothing");
    await silent.stop();
  });
});

describe("renewing", () => {
  const renewing = async (said: string): Promise<string> => {
    try {
      return JSON.stringify(await renew(server(said).lines, key.publicKey, grant));
    } catch (error) {
      return String(error);
    }
  };

  test("takes a new certificate for the same node", async () => {
    expect(JSON.parse(await renewing(granted({ renewAfter: 60 })))).toEqual({ ...grant, renewAfter: 60 });
  });

  test("does not become another node, nor take anything but a grant", async () => {
    // A node that was renamed meanwhile is the same node.
    expect(JSON.parse(await renewing(granted({ name: "lab-3" })))).toEqual({ ...grant, name: "lab-3" });
    expect(await renewing(granted({ node: "vpn-999999" }))).toContain(
      "the server sent a certificate of node vpn-999999",
    );
    expect(await renewing(granted({ mac: "52:54:00:09:09:09" }))).toContain("52:54:00:09:09:09");
    expect(await renewing(pending)).toContain("to a renewal, which needs no operator");
    expect(await renewing("")).toContain("ended the connection");
  });
});
