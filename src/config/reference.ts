/** docs/configuration.md, made from the schema: `bun run docs`. */

import { writeFileAtomic } from "../linux/files.ts";
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

if (import.meta.main) {
  const file = process.argv[2] ?? "docs/configuration.md";
  writeFileAtomic(file, configurationReference());
}
