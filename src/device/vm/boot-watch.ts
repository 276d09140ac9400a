/**
 * Watches the console of a virtual machine that boots from the network, for two states that it does not leave by
 * itself: its firmware has given up, and it has asked for its boot files in vain for too long.
 */

import { duration } from "../../text.ts";
import { parseNetbootLine } from "./netboot.ts";

/**
 * Milliseconds, with the tunnel up, after which a machine that still asks is started anew. A WalT server may need
 * minutes for an image that it has to fetch; to ask from the beginning costs a machine some seconds.
 */
export const IN_VAIN = 600_000;

/**
 * What firmware writes when nothing is left that it could boot: EDK2 before the prompt of its shell (its
 * ShellPkg, on arm64), and SeaBIOS (its src/boot.c, on a PC). iPXE never ends by itself, so this means that it
 * failed.
 */
const GIVEN_UP = /UEFI Interactive Shell v|^No bootable device\./;

export interface BootWatchOptions {
  /** The machine is to be started anew. @param why in words. */
  stuck(why: string): void;
  /** DHCP has given something else than before. */
  changed(): void;
  /** A clock in ms. */
  now?: () => number;
}

export class BootWatch {
  /** When the machine began to ask, with the tunnel up; undefined while it does not ask, or the tunnel is down. */
  #from: number | undefined;
  #tunnel = false;
  #stuck = false;
  #dhcp: { address: string; name: string } | undefined;
  readonly #now: () => number;

  constructor(readonly options: BootWatchOptions) {
    this.#now = options.now ?? (() => performance.now());
  }

  /** The address and host name that DHCP gave to the machine; undefined while it has given none. */
  get dhcp(): { readonly address: string; readonly name: string } | undefined {
    return this.#dhcp;
  }

  /** A machine starts. */
  started(): void {
    this.#from = undefined;
    this.#stuck = false;
    this.#dhcp = undefined;
  }

  /** Whether the tunnel is up now. */
  tunnel(up: boolean): void {
    if (!up) this.#from = undefined;
    this.#tunnel = up;
  }

  /** Take a line of the console. */
  line(line: string): void {
    const said = parseNetbootLine(line);
    if (said?.at === "answered") this.#answered(said);
    else if (said?.at === "asking") this.#asks();
    else if (GIVEN_UP.test(line)) this.#tell("its firmware found nothing to boot");
  }

  #answered({ address, name }: { address: string; name: string }): void {
    const before = this.#dhcp;
    if (before?.address === address && before.name === name) return;
    this.#dhcp = { address, name };
    this.options.changed();
  }

  #asks(): void {
    if (!this.#tunnel) return;
    this.#from ??= this.#now();
    const ms = this.#now() - this.#from;
    if (ms >= IN_VAIN) this.#tell(`it has asked for its boot files in vain for ${duration(ms)}`);
  }

  #tell(why: string): void {
    if (this.#stuck) return;
    this.#stuck = true;
    this.options.stuck(why);
  }
}
