/** A proxy that refuses certificates which have just been made: the device gets through, and says what is wrong. */

import { expect, test } from "bun:test";
import { describeWith } from "../lab/need.ts";
import { startSshd } from "../lab/sshd.ts";
import { INTEGRATION, World } from "../lab/world.ts";

describeWith(INTEGRATION, "a proxy that refuses new certificates", () => {
  test("the device is up over the enrolment key, says why, and does not renew without end", async () => {
    await using world = await World.create({ proxies: 1 });
    const [proxy] = world.proxies;
    if (proxy === undefined) throw new Error("no proxy");
    await proxy.sshd.stop();
    // As where its clock is wrong: each certificate is refused, whatever the server does.
    const sshd = await startSshd(proxy.host, { extraConfig: "CASignatureAlgorithms rsa-sha2-512" });
    try {
      const device = await world.device("device1");
      await device.enrol();
      await device.isUp();
      const { lastError } = await device.status();
      expect(lastError).toMatch(
        /It refuses a certificate that was new \(.*Z by the server's clock, .*Z by this/,
      );
      expect(lastError).toContain("CASignatureAlgorithms");
      // The tunnel ends three times: the certificate is tried each time, and none is made for that.
      const serial = async (): Promise<number> => Number((await world.list())[0]?.certificateSerial);
      expect(await serial()).toBe(2); // one with the acceptance, and one more that did not help either
      for (let i = 0; i < 3; i++) {
        const { position } = world.daemon;
        await proxy.host.must(["pkill", "-KILL", "-u", "walt-vpn"]);
        await world.daemon.waitFor(/event=tunnel-up/, { after: position });
      }
      expect(await serial()).toBe(2);
    } finally {
      await sshd.stop();
    }
  }, 180_000);
});
