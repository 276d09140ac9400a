/** A Worker in place of the pump thread: it says that it is ready, and dies at the first order. */

import { parentPort, workerData } from "node:worker_threads";
import type { ThreadData } from "../../src/tunnel/pump-protocol.ts";
import { PATIENCE } from "../lab/eventually.ts";
import { readable } from "./rig.ts";

parentPort?.postMessage({ kind: "ready" });
if (readable((workerData as ThreadData).orders, PATIENCE)) throw new Error("a fault for the test");
