/** A strict reader of Prometheus' text format 0.0.4: what it does not like is an error, with the line. */

export interface Metric {
  type: string;
  help: string;
  /** Labels as `name="value",…` in the order in which they stand, "" without; values. */
  samples: Map<string, number>;
}

const NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*";
const LABEL = String.raw`[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"`;
const SAMPLE = new RegExp(`^(${NAME})(?:\\{(${LABEL}(?:,${LABEL})*)\\})? (\\S+)$`);
/** Units that are no base units. */
const UNITS = /_(ms|milliseconds|minutes|kb|mb|bits|percent)(_|$)/;

/** The metrics of a page. @throws Error naming the line that is wrong. */
export function parseExposition(text: string): Map<string, Metric> {
  const metrics = new Map<string, Metric>();
  if (!text.endsWith("\n")) throw new Error("the last line has no end");
  let current: { name: string; metric: Metric } | undefined;
  let help: { name: string; text: string } | undefined;
  for (const line of text.slice(0, -1).split("\n")) {
    const wrong = (why: string): Error => new Error(`${why}: ${JSON.stringify(line)}`);
    const said = new RegExp(`^# HELP (${NAME}) ((?:[^\\\\]|\\\\[\\\\n])+)$`).exec(line);
    const typed = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram|summary|untyped)$`).exec(line);
    const sample = SAMPLE.exec(line);
    if (said !== null) {
      help = { name: said[1] ?? "", text: said[2] ?? "" };
    } else if (typed !== null) {
      const [, name = "", type = ""] = typed;
      if (help?.name !== name) throw wrong("no HELP before this TYPE");
      if (metrics.has(name)) throw wrong("a second time");
      if ((type === "counter") !== name.endsWith("_total"))
        throw wrong("counters, and only they, are totals");
      if (UNITS.test(name)) throw wrong("no base unit");
      current = { name, metric: { type, help: help.text, samples: new Map() } };
      metrics.set(name, current.metric);
    } else if (sample !== null) {
      const [, name = "", labels = "", value = ""] = sample;
      if (current?.name !== name) throw wrong("a sample that is not below its TYPE");
      if (!/^([+-]?(\d+(\.\d+)?([eE][+-]?\d+)?|Inf)|NaN)$/.test(value)) throw wrong("no number");
      if (current.metric.samples.has(labels)) throw wrong("the same sample again");
      if (current.metric.type === "counter" && Number(value) < 0) throw wrong("a counter below zero");
      current.metric.samples.set(labels, Number(value.replace("Inf", "Infinity")));
    } else {
      throw wrong("neither HELP, TYPE nor a sample");
    }
  }
  for (const [name, { samples }] of metrics) if (samples.size === 0) throw new Error(`${name} has no sample`);
  return metrics;
}
