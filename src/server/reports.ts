/** The last report of each device, which devices send while their tunnel is up. */

import type { Answer } from "../control/asker.ts";
import { MAX_REPORT, parseReport, type Report } from "../control/report.ts";
import { WaltError } from "../errors.ts";
import { LineCutter } from "../linux/lines.ts";
import { parseJson } from "../parse.ts";
import { SessionLost } from "../ssh/handshake/client-channels.ts";
import type { Device } from "./registry.ts";

export interface ReceivedReport {
  readonly receivedAt: Date;
  readonly facts: Report;
}

/** ms between two reads of a device's reports: one that sends without end takes no more time than that. */
const PAUSE = 250;

export class Reports {
  readonly #reports = new Map<number, ReceivedReport>();

  /**
   * @param give asks a device for its reports.
   * @param failed told why a device sends none, or no more; not when its tunnel ends.
   */
  constructor(
    readonly give: (device: Device) => Promise<Answer>,
    readonly failed: (device: Device, error: unknown) => void,
    /** Told each report. */
    readonly told: (device: Device, facts: Report) => void,
  ) {}

  /** The last report since the server's start. */
  of({ id }: Pick<Device, "id">): ReceivedReport | undefined {
    return this.#reports.get(id);
  }

  /** Take a device's reports until its tunnel ends. */
  follow(device: Device): void {
    void this.#follow(device).catch((error: unknown) => {
      if (!(error instanceof SessionLost)) this.failed(device, error);
    });
  }

  async #follow(device: Device): Promise<void> {
    const answer = await this.give(device);
    try {
      const lines = new LineCutter(MAX_REPORT);
      for (let bytes = await answer.read(); bytes !== undefined; bytes = await answer.read()) {
        // Of several that came at once only the newest counts.
        const newest = lines.push(bytes).at(-1);
        if (newest !== undefined) this.#keep(device, newest);
        await Bun.sleep(PAUSE);
      }
      await answer.done;
      throw new WaltError("the device ended its reports");
    } finally {
      answer.close();
    }
  }

  #keep(device: Device, line: string): void {
    const facts = parseReport(parseJson(line, "report", MAX_REPORT));
    this.#reports.set(device.id, { receivedAt: new Date(), facts });
    this.told(device, facts);
  }
}
