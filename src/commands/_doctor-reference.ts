/** docs/doctor.md, made from the checks: `bun run docs`. */

import { DEVICE_CHECKS } from "../device/doctor/examine.ts";
import type { Check } from "../doctor/check.ts";
import { writeFileAtomic } from "../linux/files.ts";
import { RELAY_CHECKS } from "../proxy/doctor.ts";
import { SERVER_CHECKS } from "../server/doctor/examine.ts";

const INTRO = `# walt doctor

This page is generated from the checks in the source by \`bun run docs\`. Do not edit it.

\`walt doctor\` looks for what is wrong with the machine that it runs on: a server, a relay or a device. The
\`role\` of \`vpn.toml\` says which. Run it as root. It changes nothing, and ends within 20 seconds.

\`\`\`console
# walt doctor
1. No wired network card has an address yet  [address]
   seen: eth0: link, no address
   do:   No DHCP server has answered. Is there one in this network, …

Not looked at, because of address: route, gateway, resolver, name (gate.example.org:22), …
No fault: files, programs, disk, disk-errors, memory, clock, tun, loopback, …
One thing is wrong.
\`\`\`

Faults are listed in the order in which they must be mended. A check is not looked at if a fault that is
listed already would make it fail as well. What could not be found out is listed with the reason.

The exit status is 0 if nothing is wrong, 1 if something is wrong, and 2 if the command was typed wrongly.

\`--json\` prints \`version\`, \`role\`, the number of \`faults\`, the time \`at\` which it began, and \`findings\`. Each
finding has the \`check\`, what it is \`of\` (an entrypoint, or nothing), and \`is\`:

| \`is\` | other fields |
|---|---|
| \`ok\` | \`note\` |
| \`fault\` | \`what\`, \`evidence\`, \`cure\` |
| \`unknown\` | \`why\` |
| \`skipped\` | \`because\`: the check whose fault is the reason |

The names of checks do not change between versions. Texts may change. If \`vpn.toml\` cannot be read, there is
one fault, of the check \`configuration\`.

A device that cannot connect examines itself: after the second failure in a row, or after 15 seconds without a
network, and then every five minutes at most. The first fault is on its screen, in its log
(\`event=doctor\`) and in \`walt device status\`. It leaves out \`supervisor\`, \`bridge\`, \`qemu\` and \`kvm\`.

In the tables below, a check is not looked at if one of the checks in the column "after" found a fault.
`;

const TITLES = { Server: SERVER_CHECKS, Relay: RELAY_CHECKS, Device: DEVICE_CHECKS } as const;
const PARTS: Readonly<Record<string, string>> = {
  Device: "The checks from `name` to `server` are done for each entrypoint.",
};

/** The whole page. */
export function doctorReference(): string {
  const parts = Object.entries(TITLES).map(([title, checks]) => {
    const more = PARTS[title] === undefined ? "" : `${PARTS[title]}\n\n`;
    const rows = (checks as readonly Pick<Check<never>, "id" | "what" | "after">[]).map(
      ({ id, what, after }) => `| \`${id}\` | ${what} | ${after.map((one) => `\`${one}\``).join(", ")} |`,
    );
    return `\n## ${title}\n\n${more}| check | what must be right | after |\n|---|---|---|\n${rows.join("\n")}\n`;
  });
  return `${INTRO}${parts.join("")}`;
}

if (import.meta.main) writeFileAtomic(`${process.argv[2] ?? "docs"}/doctor.md`, doctorReference());
