/**
 * A Raspberry Pi 3 B+ of the laboratory: QEMU's raspi3b with the card's own kernel, device tree, initramfs and command line (it
 * runs no VideoCore firmware, which would read them), on a network of the laboratory by a TAP.
 */

import { randomBytes } from "node:crypto";
import {
  closeSync,
  copyFileSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { MIB, parseMasterBootRecord } from "../../src/image/disk.ts";
import { readFat } from "../../src/image/fat.ts";
import type { Host } from "../lab/host.ts";
import type { LabProcess } from "../lab/process.ts";

const BOOT_FILES = ["kernel8.img", "initramfs.img", "cmdline.txt", "bcm2837-rpi-3-b-plus.dtb"] as const;

export class Board {
  #process: LabProcess | undefined;
  /** Everything that its serial console said in earlier boots. */
  readonly consoles: string[] = [];

  private constructor(
    readonly host: Host,
    readonly folder: string,
    /** What the card was written with. */
    readonly image: string,
    /** Of its network card. */
    readonly mac: string,
  ) {}

  /**
   * Insert a card with this image into a new board.
   * @param host plugged into a network; its own addresses there are given up for the board.
   */
  static async create(host: Host, image: string, mac: string): Promise<Board> {
    const folder = join(host.dir, "board");
    const inside = host.path(folder);
    mkdirSync(inside);
    const card = join(inside, "card");
    copyFileSync(image, card);
    let size = 64 * MIB;
    while (size < statSync(image).size) size *= 2; // QEMU takes a card only of such a size
    truncateSync(card, size);
    for (const name of BOOT_FILES) writeFileSync(join(inside, name), await readFat(image, MIB, name));
    const { device } = host.port();
    await host.ip(
      "link add br0 type bridge stp_state 0 forward_delay 0",
      "tuntap add dev tap0 mode tap",
      `address flush dev ${device}`,
      `link set ${device} master br0`,
      "link set tap0 master br0 up",
      "link set br0 up",
    );
    return new Board(host, folder, image, mac);
  }

  /** Its serial console, as a process whose output it is. */
  get console(): LabProcess {
    if (this.#process === undefined) throw new Error(`${this.host.name} is not switched on`);
    return this.#process;
  }

  /** Switch it on. */
  async powerOn(): Promise<LabProcess> {
    const file = (name: string): string => join(this.folder, name);
    const cmdline = (await Bun.file(this.host.path(file("cmdline.txt"))).text()).trim();
    // biome-ignore format: one option a line
    this.#process = this.host.spawn([
      "qemu-system-aarch64",
      "-M", "raspi3b",
      "-no-reboot",
      "-nodefaults",
      "-display", "none",
      "-chardev", "stdio,id=console,signal=off",
      "-serial", "null",
      "-serial", "chardev:console",
      "-qmp", `unix:${file("qmp.sock")},server=on,wait=off`,
      "-kernel", file("kernel8.img"),
      "-initrd", file("initramfs.img"),
      "-dtb", file("bcm2837-rpi-3-b-plus.dtb"),
      "-append", cmdline,
      "-drive", `if=sd,format=raw,file=${file("card")}`,
      "-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no",
      "-device", `usb-net,netdev=net0,mac=${this.mac}`,
    ]);
    return this.#process;
  }

  /** Pull the plug: nothing that was not on the card is there afterwards. */
  async cutPower(): Promise<void> {
    if (this.#process === undefined) return;
    await this.#process.stop("SIGKILL", { tree: true });
    this.consoles.push(this.#process.output);
    this.#process = undefined;
  }

  /** Another initramfs than the card's own, for a comparison. */
  replaceInitramfs(data: Uint8Array): void {
    writeFileSync(this.host.path(join(this.folder, "initramfs.img")), data);
  }

  /** The card's initramfs. */
  initramfs(): Buffer {
    return readFileSync(this.host.path(join(this.folder, "initramfs.img")));
  }

  /** Overwrite the whole of the card's state partition: what no fsck repairs. The board is off. */
  damageState(): void {
    const card = this.host.path(join(this.folder, "card"));
    const fd = openSync(card, "r+");
    try {
      const sector = Buffer.alloc(512);
      readSync(fd, sector, 0, sector.length, 0);
      const { state } = parseMasterBootRecord(sector, statSync(this.image).size, card);
      writeSync(fd, randomBytes(state.size), 0, state.size, state.start);
    } finally {
      closeSync(fd);
    }
  }

  /** All that its serial console said, boot after boot. */
  log(): string {
    return [...this.consoles, ...(this.#process === undefined ? [] : [this.#process.output])].join(
      "\n--- power cut\n",
    );
  }
}
