/**
 * Whether a firewall swallows the frames between the ports of a bridge: with br_netfilter they pass the chain
 * FORWARD of iptables, whose policy docker sets to DROP.
 */

import type { Machine } from "../../doctor/machine.ts";

/** Whether all bridges of this network namespace ask iptables. */
const NF_CALL = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/** Where systemd hides /proc/sys (ProcSubset=pid), only the first of these is there. */
const PROC = "/proc/self/comm";
const PROC_SYS = "/proc/sys/kernel/ostype";

/** The part of a machine that is looked at. */
type Looked = Pick<Machine, "run" | "read">;

/** What becomes of the frames, and what shows it. */
export interface Filter {
  readonly is: "passes" | "drops" | "unknown";
  readonly shown: string;
}

/** The fault in words. */
export function filterText(bridge: string): string {
  return `the firewall drops frames between the ports of ${bridge}: nodes do not reach each other nor walt-net, while all is "up"`;
}

/** The two commands of which either cures it. */
export function filterCure(bridge: string): string {
  return `iptables ${ruleOf(bridge, "-I").join(" ")}; or for all bridges of the machine: sysctl -w net.bridge.bridge-nf-call-iptables=0. Make it last over reboots, as docker sets it again.`;
}

/** Look. @throws WaltError when a file cannot be read. */
export async function filterOf(machine: Looked, bridge: string): Promise<Filter> {
  const by = await callerOf(machine, bridge);
  if (by === undefined) return { is: "passes", shown: "the bridge's frames do not pass iptables" };
  const policy = await forwardPolicy(machine, bridge);
  if (policy === undefined) {
    return {
      is: "unknown",
      shown: `the bridge's frames pass iptables (${by}), and neither iptables nor nft shows the rules: is one of them installed, and is this run as root?`,
    };
  }
  return policy.passes
    ? { is: "passes", shown: `the bridge's frames pass iptables, and ${policy.shown}` }
    : { is: "drops", shown: `${by}; ${policy.shown}` };
}

/** What has the bridge's frames pass iptables; undefined if nothing does. */
async function callerOf(machine: Looked, bridge: string): Promise<string | undefined> {
  for (const path of [NF_CALL, `/sys/class/net/${bridge}/bridge/nf_call_iptables`])
    if ((await machine.read(path))?.trim() === "1") return `${path} is 1`;
  const [anything, system] = await Promise.all([machine.read(PROC), machine.read(PROC_SYS)]);
  const isHidden = anything !== undefined && system === undefined;
  return isHidden ? "/proc/sys is hidden, so that br_netfilter may be on" : undefined;
}

/** Let the frames of a bridge pass, by one rule, however often this is called. @returns whether the rule is there. */
export async function letPass(machine: Looked, bridge: string): Promise<boolean> {
  if ((await machine.run(["iptables", ...ruleOf(bridge, "-C")]))?.status === 0) return true;
  return (await machine.run(["iptables", ...ruleOf(bridge, "-I")]))?.status === 0;
}

/** Remove the rule of `letPass`, if it is there. */
export async function letPassNoMore(machine: Looked, bridge: string): Promise<void> {
  await machine.run(["iptables", ...ruleOf(bridge, "-D")]);
}

function ruleOf(bridge: string, action: "-C" | "-I" | "-D"): string[] {
  return [action, "FORWARD", "-i", bridge, "-o", bridge, "-j", "ACCEPT"];
}

/** Whether frames from a bridge to itself pass the chain FORWARD; undefined if that cannot be seen. */
async function forwardPolicy(
  machine: Looked,
  bridge: string,
): Promise<{ passes: boolean; shown: string } | undefined> {
  // The rules of one are not shown by the other.
  const commands = ["iptables", "iptables-legacy"].map((name) => machine.run([name, "-S", "FORWARD"]));
  const shown = (await Promise.all(commands)).filter((ran) => ran?.status === 0);
  const rules = shown.find((ran) => /^-P FORWARD (DROP|REJECT)$/m.test(ran?.stdout ?? ""));
  if (shown.length > 0 && rules === undefined)
    return { passes: true, shown: "the policy of FORWARD is ACCEPT" };
  if (rules !== undefined) {
    const accepts = rules.stdout
      .split("\n")
      .find((line) => line.includes(` ${bridge} `) && /-j ACCEPT$/.test(line));
    if (accepts !== undefined) return { passes: true, shown: `there is ${accepts}` };
    return { passes: false, shown: "-P FORWARD DROP (iptables -S FORWARD)" };
  }
  const all = await machine.run(["nft", "list", "ruleset"]);
  if (all?.status !== 0) return undefined;
  const drops = /type filter hook forward priority [^;]+; policy drop;/.test(all.stdout);
  const names = all.stdout.includes(`"${bridge}"`);
  if (!drops) return { passes: true, shown: "no chain of the hook forward has the policy drop" };
  return names
    ? { passes: true, shown: `rules of nft name ${bridge}` }
    : { passes: false, shown: "a chain of the hook forward has the policy drop (nft list ruleset)" };
}
