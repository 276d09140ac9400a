/** Command lines for logins on nodes. */

import { expect, test } from "bun:test";
import {
  hostKeyArguments,
  type NodeArguments,
  nodeOptions,
} from "../../../src/ssh/openssh/node-arguments.ts";

const NODE: NodeArguments = {
  address: "192.168.192.7",
  alias: "d6:00:00:01:02:03",
  user: "root",
  knownHosts: "/home/al ice/.ssh/walt_known_nodes",
  identities: [],
  control: undefined,
  asks: true,
};

test("a login reads no configuration, and takes known host keys only", () => {
  expect(nodeOptions(NODE).join(" ")).toMatchInlineSnapshot(
    `"-F none -o HostName=192.168.192.7 -o HostKeyAlias=d6:00:00:01:02:03 -o UserKnownHostsFile="/home/al ice/.ssh/walt_known_nodes" -o GlobalKnownHostsFile=/dev/null -o CheckHostIP=no -o UpdateHostKeys=no -o ControlPath=none -o ForwardAgent=no -o ConnectTimeout=10 -o ServerAliveInterval=15 -o User=root -o BatchMode=no -o StrictHostKeyChecking=yes"`,
  );
});

test("it goes through the connection to the server, asks nothing, and tries other keys, as it is told", () => {
  const more = { ...NODE, control: "/tmp/walt-1/ssh", asks: false, identities: ["~/.ssh/lab", "-x"] };
  const plain = new Set(nodeOptions(NODE));
  expect(nodeOptions(more).filter((word) => !plain.has(word))).toMatchInlineSnapshot(`
    [
      "ProxyCommand=ssh -q -F none -S /tmp/walt-1/ssh -o BatchMode=yes -o ProxyCommand=false -W "[%h]:%p" -- server",
      "BatchMode=yes",
      "-i",
      "~/.ssh/lab",
      "-i",
      "-x",
    ]
  `);
});

test("a host key is learnt without a login", () => {
  const words = hostKeyArguments("lab-3", { ...NODE, knownHosts: "/tmp/key" });
  expect(words).toContain("PreferredAuthentications=none");
  expect(words).toContain("StrictHostKeyChecking=accept-new");
  expect(words).toContain('UserKnownHostsFile="/tmp/key"');
  expect(words.slice(-2)).toEqual(["--", "lab-3"]);
});

test("a socket whose path would mean something to a shell is refused", () => {
  for (const control of ["/tmp/a b/ssh", "/tmp/$(id)/ssh", "/tmp/`id`", "/tmp/%h", "/tmp/'"])
    expect(() => nodeOptions({ ...NODE, control })).toThrow("cannot be given to ssh");
});
