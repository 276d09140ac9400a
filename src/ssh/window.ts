/** ssh2's channel window, opened in small steps: it would itself wait until half of its 2 MiB is used up. */

import type { ServerChannel } from "ssh2";

/** ssh2's MAX_WINDOW (lib/Channel.js), bytes. */
const WINDOW = 2 * 1024 * 1024;
/** On a long path the client stands still until it hears of room: say it as often as OpenSSH does, every three packets or so. */
const STEP = 98_304;

/** What ssh2 keeps to itself; absent in a version that keeps it elsewhere. */
interface Inside {
  incoming?: { window?: number };
  outgoing?: { id?: number; state?: string };
  _client?: { _protocol?: { channelWindowAdjust?(id: number, bytes: number): void } };
}

/** Call when data of the channel was taken. It opens the window as ssh2 does, only earlier, and never further. */
export function keepOpen(channel: ServerChannel): void {
  const { incoming, outgoing, _client: client } = channel as unknown as Inside;
  const window = incoming?.window;
  const id = outgoing?.id;
  if (incoming === undefined || window === undefined || id === undefined || outgoing?.state !== "open")
    return;
  const used = WINDOW - window;
  if (used < STEP || channel.isPaused() || client?._protocol?.channelWindowAdjust === undefined) return;
  client._protocol.channelWindowAdjust(id, used);
  incoming.window = window + used;
}
