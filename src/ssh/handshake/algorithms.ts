/** The one set of SSH algorithms that WalT offers and accepts. */

import type { Algorithms } from "ssh2";

/**
 * ssh2's default offer holds dh-gex, which its server side cannot do, and ciphers that cost several times more than
 * AES-GCM. The MAC is for form's sake: AES-GCM has its own.
 */
export const ALGORITHMS = {
  kex: ["curve25519-sha256", "curve25519-sha256@libssh.org"],
  cipher: ["aes128-gcm@openssh.com"],
  serverHostKey: ["ssh-ed25519"],
  hmac: ["hmac-sha2-256-etm@openssh.com"],
  compress: ["none"],
} satisfies Algorithms;
