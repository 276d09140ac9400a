/** Messages of the API as a daemon of this version writes them. */

import type { DeviceStatus } from "../../src/api/device-status.ts";
import type { PendingRequest } from "../../src/api/events.ts";
import type { History } from "../../src/api/history.ts";
import type { JournalEvent } from "../../src/api/journal.ts";
import type { DeviceInfo, NodeDetails, NodeInfo, TrustInfo } from "../../src/api/messages.ts";
import { parseReport } from "../../src/control/report.ts";
import { COUNTER } from "../../src/tunnel/counters.ts";

const TIME = "2026-03-01T14:05:25.335Z";

export const TRAFFIC = { ...COUNTER, loss: 0.016 };

export const NODE: NodeInfo = {
  name: "lab-3",
  defaultName: "vpn-010203",
  note: "in the cellar",
  type: "vpn",
  state: "up",
  mac: "52:54:00:01:02:03",
  address: null,
  why: null,
  seen: TIME,
  since: TIME,
  via: "gate.example.org:22",
  framing: "messages",
  mtu: 1500,
  rtt: 23.1,
  loss: null,
  traffic: TRAFFIC,
};

export const REGISTERED: DeviceInfo = {
  node: "lab-3",
  defaultName: "vpn-010203",
  state: "revoked",
  boardMac: "b8:27:eb:01:02:03",
  model: "Raspberry Pi 3 Model B Plus Rev 1.3",
  serialNumber: "00000000a1b2c3d4",
  fingerprint: "SHA256:tAXFyTXI8xtDaujAEcwJslAYc9/6FKcUkd2Lw0xDhPo",
  code: "PG2WB-J9NS3",
  acceptedAt: TIME,
  acceptedBy: "alice@lab",
  certificateSerial: "7",
  certificateExpires: "",
  revokedAt: TIME,
  reenrol: "no",
};

export const EVENT: JournalEvent = {
  ...{ id: 7, at: TIME, kind: "tunnel-down", node: "lab-3", by: null },
  details: { via: "gate.example.org:22", end: "silent", reason: "the peer was silent", lasted: 61_000 },
};

export const DETAILS: NodeDetails = {
  ...NODE,
  why: { kind: "no-boot-files", at: TIME, end: null, reason: "vmlinuz" },
  device: { ...REGISTERED, state: "up", revokedAt: null },
  serverVersion: "0.1.0",
  events: [EVENT],
  report: { receivedAt: "2026-03-01T14:05:25.335Z", facts: parseReport({ temperature: 51 }) },
};

export const HISTORY: History = {
  ...{ node: "lab-3", step: 10, from: TIME, up: [null, 0.5, 1], rtt: [null, null, 23.1] },
  ...{ loss: [null, null, 0], receive: [null, 0, 1e6], transmit: [null, 0, 10] },
};

export const TRUST: TrustInfo = {
  cas: ["ssh-ed25519 AAAA ca"],
  hostKeys: ["ssh-ed25519 AAAA host", "ssh-ed25519 AAAB host"],
  enrolmentPublicKeys: ["ssh-ed25519 AAAA enrolment"],
  enrolmentPrivateKey: "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
  revoked: ["ssh-ed25519 AAAA"],
  mark: `SHA256:${"x".repeat(43)}`,
  caFile: "/var/lib/walt-vpn/keys/ca.pub",
  address: "walt.lab.example:2222",
  version: "0.1.0",
};

export const PENDING: PendingRequest = {
  id: "1",
  mac: "b8:27:eb:01:02:03",
  model: "Pi",
  serialNumber: "7",
  address: "192.0.2.7",
  fingerprint: "SHA256:x",
  code: "PG2WB-J9NS3",
  receivedAt: TIME,
  expiresAt: TIME,
  warnings: [],
};

export const STATUS: DeviceStatus = {
  stage: "watch",
  detail: "tunnel and virtual machine are up",
  lastError: null,
  nextTryIn: null,
  since: TIME,
  node: "vpn-010203",
  mac: "52:54:00:01:02:03",
  code: "PG2WB-J9NS3",
  fingerprint: "SHA256:x",
  tunnel: "up",
  via: "gate.example.org:22",
  rtt: 1.5,
  loss: null,
  traffic: TRAFFIC,
  vm: "running",
  usb: [{ port: "1-1.2", id: "0781:5567", name: "" }],
  doctor: {
    at: TIME,
    findings: [{ check: "address", of: "", is: "fault", what: "a", evidence: "b", cure: "c" }],
  },
  certificateRenewal: null,
};
