import { afterAll, beforeAll, expect, test } from "bun:test";
import { allocate, at, EAGAIN, errno, libc } from "../../src/linux/libc.ts";
import { openTap } from "../../src/linux/tap.ts";
import { Holder } from "../lab/namespace.ts";
import { describeWith, LAB } from "../lab/need.ts";

describeWith(LAB, "a TAP", () => {
  let holder: Holder;
  let ns: string;
  beforeAll(async () => {
    holder = await Holder.start("ip link set lo up", []);
    ns = `/proc/${holder.pid}/ns/net`;
  });
  afterAll(() => holder.stop());

  const links = async (): Promise<string[]> => {
    const child = Bun.spawn([...holder.enterNetwork(), "ip", "-j", "link"], { stdout: "pipe" });
    const all: { ifname: string }[] = JSON.parse(await new Response(child.stdout).text());
    return all.map(({ ifname }) => ifname).filter((name) => name !== "lo");
  };

  test("appears in the namespace that is named and nowhere else, and goes with its file descriptor", async () => {
    const { fd, name } = openTap("tap-here", ns);
    expect(name).toBe("tap-here");
    expect(await links()).toEqual(["tap-here"]);
    expect(() => openTap("tap-here", ns)).toThrow(/cannot make the TAP tap-here: .*EBUSY/);
    const memory = allocate(100);
    expect(libc.read(fd, at(memory.address), 100)).toBe(-1);
    expect(errno()).toBe(EAGAIN);
    libc.close(fd);
    expect(await links()).toEqual([]);
    // We are where we were: this one is not in there.
    const own = Bun.spawnSync(["readlink", "/proc/self/ns/net"]).stdout.toString();
    expect(own).toBe(Bun.spawnSync(["readlink", `/proc/${process.pid}/ns/net`]).stdout.toString());
  });

  test("takes a free number for %d", () => {
    const one = openTap("many%d", ns);
    const two = openTap("many%d", ns);
    expect([one.name, two.name]).toEqual(["many0", "many1"]);
    libc.close(one.fd);
    libc.close(two.fd);
  });

  test("says what is wrong", () => {
    for (const name of ["", "sixteen-letters-x", "a/b", "-x", "a b", "a\0b"]) {
      expect(() => openTap(name, ns)).toThrow("is not a valid name for a network interface");
    }
    expect(() => openTap("tap0", "/nowhere")).toThrow("cannot open /nowhere");
    expect(() => openTap("tap0", "/dev/null")).toThrow("cannot enter the network namespace /dev/null");
  });
});
