/** Rounds of chaos: in each something goes wrong, and afterwards everything must be as it was. */

import { messageOf } from "../../src/errors.ts";
import { eventually } from "../lab/eventually.ts";
import { Choice } from "./choice.ts";
import { chooseFault, type Fault, roleOf, VICTIMS } from "./faults.ts";
import { differences, type Inventory, inventoryOf, processesOf } from "./inventory.ts";
import { losses, type Possession, possessionsOf } from "./possessions.ts";
import { Site } from "./site.ts";

/** How a round went. */
export interface Round {
  readonly round: number;
  /** What the table calls its fault, or its faults. */
  readonly kind: string;
  /** What happened, in words. */
  readonly faults: readonly string[];
  /** ms from the end of the last fault until all nodes were answered again; 0 when none missed an answer. */
  readonly back: number;
  /** ms until nothing was missing or left over any more, either. */
  readonly whole: number;
}

/** Of 100 rounds so many have several faults in quick succession. */
const SUCCESSIONS = 25;
const MOST_FAULTS = 5;
/** The longest pause between two of them, ms. */
const PAUSE = 2500;
/** ms after which a round has failed. It is far more than any way back takes on a machine with nothing to do. */
const PATIENCE = 120_000;

export interface ChaosOptions {
  readonly seed: number;
  /** The rounds to make, in this order. */
  readonly rounds: readonly number[];
  /** Called after each round. */
  readonly done?: (round: Round) => void;
  /** Ends the chaos after the present round. */
  readonly signal?: AbortSignal;
}

/**
 * Make rounds of chaos in a site of their own, which is taken away in the end.
 * @throws Error naming the seed and the round, when something is lost or left over, or does not come back.
 */
export async function chaos(options: ChaosOptions): Promise<Round[]> {
  await using site = await Site.create();
  const rounds: Round[] = [];
  try {
    const before = await start(site);
    for (const number of options.rounds) {
      if (options.signal?.aborted) break;
      const made = await round(site, options.seed, number, before);
      rounds.push(made);
      options.done?.(made);
    }
  } catch (error) {
    throw new Error(`${messageOf(error)}\n${site.world.logs().slice(-20_000)}`);
  }
  return rounds;
}

/** What was there before the first round, and before the present one. */
interface Before {
  readonly inventories: ReadonlyMap<string, Inventory>;
  possessions: ReadonlyMap<string, Possession>;
}

async function start(site: Site): Promise<Before> {
  await eventually("all nodes are up", () => site.isUp(), { within: PATIENCE, every: 50 });
  // A supervisor that has credentials renews them soon after its start, and writes what else it is told.
  for (const { host } of site.devices)
    for (const { pid, kind } of processesOf(host)) if (kind === "supervisor") site.signal(pid, "SIGKILL");
  for (const device of site.devices)
    await eventually("a first renewal", () => device.hasRenewed, { within: PATIENCE, every: 100 });
  await eventually("all nodes are up again", () => site.isUp(), { within: PATIENCE, every: 50 });
  const isCalm = (): boolean => strangers(site).length === 0;
  await eventually("only what runs all the time runs", isCalm, { within: PATIENCE, every: 100 });
  return { inventories: inventories(site), possessions: await possessionsOf(site) };
}

/** What is there, by role. */
function inventories(site: Site): Map<string, Inventory> {
  const roles = Map.groupBy(site.hosts, roleOf);
  return new Map([...roles].map(([role, hosts]) => [role, inventoryOf(hosts)]));
}

/** Processes that are no victims. */
function strangers(site: Site): string[] {
  return site.hosts.flatMap((host) =>
    processesOf(host).flatMap(({ kind }) => (VICTIMS[roleOf(host)]?.includes(kind) ? [] : [kind])),
  );
}

/** The faults of a round, with the pauses before them, ms. */
function plan(site: Site, choice: Choice): { pause: number; fault: Fault }[] {
  const count = choice.percent(SUCCESSIONS) ? choice.between(2, MOST_FAULTS) : 1;
  return Array.from({ length: count }, (_, i) => ({
    pause: i === 0 ? 0 : choice.between(0, PAUSE),
    fault: chooseFault(site, choice),
  }));
}

async function round(site: Site, seed: number, number: number, before: Before): Promise<Round> {
  const planned = plan(site, new Choice(seed, number));
  const faults = planned.map(({ fault }) => fault.words);
  try {
    let over = 0;
    for (const { pause, fault } of planned) {
      await Bun.sleep(pause); // the moment is what is tried
      over = await fault.befall();
    }
    await eventually("everything is as before", () => wrong(site, before), {
      within: PATIENCE,
      every: 50,
      fits: (what) => what.length === 0,
    });
    const whole = Date.now() - over;
    const back = Math.max(0, ...site.devices.map(({ pings }) => (pings?.pauseEnded ?? 0) - over));
    const possessions = await possessionsOf(site);
    const lost = losses(before.possessions, possessions);
    if (lost.length > 0) throw new Error(lost.join("\n"));
    before.possessions = possessions;
    const [only] = planned;
    const kind = planned.length > 1 || only === undefined ? "several in quick succession" : only.fault.kind;
    return { round: number, kind, faults, back, whole };
  } catch (error) {
    throw new Error(
      `round ${number} of seed ${seed}, ${faults.join("; then ")}: ${messageOf(error)}\n` +
        `This round alone: bun run chaos --seed ${seed} --round ${number}\n` +
        `With all before it: bun run chaos --seed ${seed} --rounds ${number}`,
    );
  }
}

/** What is not as it was before, in words. */
async function wrong(site: Site, before: Before): Promise<string[]> {
  if (!(await site.isUp())) return ["not all nodes are up and answered"];
  const now = inventories(site);
  return [...before.inventories].flatMap(([role, inventory]) =>
    differences(inventory, now.get(role) ?? new Map()).map((what) => `${role}: ${what}`),
  );
}
