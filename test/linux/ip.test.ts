import { expect, test } from "bun:test";
import { ipBatch, ipJson } from "../../src/linux/ip.ts";
import { describeWith, LAB } from "../lab/need.ts";

// Only looks, and changes that fail: the machine's own network stays as it is.
describeWith(LAB, "ip", () => {
  test("a batch that fails names the line, and what ip says of it", async () => {
    await expect(ipBatch(["link show lo", "link set nowhere0 up", "link show lo"])).rejects.toThrow(
      /^ip link set nowhere0 up failed: .*nowhere0/,
    );
    await expect(ipBatch(["link frobnicate"])).rejects.toThrow(/^ip link frobnicate failed: .*frobnicate/);
  });

  test("a batch that works, and an empty one", async () => {
    await ipBatch(["link show lo", "address show lo"]);
    await ipBatch([]);
  });

  test("a line break cannot smuggle a second command in", async () => {
    await expect(ipBatch(["link show lo\nlink show lo"])).rejects.toThrow("has a line break");
  });

  test("JSON as ip prints it", async () => {
    expect(await ipJson(["link", "show", "lo"])).toMatchObject([{ ifname: "lo" }]);
    expect(await ipJson(["neigh", "show", "dev", "lo"])).toEqual([]);
    await expect(ipJson(["link", "show", "nowhere0"])).rejects.toThrow(/nowhere0/);
  });
});
