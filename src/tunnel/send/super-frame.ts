/** A super-frame split in two: on a slow path a frame of 64 KB would make everything behind it wait for as long as it takes. */

import { readU16, readU32, writeU32 } from "../../bytes.ts";
import { findHeaders, fixIpv4Checksum, Headers, pseudoSum, TCP, writeU16 } from "../frame/headers.ts";
import { GSO_NONE, littleU16, transportEnd, VIRTIO, writeLittleU16 } from "../frame/virtio.ts";

const FIN_PSH = 0x09;
const CWR = 0x80;

/** What `planSplit` found, valid until its next call. Bytes. */
export const plan = {
  /** From the virtio-net header to the end of the transport header. */
  headers: 0,
  /** Data for the first part, a whole number of segments; the rest keeps the rest. */
  data: 0,
};
const found = new Headers();

/**
 * Whether the super-frame whose virtio-net header is at `at` can be split so that its first part is about `max` bytes long,
 * at least one segment. Where to split is in `plan` then.
 */
export function planSplit(bytes: Uint8Array, at: number, end: number, max: number): boolean {
  if (bytes[at + 1] === GSO_NONE) return false;
  const segment = littleU16(bytes, at + 4);
  findHeaders(bytes, at + VIRTIO, end, found);
  if (found.transport < 0 || segment === 0) return false;
  const data = transportEnd(bytes, found);
  plan.headers = data - at;
  plan.data = segment * Math.max(1, Math.floor((max - plan.headers) / segment));
  return data + plan.data < end;
}

/**
 * After the bytes from `at` on for `headers + data` bytes were copied to `first`: make both parts frames of their own. The rest
 * begins `data` bytes later than before; its headers are put there.
 * @param first -1 = the first part is not wanted.
 */
export function split(bytes: Uint8Array, first: number, at: number, end: number): void {
  const { headers, data } = plan;
  const segment = littleU16(bytes, at + 4);
  bytes.copyWithin(at + data, at, at + headers);
  if (first >= 0) finish(bytes, first, first + headers + data, 0, false);
  finish(bytes, at + data, end, data / segment, true);
}

/** @param segments how many of the super-frame's segments come before this part. */
function finish(bytes: Uint8Array, at: number, end: number, segments: number, last: boolean): void {
  const segment = littleU16(bytes, at + 4);
  findHeaders(bytes, at + VIRTIO, end, found);
  const { network, transport } = found;
  const length = end - transport;
  if (found.version === 4) {
    writeU16(bytes, network + 2, end - network);
    writeU16(bytes, network + 4, readU16(bytes, network + 4) + segments);
    fixIpv4Checksum(bytes, network);
  } else {
    writeU16(bytes, network + 4, end - network - 40);
  }
  if (found.protocol === TCP) {
    writeU32(bytes, transport + 4, readU32(bytes, transport + 4) + segments * segment);
    // As Linux's tcp_gso_segment: the end of the data is the last part's, "window reduced" the first one's.
    const keep = (last ? 0xff : ~FIN_PSH) & (segments === 0 ? 0xff : ~CWR);
    bytes[transport + 13] = (bytes[transport + 13] ?? 0) & keep;
    writeU16(bytes, transport + 16, pseudoSum(bytes, found, length));
  } else {
    writeU16(bytes, transport + 4, length);
    writeU16(bytes, transport + 6, pseudoSum(bytes, found, length));
  }
  if (end - transportEnd(bytes, found) <= segment) {
    bytes[at + 1] = GSO_NONE;
    writeLittleU16(bytes, at + 4, 0);
  }
}
