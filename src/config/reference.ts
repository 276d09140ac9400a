/** docs/configuration.md and docs/log-events.md, made from their tables: `bun run docs`. */

import { writeFileAtomic } from "../linux/files.ts";
import { LOG_EVENTS } from "../log-events.ts";
import type { Key } from "./keys.ts";
import { TABLES, type TableName } from "./schema.ts";

const INTRO = `# Configuration reference

This page is generated from \`src/config/schema.ts\` by \`bun run docs\`. Do not edit it.

The file \`vpn.toml\` sets the role of a machine and its settings. The program uses the first of these that is given:

1. the option \`--config FILE\`
2. the environment variable \`WALT_CONFIG\`
3. \`/etc/walt/vpn.toml\`, if it exists

Every key has a default. An unknown key is an error, and so is a value that is not allowed. \`walt config check\` checks a file.
\`walt config show\` prints every key, its value, and where the value comes from.

A duration is a number and a unit: \`s\`, \`m\`, \`h\` or \`d\`.

\`\`\`toml
role = "server"          # or "proxy" or "device": what \`walt run\` does

[server]
address = "walt.lab.example:2222"
\`\`\`

| key | default | allowed | meaning |
|---|---|---|---|
| \`role\` | none | \`"server"\` or \`"proxy"\` or \`"device"\` | The role of this machine. |
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

This page is generated from \`src/log-events.ts\` by \`bun run docs\`. Do not edit it.

Each log line of the server, the relay and the device has a field \`event=\`. Scripts and alerts should match this field. It does
not change between versions. The text of a line may change.

| event | meaning |
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
