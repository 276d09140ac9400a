/**
 * The client's part of SSH up to a running command (RFC 4252, 4253, 4254), as far as the device needs it to
 * reach WalT's server: one set of algorithms, the host key pinned, one ed25519 key. From there on
 * ssh-channel.ts of the tunnel goes on, in the pump's thread. Or up to the question what a server permits.
 */

import type { HostPort } from "../../address.ts";
import { readU32 } from "../../bytes.ts";
import { CERTIFICATE_TYPE, VPN_USER } from "../keys/certificate.ts";
import { KEY_TYPE, type KeyPair, sign } from "../keys/ed25519.ts";
import { WireReader, WireWriter } from "../keys/wire.ts";
import { type ConnectionState, WINDOW } from "./connection-state.ts";
import { MESSAGE } from "./message-numbers.ts";
import { DATA_MAX, PACKET_MIN } from "./packet-cipher.ts";
import { PacketStream } from "./packet-stream.ts";
import { Transport } from "./transport.ts";

const CHANNEL = 0;
/** The channel by which `permissions` asks for a forward. */
const FORWARD = 1;
/** SSH_OPEN_ADMINISTRATIVELY_PROHIBITED (RFC 4254 section 5.1). */
const PROHIBITED = 1;
/** What says nothing to us. */
const IDLE = new Set<number>([MESSAGE.authBanner, MESSAGE.globalRequest]);

/** Bytes as they come, one read after the other. */
export interface Wire {
  /** The next bytes. Rejects at the end. */
  read(): Promise<Uint8Array>;
  write(bytes: Uint8Array): void;
}

/** As whom a client comes. */
export interface Login {
  /** `walt-vpn` unless given. */
  readonly user?: string | undefined;
  /** A certificate of the key, as it goes over the wire. Without one, the key itself counts. */
  readonly certificate?: Uint8Array | undefined;
}

/** What a server lets a client do besides its session. */
export interface Permissions {
  /** It takes a client's agent (`auth-agent-req@openssh.com`, OpenSSH's PROTOCOL.agent). */
  readonly agent: boolean;
  /** It may connect to a host for the client: false when it says that this is prohibited. */
  readonly forward: boolean;
}

/** The server does not let this key in. */
export class KeyRefused extends Error {}
/** The server speaks, and says something that it may not, or no. */
export class HandshakeError extends Error {}

export class ClientHandshake {
  readonly #packets = new PacketStream();
  readonly #transport: Transport;

  constructor(
    readonly wire: Wire,
    hostKeys: readonly Uint8Array[],
    readonly key: KeyPair,
    readonly login: Login = {},
  ) {
    this.#transport = Transport.begin({ end: "client", hostKeys }, this.#packets);
  }

  /**
   * Everything up to a command that runs. What has come behind is in the state's `unread`; what comes still
   * is the caller's to add.
   * @throws WrongHostKey, KeyRefused, HandshakeError, what the wire throws, Error for what is malformed.
   */
  async run(command: string): Promise<ConnectionState> {
    return await this.#inside(() => this.#open(command));
  }

