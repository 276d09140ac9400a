/** Why a login on a node failed, from what OpenSSH 9 and 10 print. */

import { describe, expect, test } from "bun:test";
import {
  addressOf,
  copyFailure,
  loginFailure,
  mixedFailure,
  refusedHostKey,
} from "../../src/commands/node/_login-failure.ts";
import { WaltError } from "../../src/errors.ts";

const WANTED = { name: "lab-3", address: "192.168.192.7", user: "alice", tried: "/root/.ssh/id_ed25519" };
const UP = {
  name: "lab-3",
  mac: "d6:00:00:01:02:03",
  address: "192.168.192.7",
  state: "up",
  since: null,
} as const;

test("a node that is down, or has no address, is not tried", () => {
  expect(addressOf(UP)).toBe("192.168.192.7");
  expect(() => addressOf({ ...UP, state: "down" })).toThrow("lab-3 is down: its device has had no tunnel");
  const since = new Date(Date.now() - 7_200_000).toISOString();
  expect(() => addressOf({ ...UP, state: "down", since })).toThrow("no tunnel for 2 h 0 min");
  expect(() => addressOf({ ...UP, address: null })).toThrow("lab-3 is up, but has no IP address yet");
});

describe("what ssh says becomes words about the node", () => {
  test.each([
    [
      "ssh: connect to host 192.168.192.7 port 22: Connection refused\r\n",
      "lab-3 has no SSH server: it refuses connections to 192.168.192.7:22",
    ],
    [
      "open failed: connect failed: Connection refused",
      "lab-3 has no SSH server: it refuses connections to 192.168.192.7:22",
    ],
    [
      "ssh: connect to host 192.168.192.7 port 22: No route to host\r\n",
      "lab-3 is up, but does not answer at 192.168.192.7",
    ],
    ["Connection timed out during banner exchange\r\n", "lab-3 is up, but does not answer at 192.168.192.7"],
    [
      "ssh: connect to host 192.168.192.7 port 22: Network is unreachable\r\n",
      "lab-3: this machine has no route to 192.168.192.7",
    ],
    [
      "open failed: administratively prohibited: open failed",
      "the sshd of the server's machine forbids connections through it",
    ],
    [
      "open failed: connect failed: Invalid argument",
      "lab-3: the server's machine cannot connect to 192.168.192.7:22 (Invalid argument)",
    ],
    [
      "alice@192.168.192.7: Permission denied (publickey,password).\r\n",
      "lab-3 does not let alice in (it takes publickey,password); tried: /root/.ssh/id_ed25519",
    ],
    [
      "Received disconnect from 192.168.192.7 port 22:2: Too many authentication failures\r\n",
      "lab-3 does not let alice in; tried: /root/.ssh/id_ed25519",
    ],
    [
      "subsystem request failed on channel 0\r\nscp: Connection closed\r\n",
      "lab-3: its sshd has no SFTP server, which copies need",
    ],
    ["Timeout, server 192.168.192.7 not responding.\r\n", "lab-3: it fell silent"],
    ["client_loop: send disconnect: Broken pipe\r\n", "lab-3: the connection broke (Broken pipe)"],
  ])("%j", (said, message) => {
    expect(loginFailure(said, WANTED)?.message).toBe(message);
  });

  test("words that are no failure, or none, are none", () => {
    for (const said of [
      "",
      "Connection to 192.168.192.7 closed.\r\n",
      "** WARNING: connection is not using a post-quantum key exchange algorithm.\r\n",
    ])
      expect(loginFailure(said, WANTED)).toBeUndefined();
  });

  test("terminal escapes are not passed on", () => {
    const error = loginFailure("alice@x: Permission denied (pub\u001b[2Jkey).", WANTED);
    expect(error?.message).not.toContain("\u001b");
  });
});

test("reasons of several nodes are not told of one of them alone", () => {
  const error = mixedFailure(WANTED, [
    "open failed: connect failed: Connection refused",
    "open failed: connect failed: No route to host",
  ]);
  expect(error.message).toBe(
    "lab-3 cannot be reached at 192.168.192.7: one of: Connection refused; No route to host",
  );
  expect(error.hint).toContain("this node alone");
});

test("a host key that is refused is told from other failures", () => {
  expect(refusedHostKey("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @")).toBe(true);
  expect(
    refusedHostKey(
      "No ED25519 host key is known for d6:00:00:01:02:03 and you have requested strict checking.",
    ),
  ).toBe(true);
  expect(refusedHostKey("Permission denied (publickey).")).toBe(false);
});

test("what scp could not copy is told in its own words", () => {
  const said =
    'scp: /nope: No such file or directory\r\nscp: remote open "/x\u001b[2J": Permission denied\r\n';
  const error = copyFailure(said, "lab-3");
  expect(error).toBeInstanceOf(WaltError);
  expect(error.message).toBe(
    'lab-3: /nope: No such file or directory\nremote open "/x?[2J": Permission denied',
  );
  expect(copyFailure("").message).toBe("scp failed");
});
