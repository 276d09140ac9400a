/**
 * Split a super-frame in two super-frames. On a slow path a frame of 64 KB would make everything behind it
 * wait for as long as its transmission takes. Whether one is split is decided in fair-queue.ts (`slice`), from the
 * rate of the path that `tune` of sender.ts sets.
 */

import { readU16, readU32, writeU32 } from "../../bytes.ts";
import { findHeaders, fixIpv4Checksum, Headers, pseudoSum, TCP, writeU16 } from "../frame/headers.ts";
import { GSO_NONE, littleU16, transportEnd, VIRTIO, writeLittleU16 } from "../frame/virtio.ts";

/** Flags of TCP (RFC 9293, byte 13 of the header): the end of the data, or of a write of the application. */
const FIN_PSH = 0x09;
/** Flag of TCP: the sender has reduced its window (RFC 3168). */
const CWR = 0x80;

/** The result of `planSplit`, valid until its next call: one object, so that no split allocates memory. */
export const plan = {
  /** Bytes from the virtio-net header to the end of the transport header. Both parts have these headers. */
  headers: 0,
  /** Bytes of data in the first part, a whole number of segments. The second part has the remaining data. */
  data: 0,
};
const found = new Headers();

/**
 * Find out where to split a super-frame, and write that to `plan`.
 * @param at offset of its virtio-net header in `bytes`.
 * @param end offset behind the frame.
 * @param max bytes of the first part, headers included. The first part has at least one segment, though.
 * @returns false if it cannot be split: it is no super-frame, or all of it would be in the first part.
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
 * Split a super-frame as `plan` says. The caller has copied the first `plan.headers + plan.data` bytes from
 * `at` to `first`. This makes a complete frame of that copy. The second part stays where its data are: its
 * headers are moved in front of them, so that it begins at `at + plan.data`.
 * @param first offset of the copy; -1 = the first part is dropped, and there is no copy.
 * @param at offset of the super-frame's virtio-net header.
 * @param end offset behind the super-frame.
 */
export function split(bytes: Uint8Array, first: number, at: number, end: number): void {
  const { headers, data } = plan;
  const segment = littleU16(bytes, at + 4);
  bytes.copyWithin(at + data, at, at + headers);
  if (first >= 0) finish(bytes, first, first + headers + data, 0, false);
  finish(bytes, at + data, end, data / segment, true);
}

/**
 * Set the headers of one part: lengths, IPv4 identification, sequence number, flags and checksums.
 * @param segments how many segments of the super-frame come before this part.
 * @param last it is the second part.
 */
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
    // As Linux's tcp_gso_segment: only the last part keeps FIN and PSH, only the first one keeps CWR.
    const keep = (last ? 0xff : ~FIN_PSH) & (segments === 0 ? 0xff : ~CWR);
    bytes[transport + 13] = (bytes[transport + 13] ?? 0) & keep;
    writeU16(bytes, transport + 16, pseudoSum(bytes, found, length));
  } else {
    writeU16(bytes, transport + 4, length);
    writeU16(bytes, transport + 6, pseudoSum(bytes, found, length));
  }
  // A part of one segment is no super-frame any more.
  if (end - transportEnd(bytes, found) <= segment) {
    bytes[at + 1] = GSO_NONE;
    writeLittleU16(bytes, at + 4, 0);
  }
}
