/** Names and notes of nodes, and the journal: who gave an order, and what became of the nodes. */

import { expect, test } from "bun:test";
import type { JournalEvent } from "../../src/api/journal.ts";
import type { NodeDetails } from "../../src/api/messages.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { INTEGRATION, World } from "../lab/world.ts";

describeWith([...INTEGRATION, { programs: ["setpriv"] }], "journal", () => {
  test("a node is named, noted, followed over a restart, revoked and enrolled afresh", async () => {
    // A certificate is renewed every 5 s, so that the board hears of its name.
    await using world = await World.create({ proxies: 0, server: 'certificate_validity = "10s"' });
    const { server } = world;
    await world.stopServer();
    await server.must(["groupadd", "--system", "walt"]);
    await world.startServer();
    const group = (await server.must(["getent", "group", "walt"])).split(":")[2] ?? "";
    await server.must(["sh", "-c", ': > /srv/walt && mount --bind "$0" /srv/walt', world.binary]);
    const events = async (...args: string[]): Promise<JournalEvent[]> =>
      (await world.must(server, "vpn", "events", "--json", ...args))
        .split("\n")
        .filter((line) => line !== "")
        .map((line) => JSON.parse(line) as JournalEvent);
    const device = await world.device("device1");
    const node = await device.enrol();
    const [before] = await world.nodes();

    const following = server.spawn([world.binary, "vpn", "events", "-f", "--json", "--since", "1h", node]);
    await following.waitFor(/"kind":"tunnel-up"/);

    // The kernel says who it is, and the command what it likes.
    const claims = ["env", "-u", "SUDO_USER", "USER=root", "/srv/walt", "node", "rename", node, "lab-3"];
    const user = ["setpriv", "--reuid=65534", "--regid=65534", `--groups=${group}`];
    await server.must([...user, ...claims]);
    await following.waitFor(/"kind":"node-renamed","node":"lab-3","by":"nobody \(root@server\)"/);
    expect(await world.nodes()).toMatchObject([
      { name: "lab-3", defaultName: node, mac: before?.mac, address: before?.address, state: "up" },
    ]);
    const leases = await server.must(["cat", "/run/walt-vpn/walt-net/dhcp-hosts"]);
    expect(leases).toBe(`${before?.mac},${before?.address},lab-3\n`);
    await eventually("the board has heard of it", () => device.status(), {
      fits: (status) => status.node === "lab-3",
    });

    await world.must(server, "node", "note", "lab-3", "in", "the", "cellar");
    expect(await world.must(server, "node", "show")).toMatch(/^lab-3 .* in the cellar$/m);
    const board = (await world.list())[0];
    const details = JSON.parse(await world.must(server, "node", "show", "lab-3", "--json")) as NodeDetails;
    expect(details).toMatchObject({
      ...{ name: "lab-3", note: "in the cellar", state: "up" },
      device: { ...board, certificateSerial: expect.any(String), certificateExpires: expect.any(String) },
    });
    expect(details.events.map(({ kind }) => kind)).toContain("node-noted");
    expect(await world.must(server, "node", "show", "lab-3")).toMatch(
      new RegExp(
        `^default name +${node}$[\\s\\S]*^note +in the cellar$[\\s\\S]*^short code +${board?.code}$`,
        "m",
      ),
    );
    const gone = await world.walt(server, "node", "show", node);
    expect([gone.status, gone.stderr]).toEqual([1, expect.stringContaining("it is called lab-3 now")]);

    // Its name has changed while its tunnel was up, which its end shows.
    await device.stop();
    await following.waitFor(
      /"kind":"tunnel-down","node":"lab-3","by":null,"details":\{[^}]*"end":"closed-by-peer"/,
    );
    await world.stopServer();
    await following.waitFor(/connection to the server is lost/);
    await world.startServer();
    const at = following.position;
    device.start();
    await following.waitFor(/"kind":"tunnel-up","node":"lab-3"/, { after: at });
    const ids = following.stdout.match(/(?<="id":)\d+/g)?.map(Number) ?? [];
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
    expect(await following.stop("SIGINT")).toBe(0);
    expect((await events()).map(({ kind }) => kind)).toEqual(
      expect.arrayContaining(["enrolment-requested", "device-accepted", "server-stops", "server-ready"]),
    );
    expect((await events(node.replace(/.$/, "?"), "--since", "1h").catch(String)).toString()).toContain(
      "no node",
    );

    // A second board is named as it is accepted; a name that is taken leaves it where it was.
    const second = await world.device("device2");
    const log = second.start();
    await log.waitFor(/nobody runs `walt vpn monitor`/);
    const { code } = await second.status();
    const taken = await world.walt(server, "vpn", "accept", code ?? "", "--name", "lab-3");
    expect([taken.status, taken.stderr]).toEqual([1, expect.stringContaining("lab-3 is taken")]);
    await world.must(server, "vpn", "accept", code ?? "", "--name", "lab-4");
    await log.waitFor(/tunnel is up/);
    await eventually("both are up", () => world.nodes(), {
      fits: (all) => all.every(({ state }) => state === "up"),
    });

    const unasked = await world.walt(server, "vpn", "revoke", "lab-*");
    expect([unasked.status, unasked.stderr]).toEqual([2, expect.stringContaining("--yes is missing")]);
    expect(await world.must(server, "vpn", "revoke", "lab-*", "--yes")).toMatch(
      /^lab-[34]: revoked[^\n]*\nlab-[34]: revoked/,
    );
    expect((await events("lab-4")).filter(({ by }) => by !== null)).toMatchObject([
      { kind: "device-accepted", by: "root" },
      { kind: "device-revoked", by: "root" },
    ]);
    await eventually("the end is in the journal", () => events("lab-4"), {
      fits: (all) => all.some(({ kind, details }) => kind === "tunnel-down" && details["end"] === "stopped"),
    });

    await device.stop();
    await world.must(device.host, "device", "forget");
    expect(await device.enrol()).toBe("lab-3");
    expect(await world.nodes()).toMatchObject([{ name: "lab-3", mac: before?.mac, note: "in the cellar" }]);
  }, 240_000);
});
