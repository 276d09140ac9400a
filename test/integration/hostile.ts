/**
 * Clients that do not keep to the rules, run inside a host of the laboratory by garbage.test.ts:
 * `bun hostile.ts flood HOST PORT COUNT` opens connections that say nonsense or nothing, prints `open`, and keeps them until
 * its standard input ends; `bun hostile.ts ssh HOST PORT KEYFILE user|command BYTES` logs in by ssh2 with a user name or a command
 * of so many bytes, and prints what became of it.
 */

import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { createConnection, type Socket } from "node:net";
import ssh2 from "ssh2";

/** What a connection says first, by its number: the same mixture each time. */
function nonsense(i: number): Buffer[] {
  const kexinit = Buffer.concat([Buffer.from([0, 0, 1, 0, 4, 20]), Buffer.alloc(40, 7)]); // 256 bytes announced, 42 sent
  const banner = Buffer.from("SSH-2.0-OpenSSH_9.2\r\n");
  const kinds = [
    [randomBytes(2000)],
    [], // nothing at all
    [Buffer.from("SSH-2.0-")], // half a banner
    [banner, kexinit], // half a key exchange
    [banner, Buffer.alloc(64, 0xff)], // a packet of 4 GiB, as it says
    [banner, randomBytes(5000)],
    [Buffer.from("GET / HTTP/1.1\r\nHost: x\r\n\r\n")],
    [Buffer.from("SSH-1.5-old\r\n")],
    [Buffer.alloc(1 << 20, 0x41)], // a banner without end
  ];
  return kinds[i % kinds.length] ?? [];
}

async function flood(host: string, port: number, count: number): Promise<void> {
  const sockets: Socket[] = [];
  const connect = (i: number): Promise<void> =>
    new Promise((resolve) => {
      const socket = createConnection(port, host);
      socket.on("error", () => resolve());
      socket.on("data", () => {});
      socket.once("connect", () => {
        for (const bytes of nonsense(i)) socket.write(bytes);
        sockets.push(socket);
        resolve();
      });
    });
  await Promise.all(Array.from({ length: count }, (_, i) => connect(i)));
  console.log(`open ${sockets.length}`);
  for await (const _ of Bun.stdin.stream());
  for (const socket of sockets) socket.destroy();
}

function login(host: string, port: number, keyFile: string, what: string, bytes: number): void {
  const long = "x".repeat(bytes);
  const client = new ssh2.Client();
  const end = (said: string): void => {
    console.log(said);
    process.exit(0);
  };
  client.on("error", (error) => end(`error ${error.message}`));
  client.on("close", () => end("closed"));
  client.on("ready", () => {
    client.exec(what === "command" ? long : "enrol", (error, channel) => {
      if (error !== undefined) return end(`error ${error.message}`);
      let said = "";
      channel.on("data", (data: Buffer) => (said += String(data)));
      channel.stderr.on("data", (data: Buffer) => (said += String(data)));
      channel.on("close", () => end(`said ${said.slice(0, 200)}`));
    });
  });
  client.connect({
    host,
    port,
    username: what === "user" ? long : "walt-vpn",
    privateKey: readFileSync(keyFile),
    algorithms: { kex: ["curve25519-sha256"], cipher: ["aes128-gcm@openssh.com"] },
  });
}

const [mode, host = "", port = "", ...rest] = process.argv.slice(2);
if (mode === "flood") await flood(host, Number(port), Number(rest[0]));
else login(host, Number(port), rest[0] ?? "", rest[1] ?? "", Number(rest[2]));
