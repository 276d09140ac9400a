/**
 * Who may log in to a board: public keys only, as ssh-keygen writes them, and nothing that sshd would take
 * for an option.
 */

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { loginKeysFile } from "../../../src/image/card/login-keys.ts";
import { run } from "../../../src/linux/run.ts";
import { describeWith } from "../../lab/need.ts";
import { folder, textFile } from "../rig.ts";

describeWith({ programs: ["ssh-keygen"] }, "login keys", () => {
  test("are the lines of public keys, of every kind", async () => {
    using work = folder();
    let text = "# who looks after the boards\n\n";
    for (const [type, ...bits] of [["ed25519"], ["rsa", "-b", "2048"], ["ecdsa", "-b", "384"]] as const) {
      const file = join(work.path, type);
      await run(["ssh-keygen", "-q", "-t", type, ...bits, "-N", "", "-C", `ada \x1b[31m${type}`, "-f", file]);
      text += readFileSync(`${file}.pub`, "utf8");
    }
    const keys = loginKeysFile(textFile(join(work.path, "keys"), text));
    expect(keys.match(/^(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp384) \S+ ada \[31m\w+$/gm)?.length).toBe(3);
    await run(["ssh-keygen", "-l", "-f", textFile(join(work.path, "made"), keys)]);
    expect(() => loginKeysFile(join(work.path, "ed25519"))).toThrow(
      "is a private key, which must not be in an image",
    );
  });

  test("are nothing else", async () => {
    using work = folder();
    const file = join(work.path, "id");
    await run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", file]);
    const line = readFileSync(`${file}.pub`, "utf8").trim();
    const refused = (text: string) => () => loginKeysFile(textFile(join(work.path, "keys"), text));
    expect(refused(`${line}\nnonsense`)).toThrow("keys, line 2, is not a public key");
    expect(refused(`command="reboot" ${line}`)).toThrow("line 1, is not a public key");
    expect(refused(line.replace("ssh-ed25519", "ssh-rsa"))).toThrow("is not a public key");
    expect(refused(line.slice(0, 40))).toThrow("is not a public key");
    expect(refused("\n# none\n")).toThrow("has 0 public keys");
    expect(refused(`${line}\n`.repeat(65))).toThrow("has 65 public keys");
    expect(() => loginKeysFile(join(work.path, "absent"))).toThrow("absent does not exist");
  });
});
