/** Keys, for the rest of the house: the mathematics and names from ed25519.ts, the files from key-files.ts. */

export {
  fingerprint,
  fingerprintOfBlob,
  generateKey,
  KEY_TYPE,
  type KeyPair,
  type PublicKey,
  parsePublicKey,
  publicKeyLine,
  publicKeyOfBlob,
  sameKey,
  shortCode,
  sign,
  verify,
} from "./ed25519.ts";
export { encodePrivateKey, loadKey, loadOrCreateKey, parsePrivateKey } from "./key-files.ts";
