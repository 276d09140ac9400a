/** Completion as people use it: they type into a shell on a terminal, and press Tab. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { completionScript, SHELLS } from "../../src/commands/_completion.ts";
import { root } from "../../src/commands/root.ts";
import { run, runAny } from "../../src/linux/run.ts";
import { eventually } from "../lab/eventually.ts";
import { describeWith } from "../lab/need.ts";
import { leaves } from "./leaves.ts";

let home: string;
beforeAll(async () => {
  home = mkdtempSync(join(tmpdir(), "walt-completion-"));
  for (const folder of [".cache/walt", ".config/walt"]) mkdirSync(join(home, folder), { recursive: true });
  writeFileSync(join(home, ".cache/walt/nodes"), "lab-1\nlab-2\nschool-7\nall\n");
  writeFileSync(join(home, ".config/walt/config.toml"), '[servers]\nmunich = "ssh://munich.example"\n');
  writeFileSync(join(home, "my-vpn.toml"), "");
  for (const shell of SHELLS) writeFileSync(join(home, shell), await completionScript(root, shell));
});
afterAll(() => rmSync(home, { recursive: true }));

/** What is typed, and what the line is after Tab. */
const CASES = [
  ["walt vpn li", "walt vpn list "],
  ["walt node show sch", "walt node show school-7 "],
  ["walt node show lab-1 --state do", "walt node show lab-1 --state down "],
  ["walt node show --wi", "walt node show --wide "],
  ["walt vpn revoke lab-1 scho", "walt vpn revoke lab-1 school-7 "],
  ["walt vpn list --server mu", "walt vpn list --server munich "],
  ["walt config check --config my", "walt config check --config my-vpn.toml "],
  ["walt completion fi", "walt completion fish "],
] as const;

const START = {
  bash: ["bash", "--norc", "--noprofile"],
  zsh: ["zsh", "-f"],
  fish: ["fish", "--no-config"],
} as const;
const LOAD = {
  bash: "PS1='$ '; source ~/bash",
  zsh: "PS1='$ '; autoload -U compinit && compinit -u && source ~/zsh",
  fish: "function fish_prompt; echo '$ '; end; source ~/fish",
} as const;

for (const shell of SHELLS) {
  describeWith({ programs: ["tmux", shell] }, `Tab in ${shell}`, () => {
    test("completes commands, options, values, nodes, servers and files", async () => {
      const socket = join(home, `tmux-${shell}`);
      const tmux = (...words: string[]): Promise<string> => run(["tmux", "-S", socket, ...words]);
      const env = { ...process.env, HOME: home, TERM: "screen", XDG_CACHE_HOME: "", XDG_CONFIG_HOME: "" };
      await run(
        [
          "tmux",
          "-S",
          socket,
          "-f",
          "/dev/null",
          "new-session",
          "-d",
          "-x",
          "150",
          "-y",
          "50",
          "-c",
          home,
          ...START[shell],
        ],
        { env },
      );
      try {
        const screen = async (): Promise<string> => await tmux("capture-pane", "-p");
        const type = (text: string): Promise<string> => tmux("send-keys", "-l", text);
        await type(`${LOAD[shell]}; clear; echo re''ady`);
        await tmux("send-keys", "Enter");
        await eventually("the shell", async () => /^ready$/m.test(await screen()));
        for (const [typed, line] of CASES) {
          await type(`${typed}\t`);
          await type("%");
          await eventually(`${line}, not ${await screen()}`, async () =>
            (await screen()).includes(`${line}%`),
          );
          await tmux("send-keys", "C-c");
        }
      } finally {
        await runAny(["tmux", "-S", socket, "kill-server"]);
      }
    });
  });
}

test("every command and every option is in every script", async () => {
  for (const [words, { args }] of await leaves(root)) {
    for (const shell of SHELLS) {
      const text = await completionScript(root, shell);
      expect([words, shell, text.includes(words.join(" "))]).toEqual([words, shell, true]);
      for (const [name, arg] of Object.entries(args)) {
        if (arg.type === "positional") continue;
        expect([name, text.includes(shell === "fish" ? ` -l ${name} ` : `--${name}`)]).toEqual([name, true]);
      }
    }
  }
});
