/** The pump thread's beginning: what a Worker of `PumpThread` runs. Its event loop stands still from then on. */

import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { Pump } from "./pump.ts";
import type { ThreadData, ThreadEvent } from "./pump-protocol.ts";

if (!isMainThread && parentPort !== null) {
  const port = parentPort;
  const tell = (event: ThreadEvent): void => port.postMessage(event);
  const { orders, stats } = workerData as ThreadData;
  const pump = new Pump(orders, stats, tell);
  tell({ kind: "ready" });
  pump.run();
}
