/** The one set of SSH algorithms that WalT offers and accepts: one of each kind. */

type Name =
  | "curve25519-sha256"
  | "curve25519-sha256@libssh.org" // the same, as it was called before RFC 8731
  | "aes128-gcm@openssh.com"
  | "ssh-ed25519"
  | "hmac-sha2-256-etm@openssh.com"
  | "none";

/** The MAC is for form's sake: AES-GCM has its own. */
export const ALGORITHMS = {
  kex: ["curve25519-sha256", "curve25519-sha256@libssh.org"],
  cipher: ["aes128-gcm@openssh.com"],
  serverHostKey: ["ssh-ed25519"],
  hmac: ["hmac-sha2-256-etm@openssh.com"],
  compress: ["none"],
} satisfies Record<string, Name[]>;
