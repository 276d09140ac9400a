/** Makes or removes the device's bridge, in whatever network namespace this runs. For bridge.test.ts. */

import { joinBridge, makeBridge, removeBridge } from "../../../src/device/net/bridge.ts";

const [what, argument = ""] = process.argv.slice(2);
if (what === "make") await makeBridge(argument);
else if (what === "join") await joinBridge(argument);
else await removeBridge();
