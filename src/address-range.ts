/** IPv4 addresses in a row, which DHCP gives out. */

export class AddressRange {
  /** @param from first and @param to last address, as numbers. @param mask of their network. */
  private constructor(
    readonly from: number,
    readonly to: number,
    readonly mask: number,
  ) {}

  /**
   * The addresses on that side of a machine's own which has more.
   * @param address the machine's own with the prefix length of its network, `192.168.192.1/22`, as the
   *   configuration has checked it.
   */
  static beside(address: string): AddressRange {
    const [ip = "", length = "24"] = address.split("/");
    const own = numberOf(ip);
    const size = 2 ** (32 - Number(length));
    const base = Math.floor(own / size) * size;
    const below = own - base - 1;
    const above = base + size - 2 - own;
    const mask = 2 ** 32 - size;
    return above >= below
      ? new AddressRange(own + 1, base + size - 2, mask)
      : new AddressRange(base + 1, own - 1, mask);
  }

  get texts(): { first: string; last: string; mask: string } {
    return { first: textOf(this.from), last: textOf(this.to), mask: textOf(this.mask) };
  }

  contains(address: string): boolean {
    const number = numberOf(address);
    return number >= this.from && number <= this.to;
  }

  /** The first one that fits. */
  first(fits: (address: string) => boolean): string | undefined {
    for (let number = this.from; number <= this.to; number++) {
      const address = textOf(number);
      if (fits(address)) return address;
    }
    return undefined;
  }

  toString(): string {
    return `${textOf(this.from)} to ${textOf(this.to)}`;
  }
}

function numberOf(address: string): number {
  return address.split(".").reduce((sum, part) => sum * 256 + Number(part), 0);
}

function textOf(number: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join(".");
}
