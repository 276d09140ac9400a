/** The checks of the installation on a server: whether all of it is there, and what a WalT server on the machine has changed. */

import { type Check, fault, noted, OK } from "../../doctor/check.ts";
import type { ServerCase } from "./case.ts";

/** Who takes names of ours, for the evidence. */
const SETUP = "WalT's set-up (walt-server-setup) takes names for its own commands";

export const INSTALLATION_CHECKS: readonly Check<ServerCase>[] = [
  {
    id: "installation",
    what: "Of the installed command, units and users none is missing or another program's.",
    after: [],
    look: ({ installed }) => {
      const { parts, users } = installed();
      const cure = "Install again, with the binary of walt: ./walt-linux-ARCH server install";
      for (const { path, finding } of parts) {
        if (finding.is === "foreign")
          return fault(`${path} is another program's: it is ${finding.what}`, SETUP, `rm ${path}. ${cure}`);
      }
      const missing = parts.filter(({ finding }) => finding.is === "absent").map(({ path }) => path);
      const lacks = [...missing, ...users.map((name) => `the user ${name}`)];
      if (lacks.length === 0) return OK;
      return fault(
        `parts of the installation are missing: ${lacks.join(", ")}`,
        "the others are there",
        cure,
      );
    },
  },
  {
    id: "beside-walt",
    what: "Beside a WalT server, walt-net is WalT's alone (`server.network.managed = false`).",
    after: [],
    look: ({ installed, config }) => {
      const { walt, link } = installed();
      const { managed, bridge } = config["server.network"];
      if (walt !== undefined && managed)
        return fault(
          `both WalT and this server make walt-net: ${bridge} is managed`,
          `${walt} is there, and server.network.managed is true`,
          'In vpn.toml: [server.network] managed = false and bridge = "walt-net". Then restart both: systemctl restart walt-vpn walt-server',
        );
      if (link.finding.is !== "foreign") return OK;
      return noted(`${link.path} is WalT's client, or another program: say walt-vpn`);
    },
  },
  {
    id: "plug-in",
    what: "The plug-in that makes `walt vpn` of WalT's client ours is in the environment that the client uses.",
    after: [],
    look: ({ installed }) => {
      const { lostPlugin } = installed();
      if (lostPlugin === undefined) return OK;
      return fault(
        "`walt vpn` of WalT's client is not walt-vpn any more: an upgrade of WalT has made a new environment",
        `the plug-in is in ${lostPlugin}, which the client does not use`,
        "Install it again: walt-vpn server install --plugin (or remove it everywhere: --remove-plugin)",
      );
    },
  },
  {
    id: "own-proxy",
    what: "Where this machine is a proxy too, its sshd reads the keys of the devices.",
    after: [],
    look: ({ installed }) => {
      const { lostKeys } = installed();
      if (lostKeys === undefined) return OK;
      return fault(
        `no device can pass through this machine's sshd: it does not read ${lostKeys.path}`,
        lostKeys.why,
        "Run the script of `walt vpn setup-proxy` again. It makes the user walt-vpn-devices, where another program has walt-vpn; devices then need the entrypoint walt-vpn-devices@THIS-MACHINE.",
      );
    },
  },
];
