import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  DEFAULT_CONFIG,
  explainConfig,
  loadConfig,
  parseConfig,
  requireRole,
  suggest,
} from "../../src/config/load.ts";
import { TABLES } from "../../src/config/schema.ts";
import { WaltError } from "../../src/errors.ts";

const dir = mkdtempSync(join(tmpdir(), "walt-config-"));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

/** What is wrong, without the hint. */
function problem(what: () => unknown): string {
  try {
    return `no error, but ${JSON.stringify(what())}`;
  } catch (error) {
    if (!(error instanceof WaltError)) throw error;
    return error.message;
  }
}
const wrong = (text: string): string => problem(() => parseConfig(text, "vpn.toml"));

describe("defaults", () => {
  test("an empty file, or none, is every key's default", () => {
    const { server, device, proxy, role, file, ...rest } = parseConfig("", undefined);
    expect(role).toBeUndefined();
    expect(file).toBeUndefined();
    expect(server).toMatchObject({
      listen: { host: "::", port: 2222 },
      address: undefined,
      state: "/var/lib/walt-vpn",
      socket: "/run/walt-vpn/server.sock",
      group: "walt",
      answer_timeout: 300_000,
      retry_after: 5000,
      certificate_validity: 7 * 86_400_000,
    });
    expect(rest["server.network"]).toMatchObject({ bridge: "walt-net", managed: true, boot_port: 8080 });
    expect(proxy).toMatchObject({ listen: { host: "::", port: 22 }, ca: [] });
    expect(device).toMatchObject({ entrypoint: [], board: "generic", run: "/run/walt-vpn" });
    expect(rest["device.vm"]).toMatchObject({ start: true });
  });

  test("each is itself an allowed value, as `config show` prints it", () => {
    const lines = explainConfig(parseConfig("", undefined)).filter((row) => row.value !== '""');
    const text = lines
      .map(({ key, value }) => {
        const at = key.lastIndexOf(".");
        return `[${key.slice(0, at)}]\n${key.slice(at + 1)} = ${value}\n`;
      })
      .sort();
    // A table may be opened once.
    for (const one of text) expect(wrong(one)).toStartWith("no error");
    expect(lines.length).toBeGreaterThan(20);
  });
});

describe("a file", () => {
  const text = `role = "server"
[server]
listen = "0.0.0.0"
answer_timeout = "90s"
network.managed = false
[server.network]
`;
  test("values are taken, and where they came from is known", () => {
    const config = parseConfig(text.replace("[server.network]\n", ""), "/x/vpn.toml");
    expect(config.role).toBe("server");
    expect(config.server.listen).toEqual({ host: "0.0.0.0", port: 2222 });
    expect(config.server.answer_timeout).toBe(90_000);
    expect(config["server.network"].managed).toBe(false);
    const rows = new Map(explainConfig(config).map((row) => [row.key, row]));
    expect(rows.get("role")).toEqual({ key: "role", value: '"server"', source: "/x/vpn.toml" });
    expect(rows.get("server.listen")).toEqual({
      key: "server.listen",
      value: '"0.0.0.0:2222"',
      source: "/x/vpn.toml",
    });
    expect(rows.get("server.network.managed")?.source).toBe("/x/vpn.toml");
    expect(rows.get("server.socket")).toEqual({
      key: "server.socket",
      value: '"/run/walt-vpn/server.sock"',
      source: "default",
    });
    expect(rows.size).toBe(
      1 + Object.values(TABLES).reduce((sum, keys) => sum + Object.keys(keys).length, 0),
    );
  });

  test("what is no TOML is told with line and column", () => {
    expect(wrong('role = "server"\n[server]\nlisten = oops\n')).toMatch(
      /^vpn\.toml, line 3, column \d+: not TOML: \S/,
    );
    expect(wrong("role = \n")).toStartWith("vpn.toml, line 1, column 8: not TOML: ");
    expect(wrong(text)).toStartWith("vpn.toml, line 6, column "); // a table twice
    expect(wrong('a = "\u0000"')).toContain("line 1, column 6");
  });

  test("an unknown key is told with its line and a suggestion", () => {
    expect(wrong('\n[server]\nlitsen = "x"\n')).toBe(
      "vpn.toml, line 3: server.litsen is not a key of [server]; did you mean listen?",
    );
    expect(wrong("[device.vm]\nram = 1\n")).toBe(
      "vpn.toml, line 2: device.vm.ram is not a key of [device.vm]; allowed: start, memory, cpus, model, usb",
    );
    expect(wrong("server.nework.managed = true\n")).toBe(
      `vpn.toml: server.nework is not a key of [server]; allowed: ${Object.keys(TABLES.server).join(", ")}`,
    );
  });

  test("an unknown table or key at the top too", () => {
    expect(wrong("[sevrer]\n")).toBe(
      "vpn.toml, line 1: sevrer is not a table of vpn.toml; did you mean server?",
    );
    expect(wrong('# x\nlisten = "a"\n')).toBe(
      "vpn.toml, line 2: listen is not a table of vpn.toml; allowed: role, server, image, proxy, device",
    );
    expect(wrong("server = 3\n")).toBe("vpn.toml, line 1: server must be a table, found number 3");
    expect(wrong("[server]\nnetwork = 2020-01-01\n")).toBe(
      "vpn.toml, line 2: server.network must be a table, found a date",
    );
    expect(wrong("[[server]]\n")).toBe("vpn.toml: server must be a table, found an array of 1 values");
  });

  test("an unknown role", () => {
    expect(wrong('role = "sevrer"\n')).toBe(
      'vpn.toml, line 1: role must be "server" or "proxy" or "device", found string "sevrer"',
    );
    expect(wrong("role = 1\n")).toContain("found number 1");
  });

  test("keys of TOML that JavaScript objects know are as unknown as others", () => {
    expect(wrong('__proto__ = "x"\n')).toContain("__proto__ is not a table");
    expect(wrong("[server]\nconstructor = 1\n")).toContain("server.constructor is not a key of [server]");
    expect(wrong("[server.toString]\n")).toContain("server.toString is not a key");
  });

  test("all mistakes are told at once", () => {
    expect(
      wrong('role = "x"\n[server]\nlisten = 3\nbad = 1\n[device]\nboard = "pi"\n').split("\n"),
    ).toHaveLength(4);
  });

  test("a value from the file cannot reach the terminal raw", () => {
    expect(wrong('[server]\nstate = "\\u001b[2J\\u202e"\n')).toBe(
      'vpn.toml, line 2: server.state must be an absolute path, found string "\\u001b[2J\\u202e"',
    );
  });
});

