/** Prometheus' text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). */

export const CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8";

export interface Sample {
  /** Names are letters, digits and underscores; values any text. */
  readonly labels?: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A metric: its name tells the unit, and that of a counter ends in `_total`. */
export interface Family {
  readonly name: string;
  readonly type: "counter" | "gauge";
  readonly help: string;
  readonly samples: readonly Sample[];
}

/** The page that is scraped. Metrics without a sample are left out. */
export function exposition(families: readonly Family[]): string {
  return families.map((family) => (family.samples.length === 0 ? "" : pageOf(family))).join("");
}

function pageOf({ name, type, help, samples }: Family): string {
  const words = help.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
  const lines = samples.map(({ labels = {}, value }) => `${name}${labelsOf(labels)} ${numberOf(value)}\n`);
  return `# HELP ${name} ${words}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function labelsOf(labels: Readonly<Record<string, string>>): string {
  const all = Object.entries(labels).map(([name, value]) => {
    const escaped = value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
    return `${name}="${escaped}"`;
  });
  return all.length === 0 ? "" : `{${all.join(",")}}`;
}

/** As Go's ParseFloat reads it. */
function numberOf(value: number): string {
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "+Inf" : "-Inf";
  return String(value);
}