  /**
   * What the server permits. It is asked for an agent that does not exist and for a connection that is closed
   * by the end of ours; no command runs.
   * @param to where it may forward to.
   * @throws as `run`.
   */
  async permissions(to: HostPort): Promise<Permissions> {
    return await this.#inside(async () => {
      const { theirChannel } = await this.#openSession();
      this.#transport.send(
        new WireWriter()
          .u8(MESSAGE.channelRequest)
          .u32(theirChannel)
          .string("auth-agent-req@openssh.com")
          .u8(1)
          .bytes(),
      );
      const [agent] = await this.#next(MESSAGE.channelSuccess, MESSAGE.channelFailure);
      const open = this.#opening("direct-tcpip", FORWARD).string(to.host).u32(to.port);
      this.#transport.send(open.string("127.0.0.1").u32(0).bytes());
      const answer = await this.#next(MESSAGE.openConfirmation, MESSAGE.openFailure);
      const prohibited = answer[0] === MESSAGE.openFailure && readU32(answer, 5) === PROHIBITED;
      return { agent: agent === MESSAGE.channelSuccess, forward: !prohibited };
    });
  }

  /** What `ask` returns, which is called once the server has let us in. */
  async #inside<T>(ask: () => Promise<T>): Promise<T> {
    const [packets, transport] = [this.#packets, this.#transport];
    try {
      await this.#find(() => transport.greet(packets) || undefined, "what listens there is no SSH server");
      while (!transport.ready) await this.#message();
      await this.#authenticate(transport.session.id);
      return await ask();
    } finally {
      packets.free(); // a state that goes on elsewhere has keys of its own
    }
  }

  async #authenticate(id: Uint8Array): Promise<void> {
    const { user, certificate } = this.login;
    const blob = certificate ?? this.key.publicKey.blob;
    const request = new WireWriter()
      .u8(MESSAGE.authRequest)
      .string(user ?? VPN_USER)
      .string("ssh-connection")
      .string("publickey")
      .u8(1)
      .string(certificate === undefined ? KEY_TYPE : CERTIFICATE_TYPE)
      .string(blob)
      .bytes();
    const signed = sign(this.key, new WireWriter().string(id).raw(request).bytes());
    const signature = new WireWriter().string(KEY_TYPE).string(signed).bytes();
    // Both at once: that is a round trip less, and the server takes them one after the other.
    this.#transport.send(new WireWriter().u8(MESSAGE.serviceRequest).string("ssh-userauth").bytes());
    this.#transport.send(new WireWriter().raw(request).string(signature).bytes());
    await this.#next(MESSAGE.serviceAccept);
    const [type] = await this.#next(MESSAGE.authSuccess, MESSAGE.authFailure);
    if (type === MESSAGE.authFailure) throw new KeyRefused("the key is not accepted");
  }

  #opening(type: string, channel: number): WireWriter {
    return new WireWriter().u8(MESSAGE.channelOpen).string(type).u32(channel).u32(WINDOW).u32(DATA_MAX);
  }

  /** @returns as the server has it: the channel's number, and what it takes at once and in one packet, in bytes. */
  async #openSession(): Promise<{ theirChannel: number; theirWindow: number; theirPacket: number }> {
    this.#transport.send(this.#opening("session", CHANNEL).bytes());
    const confirmed = new WireReader((await this.#next(MESSAGE.openConfirmation)).subarray(1));
    if (confirmed.u32() !== CHANNEL) throw new HandshakeError("a channel that was not asked for");
    const [theirChannel, theirWindow, theirPacket] = [confirmed.u32(), confirmed.u32(), confirmed.u32()];
    if (theirPacket < PACKET_MIN) {
      throw new HandshakeError(`it takes packets of no more than ${theirPacket} bytes`);
    }
    return { theirChannel, theirWindow, theirPacket };
  }

  async #open(command: string): Promise<ConnectionState> {
    const session = await this.#openSession();
    const { theirChannel, theirPacket } = session;
    let { theirWindow } = session;
    const exec = new WireWriter()
      .u8(MESSAGE.channelRequest)
      .u32(theirChannel)
      .string("exec")
      .u8(1)
      .string(command);
    this.#transport.send(exec.bytes());
    for (;;) {
      const message = await this.#next(MESSAGE.channelSuccess, MESSAGE.windowAdjust);
      if (message[0] === MESSAGE.channelSuccess) break;
      theirWindow = Math.min(0xffff_ffff, theirWindow + readU32(message, 5));
    }
    return {
      session: this.#transport.session,
      ...this.#packets.release(),
      ...{ ourChannel: CHANNEL, theirChannel, theirWindow, theirPacket },
      ourWindow: WINDOW,
    };
  }

  /** The next message of these types; those that say nothing to us are passed over. */
  async #next(...wanted: number[]): Promise<Uint8Array> {
    for (;;) {
      const message = await this.#message();
      const type = message?.[0];
      if (message === undefined || type === undefined) continue;
      if (wanted.includes(type)) return message;
      if (!IDLE.has(type)) throw new HandshakeError(`it answers with message ${type}`);
    }
  }

  /** The next message; undefined when it was the transport's. */
  async #message(): Promise<Uint8Array | undefined> {
    const next = (): Uint8Array | undefined => {
      const payload = this.#packets.next();
      return payload === undefined ? undefined : Uint8Array.from(payload);
    };
    const clear = this.#transport.ready ? undefined : "it sends a packet that cannot be";
    const message = await this.#find(next, clear);
    const isTransports = this.#transport.take(message);
    const { disconnected } = this.#transport;
    if (disconnected !== undefined) throw new HandshakeError(`it ended the connection: ${disconnected}`);
    return isTransports ? undefined : message;
  }

  /**
   * What `look` finds in what came, once enough has come. What waits to be sent is sent before.
   * @throws HandshakeError with these words, if there are any, in place of an error of `look`'s.
   */
  async #find<T>(look: () => T | undefined, otherwise?: string): Promise<T> {
    for (;;) {
      const output = this.#packets.output();
      if (output.length > 0) this.wire.write(output);
      let found: T | undefined;
      try {
        found = look();
      } catch (error) {
        throw otherwise === undefined ? error : new HandshakeError(otherwise, { cause: error });
      }
      if (found !== undefined) return found;
      this.#packets.push(await this.wire.read());
    }
  }
}