describe("which file", () => {
  const one = join(dir, "one.toml");
  const two = join(dir, "two.toml");
  writeFileSync(one, 'role = "server"\n');
  writeFileSync(two, 'role = "device"\n');

  test("--config, then WALT_CONFIG, then /etc/walt/vpn.toml", () => {
    expect(loadConfig(one, { WALT_CONFIG: two })).toMatchObject({ role: "server", file: one });
    expect(loadConfig(undefined, { WALT_CONFIG: two })).toMatchObject({ role: "device", file: two });
    if (existsSync(DEFAULT_CONFIG)) return;
    for (const env of [{}, { WALT_CONFIG: "" }]) expect(loadConfig(undefined, env).file).toBeUndefined();
  });

  test("one that was named must be there", () => {
    expect(problem(() => loadConfig(join(dir, "none"), {}))).toBe(`${dir}/none does not exist`);
    expect(problem(() => loadConfig(undefined, { WALT_CONFIG: join(dir, "none") }))).toBe(
      `${dir}/none does not exist`,
    );
    expect(problem(() => loadConfig("", { WALT_CONFIG: two }))).toBe("--config is empty");
  });

  test("a folder, a file that is too large, one that is no text", () => {
    expect(problem(() => loadConfig(dir, {}))).toBe(`cannot read ${dir}: it is a directory`);
    const large = join(dir, "large.toml");
    writeFileSync(large, `# ${"x".repeat(65_536)}\n`);
    expect(problem(() => loadConfig(large, {}))).toBe(`${large} is larger than 65536 bytes`);
    const binary = join(dir, "binary.toml");
    writeFileSync(binary, Buffer.from([0x7f, 0x45, 0x4c, 0x46, 0, 1, 2]));
    expect(problem(() => loadConfig(binary, {}))).toStartWith(`${binary}, line 1, column 1: not TOML: `);
  });
});

test("a role's command refuses another role's file, and takes one without a role", () => {
  const device = parseConfig('role = "device"\n', "vpn.toml");
  expect(problem(() => requireRole(device, "server"))).toBe('vpn.toml says role = "device", not "server"');
  expect(requireRole(device, "device")).toBe(device);
  expect(problem(() => requireRole(parseConfig("", undefined), "proxy"))).toStartWith("no error");
});

test("suggestions: a letter wrong, missing, too many, or two swapped; else the list", () => {
  const names = ["list", "monitor", "revoke"];
  for (const typo of ["lsit", "lis", "lists", "lost"])
    expect(suggest(typo, names)).toBe("did you mean list?");
  for (const typo of ["moniter", "montior", "mnitor"])
    expect(suggest(typo, names)).toBe("did you mean monitor?");
  for (const other of ["x", "shutdown", "tsil"])
    expect(suggest(other, names)).toBe("allowed: list, monitor, revoke");
});
