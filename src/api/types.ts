/** What travels between the daemons and the commands: JSON over HTTP on a UNIX socket. */

import type { NodeState } from "../enrolment/events.ts";
import type { LinkStats } from "../tunnel/counters.ts";

export type { MonitorEvent, NodeState, Outcome, PendingRequest } from "../enrolment/events.ts";

/** A node as experimenters see it. */
export interface NodeInfo {
  name: string;
  type: "vpn";
  state: NodeState;
  mac: string;
  /** Its address on walt-net, once known. */
  address: string | null;
  /** Since when it is in this state; null if it never was up since the server's start. */
  since: string | null;
  /** The entrypoint that its tunnel comes through; null as well when the device did not say. */
  via: string | null;
  /** What its tunnel speaks while it is up: the messages of docs/protocol.md, or WalT's original framing. */
  framing: "messages" | "original" | null;
  /** The MTU that device and server agreed on, bytes. */
  mtu: number | null;
  /** Round trip through the tunnel, ms. */
  rtt: number | null;
  /** The share of late or unanswered PINGs lately, 0 to 1: what the path lost and TCP repeated. */
  loss: number | null;
  /** Counters of the tunnel while it is up. "In" is from the node. */
  traffic: LinkStats | null;
}

/** A registered device. */
export interface DeviceInfo {
  node: string;
  state: NodeState | "revoked";
  boardMac: string;
  model: string;
  serialNumber: string;
  fingerprint: string;
  code: string;
  acceptedAt: string;
  acceptedBy: string;
  certificateSerial: string;
  certificateExpires: string;
  revokedAt: string | null;
}

/** What set-up commands need of the server: public keys, and the enrolment key, which every SD image carries. */
export interface TrustInfo {
  ca: string;
  hostKey: string;
  enrolmentPublicKey: string;
  /** OpenSSH private key, PEM. */
  enrolmentPrivateKey: string;
  /** Where this server keeps its CA's public key: how a set-up script recognises the server's own machine. */
  caFile: string;
  /** `host:port` by which proxies reach the server, from `server.address`. */
  address: string;
  version: string;
}

/** A USB device of the board that is passed on to the node. Strings are safe for a terminal. */
export interface UsbStatus {
  /** Where it is plugged in, as in /sys/bus/usb/devices: `1-1.2`. */
  port: string;
  /** Vendor and product: `0781:5567`. */
  id: string;
  /** Its own words; "" when it has none. */
  name: string;
}

/** State of a device's supervisor. */
export interface DeviceStatus {
  stage: string;
  /** What the stage is about right now, in words. */
  detail: string;
  lastError: string | null;
  /** Seconds until it tries again; null while it does not wait. (Not a time of day: the device may have no clock.) */
  nextTryIn: number | null;
  since: string;
  node: string | null;
  mac: string | null;
  code: string | null;
  fingerprint: string | null;
  tunnel: "down" | "connecting" | "up";
  via: string | null;
  /** As in NodeInfo, measured by this end. */
  rtt: number | null;
  loss: number | null;
  /** Counters of the tunnel while it is up. "In" is from the server. */
  traffic: LinkStats | null;
  vm: "off" | "starting" | "running" | "waiting";
  usb: UsbStatus[];
  certificateRenewal: string | null;
}
