/** Super-frames as a kernel hands them over, and the segments that the network must see of them. */

import { readU16, readU32 } from "../../src/bytes.ts";
import { findHeaders, fold, Headers, pseudoSum, sum16, writeU16 } from "../../src/tunnel/frame/headers.ts";

import { complete, littleU16, VIRTIO } from "../../src/tunnel/frame/virtio.ts";
import { chance } from "./rig.ts";

const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
const TAG = [0x81, 0, 0, 5];

export interface Super {
  version: 4 | 6;
  protocol: "tcp" | "udp";
  tags?: number;
  /** Ethernet type of the first tag: 802.1Q unless told. */
  outer?: number;
  data: number;
  segment: number;
}

/** A virtio-net header and a super-frame, as a kernel hands it over. */
export function build({ version, protocol, tags = 0, outer = 0x8100, data, segment }: Super): Uint8Array {
  const l4 = protocol === "tcp" ? 32 : 8;
  const l3 = version === 4 ? 20 : 40;
  const network = VIRTIO + 14 + 4 * tags;
  const transport = network + l3;
  const bytes = new Uint8Array(transport + l4 + data);
  bytes.set([...MACS, ...Array(tags).fill(TAG).flat(), ...(version === 4 ? [8, 0] : [0x86, 0xdd])], VIRTIO);
  if (tags > 0) writeU16(bytes, VIRTIO + 12, outer);
  const number = protocol === "tcp" ? 6 : 17;
  if (version === 4) {
    bytes.set([0x45, 0, 0, 0, 0x12, 0xff, 0x40, 0, 64, number, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2], network);
    writeU16(bytes, network + 2, l3 + l4 + data);
    writeU16(bytes, network + 10, ~fold(sum16(bytes, network, transport)));
  } else {
    bytes.set([0x60, 0, 0, 0, 0, 0, number, 64], network);
    writeU16(bytes, network + 4, l4 + data);
    bytes.fill(7, network + 8, transport);
  }
  writeU16(bytes, transport, 40_000);
  writeU16(bytes, transport + 2, 80);
  // Sequence number near its end; header of 32 bytes; CWR, ACK, PSH, FIN.
  if (protocol === "tcp") bytes.set([0xff, 0xff, 0xff, 0, 0, 0, 0, 1, 0x80, 0x99, 1, 0], transport + 4);
  else writeU16(bytes, transport + 4, l4 + data);
  const random = chance(data + segment);
  for (let i = transport + l4; i < bytes.length; i++) bytes[i] = random(256);
  const found = new Headers();
  findHeaders(bytes, VIRTIO, bytes.length, found);
  const field = protocol === "tcp" ? 16 : 6;
  writeU16(bytes, transport + field, pseudoSum(bytes, found, l4 + data));
  const gso = data <= segment ? 0 : protocol === "udp" ? 5 : version === 4 ? 1 : 4;
  const little = [l3 + l4 + 14 + 4 * tags, gso === 0 ? 0 : segment, transport - VIRTIO, field];
  bytes.set([1, gso, ...little.flatMap((n) => [n & 255, n >> 8])]);
  return bytes;
}

/** What the network must see of a frame: its segments, with all checksums computed from scratch. */
export function segments(bytes: Uint8Array): string[] {
  const found = new Headers();
  const copy = bytes.slice();
  findHeaders(copy, VIRTIO, copy.length, found);
  const tcp = found.protocol === 6;
  const head = found.transport + (tcp ? ((copy[found.transport + 12] ?? 0) >> 4) * 4 : 8);
  const size = copy[1] === 0 ? copy.length - head : littleU16(copy, 4);
  const made: string[] = [];
  for (let at = head, i = 0; at < copy.length; at += size, i++) {
    const data = copy.subarray(at, at + size);
    const last = at + size >= copy.length;
    const one = new Uint8Array(head + data.length);
    one.set(copy.subarray(0, head));
    one.set(data, head);
    const { network, transport, version } = found;
    const length = one.length - transport;
    if (version === 4) {
      writeU16(one, network + 2, one.length - network);
      writeU16(one, network + 4, readU16(copy, network + 4) + i);
      writeU16(one, network + 10, 0);
      writeU16(one, network + 10, ~fold(sum16(one, network, transport)));
    } else writeU16(one, network + 4, length);
    if (tcp) {
      new DataView(one.buffer).setUint32(transport + 4, readU32(copy, transport + 4) + i * size);
      let flags = copy[transport + 13] ?? 0;
      if (!last) flags &= ~0x09;
      if (i > 0) flags &= ~0x80;
      one[transport + 13] = flags;
    } else writeU16(one, transport + 4, length);
    writeU16(one, transport + (tcp ? 16 : 6), pseudoSum(one, found, length));
    const start = transport - VIRTIO;
    complete(one, VIRTIO + start, tcp ? 16 : 6, VIRTIO, one.length);
    made.push(Buffer.from(one.subarray(VIRTIO)).toString("base64"));
  }
  return made;
}
