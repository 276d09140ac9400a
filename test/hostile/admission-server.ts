/**
 * The server's endpoint with everything that decides who gets in, in this process: a registry, invitations,
 * requests and monitors. And clients of it by hand, which may come from any address of 127.0.0.0/8.
 */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { AddressRange } from "../../src/address-range.ts";
import { encodeRequest, parseChallenge, parseReply, type Reply } from "../../src/enrolment/messages.ts";
import type { Log } from "../../src/log.ts";
import { AccessRequests } from "../../src/server/access-requests.ts";
import { Devices } from "../../src/server/devices.ts";
import { Endpoint } from "../../src/server/endpoint.ts";
import { serveEnrolment } from "../../src/server/enrol.ts";
import { ServerKeys } from "../../src/server/keys.ts";
import { Registry } from "../../src/server/registry.ts";
import { generateKey } from "../../src/ssh/keys/ed25519.ts";
import { WireReader } from "../../src/ssh/keys/wire.ts";
import { LogLimiter } from "../../src/ssh/server/log-limiter.ts";
import { say } from "../ssh/handshake/speaker.ts";
import { SpeakerSocket } from "../ssh/handshake/speaker-socket.ts";

/** Devices over a registry in a folder, as the server has them. */
export function openDevices(
  folder: string,
  log: Log,
): { registry: Registry; keys: ServerKeys; devices: Devices } {
  const keys = ServerKeys.load(folder);
  const registry = new Registry(join(folder, "registry.sqlite"));
  const addresses = (): [AddressRange, Map<string, string>] => [AddressRange.beside("10.0.0.1/8"), new Map()];
  const net = { setNodes: () => {} };
  return { registry, keys, devices: new Devices(registry, keys, net, addresses, 86_400_000, log) };
}

export class AdmissionServer implements AsyncDisposable {
  private constructor(
    readonly folder: string,
    readonly keys: ServerKeys,
    readonly registry: Registry,
    readonly devices: Devices,
    readonly requests: AccessRequests,
    readonly endpoint: Endpoint,
  ) {}

  static async start(): Promise<AdmissionServer> {
    const folder = mkdtempSync(join(tmpdir(), "walt-admission-"));
    const log: Log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {}, with: () => log };
    const { registry, keys, devices } = openDevices(folder, log);
    const requests = new AccessRequests({
      ...{ answerTimeout: 300_000, remember: true, now: Date.now, after: () => () => {} },
      blocked: () => {},
      lifted: () => {},
      overloaded: () => {},
      record: () => {},
      accept: (request, by) => devices.accept(request, by),
    });
    const endpoint = await Endpoint.start({
      ...{ listen: { host: "127.0.0.1", port: 0 }, hostKey: () => keys.of("host") },
      ...{ log, logLimiter: new LogLimiter(), identify: (key) => devices.identify(key) },
      enrol: (channel, from, keep) =>
        serveEnrolment(channel, from, keep, {
          ...{ requests, registry, retryAfter: 1, log },
          grant: (device) => devices.grant(device),
          acceptInvited: (request) => devices.acceptInvited(request),
          confirmation: () => () => {},
        }),
      renew: async () => {},
      tunnel: async () => {},
      lane: async () => {},
      originalTunnel: async () => {},
    });
    return new AdmissionServer(folder, keys, registry, devices, requests, endpoint);
  }

  /** Somebody with the enrolment key who has asked for access: its connection, and what was answered first. */
  async ask(o: { from?: string; mac?: string; token?: string } = {}): Promise<Asking> {
    const { host, port } = this.endpoint.address;
    const enrolment = this.keys.of("enrolment");
    const { publicKey } = this.keys.of("host");
    const socket = await SpeakerSocket.login({ host, port }, publicKey, enrolment, o.from);
    socket.send(say.open(), say.exec(0, "enrol"));
    const asking = new Asking(socket);
    const challenge = parseChallenge(await asking.line());
    const mac =
      o.mac ?? `b8:27:eb:00:${Math.floor(++asked / 256)}0:${(asked % 256).toString(16).padStart(2, "0")}`;
    const board = { mac, model: "Pi", serialNumber: "" };
    socket.send(say.data(0, encodeRequest(board, generateKey("device"), challenge, o.token)));
    asking.reply = parseReply(await asking.line());
    return asking;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.endpoint.stop();
    this.registry.close();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

let asked = 0;

export class Asking {
  /** The last reply. */
  reply: Reply | undefined;
  #text = "";

  constructor(readonly socket: SpeakerSocket) {}

  /** The next line that the server says. */
  async line(): Promise<string> {
    while (!this.#text.includes("\n")) {
      const message = new WireReader((await this.socket.message(94)).subarray(5));
      this.#text += message.text();
    }
    const end = this.#text.indexOf("\n");
    const line = this.#text.slice(0, end);
    this.#text = this.#text.slice(end + 1);
    return line;
  }
}
