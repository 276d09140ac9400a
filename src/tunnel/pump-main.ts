/**
 * The start of the pump thread: the file that the Worker of `PumpThread` runs. The thread's event loop stands
 * still while `Pump.run` runs.
 */

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
