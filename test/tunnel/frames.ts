/** Frames for the tests of several lanes. */

/** A frame of UDP over IPv4: source port, then a number that tells it from all others of the flow. */
export function datagram(port: number, number: number, data: number): Uint8Array {
  const bytes = new Uint8Array(14 + 20 + 8 + data);
  const view = new DataView(bytes.buffer);
  bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45]);
  view.setUint16(16, 28 + data);
  bytes.set([64, 17], 22);
  bytes.set([10, 0, 0, 1, 10, 0, 0, 2], 26);
  view.setUint16(34, port);
  view.setUint16(36, 9);
  view.setUint16(38, 8 + data);
  view.setUint32(42, number);
  return bytes;
}
