/** `walt vpn setup-node` for SD cards, on a small base: image, settings, what is refused before anything is asked, --flash. */

import { expect, test } from "bun:test";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { MIB } from "../../src/image/disk/disk.ts";
import { readFat } from "../../src/image/disk/fat.ts";
import type { RunResult } from "../../src/linux/run.ts";
import { smallBase } from "../image/rig.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

const TOOLS = { programs: ["mkfs.vfat", "mcopy", "losetup", "zstd"], files: ["/dev/loop0"] };

describeWith([...INTEGRATION, TOOLS], "SD card", () => {
  test("the image has the entrypoint's pinned keys, the enrolment key and the settings; bad ones are refused at once", async () => {
    await using world = await World.create();
    const { server } = world;
    const base = await smallBase(world.lab.dir);
    const [proxy] = world.proxies;
    server.hosts({ [proxy?.name ?? ""]: proxy?.host.address("lan1") ?? "" });
    const setup = (...more: string[]): Promise<RunResult> =>
      world.walt(server, "vpn", "setup-node", "--entrypoint", proxy?.name ?? "", "--base", base, ...more);

    await server.must(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ada", "-f", "id"]);
    const made = await setup(
      "--yes",
      "--hostname",
      "roof",
      "--address",
      "10.0.0.3/24",
      "--gateway",
      "10.0.0.1",
      "--vlan",
      "7",
      "--ntp",
      "ntp.example.org,192.0.2.9",
      "--ssh-key",
      "id.pub",
    );
    expect(made.stderr).toMatch(/SHA256:\S+ .*ED25519/);
    expect(made).toMatchObject({ status: 0 });
    const image = server.path(join(server.dir, "rpi3bp-vpn.dd")); // in the current directory
    const text = async (name: string): Promise<string> =>
      Buffer.from((await readFat(image, MIB, name)) ?? "").toString();
    expect(await text("vpn.toml")).toMatch(
      /entrypoint = "gate1\.example\.org:22"\nserver = "walt\.lab\.example:2222"\nboard = "rpi-3-b-plus"/,
    );
    const known = await text("known_hosts");
    for (const key of proxy?.sshd.hostKeys ?? []) expect(known).toContain(`gate1.example.org:22 ${key}\n`);
    expect(known).toMatch(/^walt-server ssh-ed25519 /m);
    expect(await text("enrolment_key")).toMatch(/^-----BEGIN OPENSSH PRIVATE KEY-----/);
    expect(await text("os.txt")).toBe(
      "hostname roof\nvlan 7\naddress 10.0.0.3/24\ngateway 10.0.0.1\nntp ntp.example.org\nntp 192.0.2.9\n",
    );
    expect(await text("authorized_keys")).toBe(await server.must(["cat", "id.pub"]));
    await server.must(["sha256sum", "-c", "rpi3bp-vpn.dd.sha256"]);

    for (const [more, status, said] of [
      [[], 1, /rpi3bp-vpn\.dd exists already/],
      [
        ["-o", "b.dd", "--address", "10.0.0.3"],
        2,
        /address "10\.0\.0\.3" is not an IPv4 address with prefix length/,
      ],
      [["-o", "b.dd", "--vlan", "5000"], 2, /vlan/],
      [["-o", "b.dd", "--ntp", "a b"], 2, /ntp "a b" is not a host name/],
      [["-o", "b.dd", "--ssh-key", "id"], 2, /id is a private key, which must not be in an image/],
      [["--board", "generic", "--ssh-key", "id.pub"], 2, /is for an SD card/],
      [["-o", "/nowhere/b.dd"], 1, /\/nowhere does not exist/],
      [["--board", "generic", "--compress"], 2, /--compress is for an SD card/],
      [["--flash", "/dev/null"], 2, /\/dev\/null is not a block device/],
      [["--flash", "/dev/loop0", "-o", "b.dd"], 2, /-o and --compress cannot be used with it/],
    ] as const) {
      const { stderr, ...refused } = await setup(...more);
      expect([more, refused.status]).toEqual([more, status]);
      expect(stderr).toMatch(said);
      expect(stderr).not.toMatch(/Host keys of/); // before anything was asked
    }
    expect(existsSync(server.path(join(server.dir, "b.dd")))).toBe(false);
    expect((await setup("--yes", "--compress", "-o", "c.dd")).status).toBe(0);
    await server.must(["zstd", "-qt", "c.dd.zst"]);
  }, 120_000);

  test("--flash writes to the card and reads it back; what is no card is refused", async () => {
    await using world = await World.create({ proxies: 0 });
    const { server } = world;
    const base = await smallBase(world.lab.dir);
    await server.must(["sh", "-c", "truncate -s 100M card && losetup --find --show card > device"]);
    const device = (await server.must(["cat", "device"])).trim();
    try {
      const flash = (...more: string[]): Promise<RunResult> =>
        world.walt(
          server,
          "vpn",
          "setup-node",
          "--entrypoint",
          "ssh://walt.lab.example",
          "--base",
          base,
          "--flash",
          device,
          ...more,
        );
      const refused = await flash("--yes");
      expect(refused).toMatchObject({ status: 1 });
      expect(refused.stderr).toMatch(/is not removable/);
      const unasked = await flash("--force");
      expect(unasked).toMatchObject({ status: 2 });
      expect(unasked.stderr).toMatch(/--yes is missing/);
      const { status, stdout } = await flash("--force", "--yes");
      expect(status).toBe(0);
      expect(stdout).toMatch(/is written and verified/);
      const card = server.path(join(server.dir, "card"));
      expect(Buffer.from((await readFat(card, MIB, "vpn.toml")) ?? "").toString()).toMatch(
        /ssh:\/\/walt\.lab\.example:2222/,
      );
    } finally {
      await server.must(["losetup", "-d", device]);
    }
  }, 120_000);
});
