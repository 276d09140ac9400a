/**
 * Tokens: whoever holds one is accepted without being asked about, as often and as long as the operator said.
 * The server keeps a hash only.
 */

import { createHash, randomBytes } from "node:crypto";

/** Bytes of chance in a token. */
const TOKEN_BYTES = 16;
/** A token's text. The beginning is for people and for programs that look for secrets in the wrong place. */
export const TOKEN = /^walt_[A-Za-z0-9_-]{22}$/;

export function newToken(): string {
  return `walt_${randomBytes(TOKEN_BYTES).toString("base64url")}`;
}

/** SHA-256, in hexadecimal. A token is random and long enough, so that nothing slower is needed. */
export function tokenHash(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}
