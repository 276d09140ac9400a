/** docs/configuration.md and docs/log-events.md, made from their tables: `bun run docs`. */

import { writeFileAtomic } from "../linux/files.ts";
import { LOG_EVENTS } from "../log-events.ts";
import type { Key } from "./keys.ts";
import { TABLES, type TableName } from "./schema.ts";

const INTRO = `# Configuration reference

Made from the schema in \`src/config/schema.ts\` by \`bun run docs\`; do not edit by hand.

One file, \`vpn.toml\`, chooses the role of a machine and holds its settings. It is looked for in this order: \`--config FILE\`,
the environment variable \`WALT_CONFIG\`, \`/etc/walt/vpn.toml\`. Every key has a default; an unknown key or a value of the wrong
kind is an error. \`walt config check\` checks a file, \`walt config show\` prints every value and where it came from.

\`\`\`toml
role = "server"          # or "proxy" or "device": what \`walt run\` does

[server]
address = "walt.lab.example:2222"
\`\`\`

| key | default | must be | what it is |
|---|---|---|---|
| \`role\` | none | \`"server"\` or \`"proxy"\` or \`"device"\` | What this machine is. |
`;

/** The whole page. */
export function configurationReference(): string {
  const rows: string[] = [];
  for (const table of Object.keys(TABLES) as TableName[]) {
    const keys: Record<string, Key<unknown>> = TABLES[table];
    for (const [name, key] of Object.entries(keys)) {
      const fallback = key.show(key.default);
      rows.push(
        `| \`${table}.${name}\` | ${fallback === '""' ? "none" : `\`${fallback}\``} | ${key.allowed} | ${key.doc} |`,
      );
    }
  }
  return `${INTRO}${rows.join("\n")}\n`;
}

const EVENTS_INTRO = `# Events of the log

Made from \`src/log-events.ts\` by \`bun run docs\`; do not edit by hand.

Each line of the log of server, relay and device has a field \`event=\`. The words of a line are for people, and may change with any
version. The event stays: scripts and alerts match it.

| event | what happened |
|---|---|
`;

/** The whole page of docs/log-events.md. */
export function logEventsReference(): string {
  const rows = Object.entries(LOG_EVENTS).map(([event, what]) => `| \`${event}\` | ${what} |`);
  return `${EVENTS_INTRO}${rows.join("\n")}\n`;
}

if (import.meta.main) {
  const folder = process.argv[2] ?? "docs";
  writeFileAtomic(`${folder}/configuration.md`, configurationReference());
  writeFileAtomic(`${folder}/log-events.md`, logEventsReference());
}
