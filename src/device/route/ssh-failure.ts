/** An ssh that failed, in words, and whether it failed because the peer does not accept our key. */

import { WaltError } from "../../errors.ts";
import { explainSshFailure } from "../../ssh/openssh/arguments.ts";
import { safeText } from "../../text.ts";

export class SshFailure extends WaltError {
  constructor(
    message: string,
    /** The peer refuses the key or the certificate: trying again with it is of little use. */
    readonly refused = false,
    /** Nothing came from the peer any more. */
    readonly silent = false,
  ) {
    super(message);
  }

  /** Of what ssh printed. `peer` is how the user calls whom it talked to. */
  static of(stderr: string, peer: string): SshFailure {
    return new SshFailure(
      explainSshFailure(stderr, peer),
      /Permission denied \(|Too many authentication failures/.test(stderr),
      /Timeout, server \S+ not responding|Connection timed out/.test(stderr),
    );
  }
}

/** The lines in which an outer ssh tells that it could not forward a connection; "" without. */
export function forwardFailures(stderr: string): string {
  return stderr
    .split("\n")
    .filter((line) => /\bopen failed: /.test(line))
    .join("\n");
}

/** What the server said on a command's standard error before it closed it ("walt: …" at the endpoint), if anything. */
export function serverWords(stderr: string): string | undefined {
  const words = /^walt: (.+?)\r?$/m.exec(stderr)?.[1];
  return words === undefined ? undefined : `the server refuses: ${safeText(words, 300)}`;
}
