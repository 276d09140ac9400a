/** A program: as many UDP datagrams of 1400 bytes as told, as fast as they go. Arguments: address, count. */

import { createSocket } from "node:dgram";

const [address = "", count = "0"] = process.argv.slice(2);
const socket = createSocket("udp4");
socket.on("error", () => {}); // ICMP from a port where nobody listens
const payload = new Uint8Array(1400).fill(5);
const turn = (left: number): void => {
  if (left <= 0) {
    socket.close();
    return;
  }
  for (let i = 0; i < 100; i++) socket.send(payload, 9, address);
  setImmediate(() => turn(left - 100));
};
socket.bind(0, () => turn(Number(count)));
