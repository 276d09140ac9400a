/**
 * OpenSSL's AES-GCM through bun:ffi, in place and from packet to packet with one context. (node:crypto makes
 * a buffer and three objects for each packet; at some gigabits a second that is more than 100 MB of garbage
 * at any time.)
 */

import { dlopen, type Pointer } from "bun:ffi";
import { messageOf, WaltError } from "../errors.ts";
import { allocate, at } from "./libc.ts";

/**
 * EVP_EncryptInit(3); the names of the library's major versions 3 and 1.1, whose functions are the same here.
 */
const NAMES = ["libcrypto.so.3", "libcrypto.so.1.1"];
const init = { args: ["ptr", "ptr", "ptr", "ptr", "ptr"], returns: "i32" } as const;
const update = { args: ["ptr", "ptr", "ptr", "ptr", "i32"], returns: "i32" } as const;
const final = { args: ["ptr", "ptr", "ptr"], returns: "i32" } as const;
const FUNCTIONS = {
  EVP_CIPHER_CTX_new: { args: [], returns: "ptr" },
  EVP_CIPHER_CTX_free: { args: ["ptr"], returns: "void" },
  EVP_CIPHER_CTX_ctrl: { args: ["ptr", "i32", "i32", "ptr"], returns: "i32" },
  EVP_aes_128_gcm: { args: [], returns: "ptr" },
  EVP_EncryptInit_ex: init,
  EVP_EncryptUpdate: update,
  EVP_EncryptFinal_ex: final,
  EVP_DecryptInit_ex: init,
  EVP_DecryptUpdate: update,
  EVP_DecryptFinal_ex: final,
} as const;
/** openssl/evp.h: EVP_CTRL_AEAD_GET_TAG, EVP_CTRL_AEAD_SET_TAG. */
const GET_TAG = 0x10;
const SET_TAG = 0x11;
const KEY = 16;
const IV = 12;
const TAG = 16;

type Symbols = ReturnType<typeof dlopen<typeof FUNCTIONS>>["symbols"];
/** The functions, as a test can write them, too. */
export type Libcrypto = {
  [Name in keyof Symbols]: (...args: Parameters<Symbols[Name]>) => ReturnType<Symbols[Name]>;
};
let library: Libcrypto | undefined;
/** Where functions put a length that nobody needs (modules are per thread). */
const ignored = allocate(8);

/** The library, loaded when first needed. @throws WaltError when there is none. */
export function libcrypto(): Libcrypto {
  if (library !== undefined) return library;
  let last: unknown;
  for (const name of NAMES) {
    try {
      library = dlopen(name, FUNCTIONS).symbols;
      return library;
    } catch (error) {
      last = error;
    }
  }
  throw new WaltError(`cannot load ${NAMES.join(" or ")}: ${messageOf(last)}`, {
    hint: "It is OpenSSL's, and comes with OpenSSH: `apt-get install openssh-client`.",
    cause: last,
  });
}

/** One direction of AES-128-GCM: it encrypts, or it decrypts. */
export class AesGcm {
  /** 12 bytes of the next message; whoever owns this counts them. */
  readonly iv = allocate(IV);
  readonly #library: Libcrypto;
  readonly #nowhere = at(ignored.address);
  readonly #iv = at(this.iv.address);
  #context: Pointer | null;

  /**
   * @param key 16 bytes.
   * @param iv of the next message, 12 bytes.
   * @param lib a parameter for tests.
   * @throws RangeError for other lengths: libcrypto would read what stands behind a short key.
   * @throws WaltError when libcrypto is not there, or has not what is needed.
   */
  constructor(encrypts: boolean, key: Uint8Array, iv: Uint8Array, lib: Libcrypto = libcrypto()) {
    if (key.length !== KEY || iv.length !== IV) {
      throw new RangeError(`AES-128-GCM with a key of ${key.length} bytes and an IV of ${iv.length}`);
    }
    this.#library = lib;
    const made = lib.EVP_CIPHER_CTX_new();
    if (made === null) throw new WaltError("libcrypto has no room for a cipher");
    this.#context = at(Number(made));
    this.iv.bytes.set(iv);
    const place = allocate(KEY);
    place.bytes.set(key);
    const begin = encrypts ? lib.EVP_EncryptInit_ex : lib.EVP_DecryptInit_ex;
    const done = begin(this.#context, lib.EVP_aes_128_gcm(), null, at(place.address), null);
    place.bytes.fill(0);
    if (done === 1) return;
    this.free();
    throw new WaltError("libcrypto has no AES-128-GCM");
  }

  /**
   * Encrypt `length` bytes; the tag's 16 bytes are put behind them. The first `clear` bytes are only
   * authenticated.
   * @throws Error when libcrypto cannot: what is at `to` must not be sent then.
   */
  seal(from: number, to: number, clear: number, length: number): void {
    const lib = this.#library;
    const context = this.#alive();
    const done =
      lib.EVP_EncryptInit_ex(context, null, null, null, this.#iv) === 1 &&
      lib.EVP_EncryptUpdate(context, null, this.#nowhere, at(from), clear) === 1 &&
      lib.EVP_EncryptUpdate(context, at(to + clear), this.#nowhere, at(from + clear), length - clear) === 1 &&
      lib.EVP_EncryptFinal_ex(context, at(to + length), this.#nowhere) === 1 &&
      lib.EVP_CIPHER_CTX_ctrl(context, GET_TAG, TAG, at(to + length)) === 1;
    if (!done) throw new Error(`libcrypto could not encrypt ${length} bytes`);
  }

  /**
   * Decrypt in place what `seal` made. False: it is not what was sealed, and what stands there now is
   * nobody's, as it is when it throws.
   * @throws Error when libcrypto cannot tell.
   */
  open(address: number, clear: number, length: number): boolean {
    const lib = this.#library;
    const context = this.#alive();
    const rest = at(address + clear);
    const done =
      lib.EVP_DecryptInit_ex(context, null, null, null, this.#iv) === 1 &&
      lib.EVP_DecryptUpdate(context, null, this.#nowhere, at(address), clear) === 1 &&
      lib.EVP_DecryptUpdate(context, rest, this.#nowhere, rest, length - clear) === 1 &&
      lib.EVP_CIPHER_CTX_ctrl(context, SET_TAG, TAG, at(address + length)) === 1;
    if (!done) throw new Error(`libcrypto could not decrypt ${length} bytes`);
    return lib.EVP_DecryptFinal_ex(context, rest, this.#nowhere) === 1;
  }

  /** In C this would be the process's end. */
  #alive(): Pointer {
    if (this.#context === null) throw new Error("a cipher is used after its end");
    return this.#context;
  }

  /** Give its memory back, keys and all; it is of no use afterwards. */
  free(): void {
    this.#library.EVP_CIPHER_CTX_free(this.#context);
    this.#context = null;
  }
}
