/** `walt proxy run` */

import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { formatHostPort } from "../../address.ts";
import { loadConfig, requireRole } from "../../config/load.ts";
import { requireDescriptors } from "../../linux/limits.ts";
import { notifySystemd } from "../../linux/notify.ts";
import { aborted } from "../../linux/sleep.ts";
import { createLog } from "../../log.ts";
import { fingerprint } from "../../ssh/keys/ed25519.ts";
import { loadOrCreateKey } from "../../ssh/keys/key-files.ts";
import { command, configOption, untilStopped } from "../_command.ts";
import { proxySettings } from "./_settings.ts";

export default command({
  name: "walt proxy run",
  description: "Run a relay: a proxy without sshd, for example in a container",
  examples: ["walt proxy run --config ./vpn.toml"],
  args: { ...configOption },
  async run(args) {
    const config = requireRole(loadConfig(args.config), "proxy");
    const { next, cas, enrolments } = proxySettings(config);
    requireDescriptors();
    const log = createLog();
    const signal = untilStopped();
    mkdirSync(config.proxy.state, { recursive: true });
    const hostKey = loadOrCreateKey(join(config.proxy.state, "proxy_host_key"), "walt-proxy");
    const { Relay } = await import("../../proxy/relay.ts");
    const listen = config.proxy.listen ?? { host: "::", port: 22 };
    const relay = await Relay.start({ listen, next, cas, enrolments, hostKey, log });
    log.info("proxy is ready", {
      event: "relay-ready",
      listen: formatHostPort(relay.address),
      next: formatHostPort(next),
      hostKey: fingerprint(hostKey.publicKey),
    });
    notifySystemd("READY=1");
    await aborted(signal);
    notifySystemd("STOPPING=1");
    await relay.stop();
    log.info("proxy stops", { event: "relay-stops" });
  },
});
