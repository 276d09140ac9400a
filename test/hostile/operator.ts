/**
 * An operator who does not keep to the rules, run on the server's host by operators.test.ts: `bun operator.ts
 * MODE NODE`. Each mode prints what came of it, and stays until its standard input ends.
 */

import { createConnection, type Socket } from "node:net";

const SOCKET = "/run/walt-vpn/server.sock";
const [mode = "", node = ""] = process.argv.slice(2);
const sockets: Socket[] = [];

/** Send a request. @returns the beginning of the answer; "" when the connection ends before, or there is none. */
function ask(path: string, body: string, reads = true): Promise<string> {
  const socket = createConnection(SOCKET);
  sockets.push(socket);
  const head = `POST ${path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n`;
  socket.write(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
  if (!reads) socket.pause();
  return new Promise((resolve) => {
    let text = "";
    socket.on("data", (bytes) => {
      text += bytes.toString();
      if (/"type":|\}$/.test(text)) resolve(text);
    });
    socket.on("error", () => {}).on("close", () => resolve(text));
  });
}

const order = (what: object): string => JSON.stringify({ order: what });
const orders = `/v1/nodes/${node}/orders`;

const MODES: Record<string, () => Promise<string>> = {
  /** Ten thousand orders at once, and none of them is left. */
  many: async () => {
    let begun = 0;
    const all = Array.from({ length: 10_000 }, async () => {
      const answer = await ask(orders, order({ order: "echo" }));
      if (answer.includes('"begun"')) begun++;
    });
    await Promise.race([Promise.all(all), Bun.sleep(20_000)]);
    return `begun ${begun > 0}`;
  },
  /** Follows logs, and reads none of them. */
  unread: async () => {
    for (let i = 0; i < 5; i++)
      void ask(orders, order({ order: "log", source: "board", follow: true }), false);
    return "unread";
  },
  /** JSON that is deep, wide, of strange names, or of another shape than is asked for. */
  bombs: async () => {
    const bombs = [
      "[".repeat(16_000),
      `${'{"order":'.repeat(1700)}1${"}".repeat(1700)}`,
      `{"order":{"order":"console","mode":"write","by":"${"\\u0000".repeat(2000)}"}}`,
      order({ order: "__proto__" }),
      order({ order: "constructor" }),
      order({ order: "report" }),
      order({ order: "hops", rounds: 50 }),
      '{"order":{"order":"log","source":"vm","follow":false,"lines":1e999}}',
      '{"__proto__":{"order":{"order":"echo"}}}',
      JSON.stringify({ order: Array.from({ length: 5000 }, () => 1) }),
      " ".repeat(20_000),
    ];
    const answers = await Promise.all(bombs.map((body) => ask(orders, body)));
    return answers.map((answer) => answer.slice(9, 12)).join(" ");
  },
  /** Types into somebody else's session. */
  input: async () => {
    const body = JSON.stringify({ bytes: Buffer.from("rm -rf /\r").toString("base64"), end: true });
    return (await ask(`/v1/orders/${node}/input`, body)).split("\r\n\r\n")[1] ?? "";
  },
};

console.log(`done: ${await MODES[mode]?.()}`);
for await (const _ of Bun.stdin.stream());
process.exit(0);
