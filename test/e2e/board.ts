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
import { Qmp } from "../../src/device/vm/qmp.ts";
import { MIB, parseMasterBootRecord } from "../../src/image/disk/disk.ts";
import { readFat } from "../../src/image/disk/fat.ts";
import { eventually } from "../lab/eventually.ts";
import type { Host } from "../lab/host.ts";
import type { LabProcess } from "../lab/process.ts";
import { parseWrites, SECTOR, sectorsWritten, type Write } from "./write-log.ts";

/**
 * The hubs that a real board has (src/device/usb/ports.ts): its wired network card is port 1.1.1, its sockets are 1.1.2, 1.1.3,
 * 1.2 and 1.3. QEMU's hubs are full-speed ones, as is all that hangs on them.
 */
const HUBS = ["1", "1.1"];
const NETWORK_CARD = "1.1.1";

const BOOT_FILES = ["kernel8.img", "initramfs.img", "cmdline.txt", "bcm2837-rpi-3-b-plus.dtb"] as const;

/** QEMU's log of what is written to the card. */
const WRITES = "card.writes";

/** A file as a part of one of QEMU's drives. */
const storage = (part: string, path: string): string =>
  `${part}.driver=raw,${part}.file.driver=file,${part}.file.filename=${path}`;

export class Board {
  #process: LabProcess | undefined;
  /** Everything that its serial console said in earlier boots. */
  readonly consoles: string[] = [];
  /** Files with the content of the sticks in its sockets, by the sockets' names. */
  readonly #sticks = new Map<string, string>();
  /** Sticks so far: QEMU's names of them. */
  #stick = 0;

  private constructor(
    readonly host: Host,
    readonly folder: string,
    /** What the card was written with. */
    readonly image: string,
    /** Of its network card. */
    readonly mac: string,
    /** Sectors that its card takes in a second at most. */
    readonly writeSpeed: number,
  ) {}

  /**
   * Insert a card with this image into a new board.
   * @param host plugged into a network; its own addresses there are given up for the board.
   * @param writeSpeed sectors that the card takes in a second at most; as many as come unless told.
   */
  static async create(host: Host, image: string, mac: string, writeSpeed = 0): Promise<Board> {
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
    return new Board(host, folder, image, mac, writeSpeed);
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
    writeFileSync(this.host.path(file(WRITES)), "");
    const card = `if=sd,driver=blklogwrites,${storage("file", file("card"))},${storage("log", file(WRITES))}`;
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
      "-drive", `${card},throttling.iops-write=${this.writeSpeed}`,
      "-netdev", "tap,id=net0,ifname=tap0,script=no,downscript=no",
      ...HUBS.flatMap((port) => ["-device", `usb-hub,port=${port}`]),
      "-device", `usb-net,netdev=net0,mac=${this.mac},port=${NETWORK_CARD}`,
      ...[...this.#sticks].flatMap(([socket, stick]) => [
        "-drive", `if=none,id=drive-${stick},format=raw,file=${file(stick)}`,
        "-device", `usb-storage,id=${stick},drive=drive-${stick},port=${socket}`,
      ]),
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

  /** Sectors that were written to the card since it was switched on. */
  get written(): number {
    return sectorsWritten(statSync(this.host.path(join(this.folder, WRITES))).size);
  }

  /** What was written to the card since it was last switched on, in its order. */
  writes(): Write[] {
    return parseWrites(readFileSync(this.host.path(join(this.folder, WRITES))));
  }

  /** Pull the plug as soon as so many sectors were written since it was switched on; how many it were. */
  async cutPowerAt(sectors: number, timeout: number): Promise<number> {
    const written = (): number => {
      if (this.#process?.ended !== undefined)
        throw new Error(`${this.host.name} ended (${this.#process.ended})`);
      return this.written;
    };
    const enough = (n: number): boolean => n >= sectors;
    await eventually(`${sectors} sectors are written`, written, { fits: enough, within: timeout, every: 1 });
    await this.cutPower();
    return this.written;
  }

  /** Put a USB stick with this content into a socket (`1.1.2`) of the board, be it on or off. */
  async plug(socket: string, content: Uint8Array): Promise<void> {
    const stick = `stick${++this.#stick}`;
    const file = join(this.folder, stick);
    writeFileSync(this.host.path(file), content);
    this.#sticks.set(socket, stick);
    if (this.#process === undefined) return;
    await this.#qmp(async (qmp) => {
      const drive = `drive-${stick}`;
      const storage = { driver: "file", filename: file };
      await qmp.execute("blockdev-add", { driver: "raw", "node-name": drive, file: storage });
      await qmp.execute("device_add", { driver: "usb-storage", id: stick, drive, port: socket });
    });
  }

  /** Pull the stick out of a socket. */
  async pull(socket: string): Promise<void> {
    const id = this.#sticks.get(socket);
    if (id === undefined) throw new Error(`there is no stick in ${this.host.name}'s socket ${socket}`);
    this.#sticks.delete(socket);
    if (this.#process !== undefined) await this.#qmp((qmp) => qmp.execute("device_del", { id }));
  }

  async #qmp(body: (qmp: Qmp) => Promise<unknown>): Promise<void> {
    const qmp = await Qmp.connect(this.host.path(join(this.folder, "qmp.sock")));
    if (qmp === undefined) throw new Error(`${this.host.name}'s QEMU does not listen`);
    try {
      await body(qmp);
    } finally {
      qmp.stop();
    }
  }

  /**
   * From now on a reset restarts it, as it does with a real board. Otherwise it is the end of QEMU, so that a kernel that
   * panics is noticed.
   */
  async allowReset(): Promise<void> {
    await this.#qmp((qmp) => qmp.execute("set-action", { reboot: "reset" }));
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
    const { start, size } = this.#state;
    const fd = openSync(this.#card, "r+");
    try {
      writeSync(fd, randomBytes(size), 0, size, start);
    } finally {
      closeSync(fd);
    }
  }

  /** The card's state partition: its content, and where it is on the card, bytes. The board is off. */
  readState(): { content: Buffer; start: number } {
    const { start, size } = this.#state;
    const content = Buffer.alloc(size);
    const fd = openSync(this.#card, "r");
    try {
      readSync(fd, content, 0, size, start);
    } finally {
      closeSync(fd);
    }
    return { content, start };
  }

  get #card(): string {
    return this.host.path(join(this.folder, "card"));
  }

  get #state(): { start: number; size: number } {
    const fd = openSync(this.#card, "r");
    try {
      const sector = Buffer.alloc(SECTOR);
      readSync(fd, sector, 0, SECTOR, 0);
      return parseMasterBootRecord(sector, statSync(this.image).size, this.#card).state;
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
