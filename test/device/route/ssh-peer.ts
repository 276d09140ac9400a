/** An SSH server that is not ours (ssh2's), for what the device says to WalT's endpoint: one key gets in, every command is kept. */

import type { AddressInfo } from "node:net";
import ssh2 from "ssh2";
import type { HostPort } from "../../../src/address.ts";
import { generateKey, type KeyPair, publicKeyLine } from "../../../src/ssh/keys/ed25519.ts";
import { encodePrivateKey } from "../../../src/ssh/keys/key-files.ts";

export class SshPeer implements AsyncDisposable {
  /** Commands that were run, and who ran them. */
  readonly commands: { user: string; command: string }[] = [];
  readonly hostKey = generateKey("server");
  readonly #server: ssh2.Server;
  readonly #clients = new Set<ssh2.Connection>();

  private constructor(readonly accepted: KeyPair) {
    const blob = Buffer.from(publicKeyLine(accepted.publicKey).split(" ")[1] ?? "", "base64");
    this.#server = new ssh2.Server({ hostKeys: [encodePrivateKey(this.hostKey)] }, (client) => {
      let user = "";
      this.#clients.add(client);
      client.on("error", () => {}).on("close", () => this.#clients.delete(client));
      client.on("authentication", (context) => {
        user = context.username;
        if (context.method === "publickey" && context.key.data.equals(blob)) context.accept();
        else context.reject(["publickey"]);
      });
      client.on("session", (accept) =>
        accept().on("exec", (acceptExec, _reject, { command }) => {
          this.commands.push({ user, command });
          acceptExec();
        }),
      );
    });
  }

  /** On a port of 127.0.0.1. */
  static async start(accepted: KeyPair): Promise<SshPeer> {
    const peer = new SshPeer(accepted);
    await new Promise<void>((resolve) => peer.#server.listen(0, "127.0.0.1", () => resolve()));
    return peer;
  }

  get address(): HostPort {
    return { host: "127.0.0.1", port: (this.#server.address() as AddressInfo).port };
  }

  /** Connections that are open. */
  get connections(): number {
    return this.#clients.size;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const client of this.#clients) client.end();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}
