/** The end that asks for commands: how many round trips one takes, and what becomes of the spare session. */

import { expect, test } from "bun:test";
import { ClientChannels, SessionRefused } from "../../../src/ssh/handshake/client-channels.ts";
import { type ChannelBounds, ServerChannels } from "../../../src/ssh/handshake/connection.ts";
import { MESSAGE } from "../../../src/ssh/handshake/message-numbers.ts";
import { WireWriter } from "../../../src/ssh/keys/wire.ts";

const BOUNDS: ChannelBounds = { first: 1000, packet: 4096, channels: 16, opened: 100, refusals: 100 };

/** Both ends, with a wire between them that carries what was said when the test says so. */
function ends(channels = BOUNDS.channels) {
  const waiting = { client: [] as Uint8Array[], server: [] as Uint8Array[] };
  const ran: string[] = [];
  const say = (to: keyof typeof waiting) => (payload: Uint8Array) => void waiting[to].push(payload);
  const client = new ClientChannels(say("server"), () => {}, BOUNDS);
  const server = new ServerChannels(say("client"), () => {}, { ...BOUNDS, channels });
  const produced = (end: { produce(): Uint8Array | undefined }, to: keyof typeof waiting): void => {
    for (let one = end.produce(); one !== undefined; one = end.produce()) waiting[to].push(one);
  };
  /** One round trip. */
  const roundTrip = async (): Promise<void> => {
    produced(client, "server");
    for (const payload of waiting.server.splice(0)) {
      const event = server.take(payload);
      if (event?.kind === "request" && event.request.kind === "exec") ran.push(event.request.command);
    }
    produced(server, "client");
    for (const payload of waiting.client.splice(0)) client.take(payload);
    await Promise.resolve();
  };
  return { client, ran, roundTrip };
}

test("the first command takes two round trips, a later one takes one", async () => {
  const { client, ran, roundTrip } = ends();
  const first = client.open("first");
  await roundTrip();
  expect(ran).toEqual([]);
  await roundTrip();
  await first;
  await roundTrip(); // the spare session
  for (const command of ["second", "third"]) {
    const open = client.open(command);
    await roundTrip();
    expect(ran.at(-1)).toBe(command);
    await open;
    await roundTrip();
  }
  expect(ran).toEqual(["first", "second", "third"]);
});

test("a command that comes before its spare session is open waits for it", async () => {
  const { client, ran, roundTrip } = ends();
  const first = client.open("first");
  await roundTrip();
  await roundTrip();
  await first;
  const second = client.open("second");
  await roundTrip();
  await roundTrip();
  await second;
  expect(ran).toEqual(["first", "second"]);
});

test("without a spare session a command asks for one of its own", async () => {
  const { client, ran, roundTrip } = ends(1);
  const first = client.open("first");
  await roundTrip();
  await roundTrip();
  const channel = await first;
  await roundTrip(); // the spare session is refused: there may be one session
  const refused = client.open("second");
  refused.catch(() => {});
  await roundTrip();
  await expect(refused).rejects.toThrow(SessionRefused);
  channel.close();
  await roundTrip();
  const third = client.open("third");
  await roundTrip();
  await roundTrip();
  await third;
  expect(ran).toEqual(["first", "third"]);
});

test("the other end opens nothing: it is refused, and the connection goes on", () => {
  const said: Uint8Array[] = [];
  const client = new ClientChannels(
    (payload) => void said.push(payload),
    () => {},
    BOUNDS,
  );
  const open = new WireWriter().u8(MESSAGE.channelOpen).string("session").u32(7).u32(16_384).u32(4096);
  client.take(open.bytes());
  expect(said.map((payload) => payload[0])).toEqual([MESSAGE.openFailure]);
});
