/** Sparklines: a node's round trip as a line, its loss as bars, and the time in which it was down. */

import type { History } from "../api/history.ts";

const SVG = "http://www.w3.org/2000/svg";

type Samples = Pick<History, "up" | "rtt" | "loss" | "step">;

/** Loss at which a bar is as high as the picture. */
const FULL_LOSS = 0.5;

function shape(tag: string, attributes: Readonly<Record<string, string>>): SVGElement {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** @param width and `height` in units of the picture, which is scaled to its place. */
export function sparkline(samples: Samples, width: number, height: number): SVGElement {
  const { up, rtt, loss } = samples;
  const svg = shape("svg", {
    viewBox: `0 0 ${width} ${height}`,
    preserveAspectRatio: "none",
    role: "img",
    class: "spark",
    "aria-label": wordsOf(samples),
  });
  const step = width / Math.max(1, up.length);
  const top = Math.max(...rtt.map((one) => one ?? 0), 1);
  const bars = (values: readonly (number | null)[], heightOf: (value: number) => number): string =>
    values
      .map((value, index) => {
        const bar = value === null ? 0 : heightOf(value);
        if (bar <= 0) return "";
        const [left, right] = [(index * step).toFixed(2), ((index + 1) * step).toFixed(2)];
        return `M${left} ${height}V${(height - bar).toFixed(2)}H${right}V${height}Z`;
      })
      .join("");
  let line = "";
  let isOn = false;
  for (const [index, value] of rtt.entries()) {
    if (value !== null) {
      const [x, y] = [(index + 0.5) * step, height - 1 - (value / top) * (height - 3)];
      line += `${isOn ? "L" : "M"}${x.toFixed(2)} ${y.toFixed(2)}${isOn ? "" : `h0.01`}`;
    }
    isOn = value !== null;
  }
  svg.append(
    shape("path", { class: "spark-down", d: bars(up, (one) => (1 - one) * height) }),
    shape("path", { class: "spark-loss", d: bars(loss, (one) => Math.min(1, one / FULL_LOSS) * height) }),
    shape("path", { class: "spark-rtt", d: line, "vector-effect": "non-scaling-stroke" }),
  );
  return svg;
}

/** The picture in words. */
function wordsOf({ up, rtt, loss, step }: Samples): string {
  const known = (values: readonly (number | null)[]): number[] => values.filter((one) => one !== null);
  const [times, losses, ups] = [known(rtt), known(loss), known(up)];
  if (ups.length === 0) return "nothing is known of this time";
  const span = Math.round((up.length * step) / 3600);
  const words = [
    `last ${span < 48 ? `${span} h` : `${Math.round(span / 24)} days`}: up ${percent(mean(ups))} of the time`,
  ];
  if (times.length > 0)
    words.push(`round trip ${Math.min(...times).toFixed(1)} to ${Math.max(...times).toFixed(1)} ms`);
  if (losses.length > 0) words.push(`loss ${percent(mean(losses))}`);
  return words.join(", ");
}

const mean = (values: readonly number[]): number => values.reduce((sum, one) => sum + one, 0) / values.length;

export function percent(share: number): string {
  const value = 100 * share;
  return `${value > 0 && value < 10 ? value.toFixed(1) : value.toFixed(0)} %`;
}
