/** A reboot of the whole board: by its init, else by the kernel, and never of a container. */

import { expect, test } from "bun:test";
import { INIT_TAKES, prepareReboot, type RebootSystem } from "../../../src/device/boot/reboot-board.ts";
import { alsoTo, createLog } from "../../../src/log.ts";
import { turn } from "../../lab/eventually.ts";

/** A board that writes down what is done to it. */
function board(more: Partial<RebootSystem> = {}) {
  const did: string[] = [];
  const waits = Promise.withResolvers<void>();
  const system: RebootSystem = {
    isWhole: () => true,
    askInit: async () => void did.push("init"),
    force: () => void did.push("kernel"),
    wait: async (ms) => {
      did.push(`wait ${ms}`);
      await waits.promise;
    },
    ...more,
  };
  const log = alsoTo(createLog(-999), ({ level, text }) =>
    did.push(`${level} ${text.replace(/ event=.*/, "")}`),
  );
  return { did, late: waits.resolve, reboot: () => prepareReboot(log, system) };
}

test("init is asked, and the kernel only once init has had its time", async () => {
  const { did, late, reboot } = board();
  const begin = reboot();
  expect(did).toEqual([]);
  await begin();
  const before = ["warn the board reboots", "init", `wait ${INIT_TAKES}`];
  expect(did).toEqual(before);
  await turn();
  expect(did).toEqual(before);
  late();
  await turn();
  expect(did.slice(before.length)).toEqual([
    "error the kernel reboots the board at once: init has not rebooted it within 90 s",
    "kernel",
  ]);
});

test("without an init that reboots, the kernel does it at once", async () => {
  const askInit = () => Promise.reject(new Error("no reboot program"));
  const { did, reboot } = board({ askInit });
  await reboot()();
  expect(did).toEqual([
    "warn the board reboots",
    "error the kernel reboots the board at once: no reboot program",
    "kernel",
  ]);
});

test("a kernel that does not either is told in the log, and nothing is thrown", async () => {
  const { did, reboot } = board({
    askInit: () => Promise.reject(new Error("no reboot program")),
    force: () => {
      throw new Error("EROFS");
    },
  });
  await reboot()();
  expect(did.at(-1)).toBe("error the kernel does not reboot the board: EROFS");
});

test("a container is not rebooted, and that is said before anything is done", () => {
  const { did, reboot } = board({ isWhole: () => false });
  expect(reboot).toThrow("the device runs in a container, so it cannot reboot the board");
  expect(did).toEqual([]);
});
