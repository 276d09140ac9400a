/** The architectures that systems are built for, and what each is called by whom. */

/** One architecture. */
export interface Architecture {
  /** Debian's name. */
  readonly debian: "arm64" | "amd64";
  /** The folder of its libraries in /usr/lib: Debian's multiarch tuple. */
  readonly libraries: string;
  /** e_machine in ELF files: EM_AARCH64 and EM_X86_64 of elf.h. */
  readonly machine: number;
  /** iPXE's name, by which the server's boot files are found. */
  readonly ipxe: "arm64" | "x86_64";
  /** The virtual machine's serial console, as its kernel calls it. */
  readonly console: string;
}

export const ARM64: Architecture = {
  debian: "arm64",
  libraries: "aarch64-linux-gnu",
  machine: 183,
  ipxe: "arm64",
  console: "ttyAMA0",
};

export const AMD64: Architecture = {
  debian: "amd64",
  libraries: "x86_64-linux-gnu",
  machine: 62,
  ipxe: "x86_64",
  console: "ttyS0",
};

/** By Debian's names. */
export const ARCHITECTURES = { arm64: ARM64, amd64: AMD64 } as const;
