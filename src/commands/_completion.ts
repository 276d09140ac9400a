/**
 * Scripts that complete commands in a shell, made from the commands' definitions. They start no program of ours:
 * names of nodes come from a file (_names.ts), those of servers from the user's own configuration.
 */

import type { Command, Group } from "./_command.ts";
import { describe, type Option } from "./_describe.ts";

export const SHELLS = ["bash", "zsh", "fish"] as const;
export type Shell = (typeof SHELLS)[number];

/** What may stand at one place: after a command's name. */
interface Place {
  /** The words behind `walt`: `vpn list`. */
  readonly path: string;
  /** Commands and options, with their descriptions. */
  readonly words: readonly { readonly word: string; readonly text: string }[];
  /** What the value of an option is; an option that is not in it takes none. */
  readonly values: ReadonlyMap<string, Kind>;
  /** What the arguments are. */
  readonly argument: Kind;
}

/** Names of nodes or servers, files, nothing that is known, or one of these words. */
type Kind = "nodes" | "servers" | "files" | "none" | readonly string[];

/** Hints of values that are paths. */
const PATHS = new Set(["file", "folder", "path", "/dev/sdX"]);

/** The script for a shell. */
export async function completionScript(root: Group, shell: Shell): Promise<string> {
  const places = await placesOf(root, "");
  return { bash: bashScript, zsh: zshScript, fish: fishScript }[shell](places);
}

async function placesOf(entry: Command | Group, path: string): Promise<Place[]> {
  const { commands, options, positionals } = await describe(entry);
  const named = options.map(({ name, text }) => ({ word: `--${name}`, text }));
  const letters = options.flatMap(({ short, text }) =>
    short === undefined || short === "h" || short === "v" ? [] : [{ word: `-${short}`, text }],
  );
  const values = new Map(
    options.flatMap((one) =>
      one.value === undefined
        ? []
        : [`--${one.name}`, ...(one.short === undefined ? [] : [`-${one.short}`])].map(
            (word) => [word, kindOf(one)] as const,
          ),
    ),
  );
  const own: Place = {
    path,
    words: [...commands.map(({ term, text }) => ({ word: term, text })), ...named, ...letters],
    values,
    argument: argumentOf(positionals.map(({ term }) => term.toLowerCase().replace("…", ""))),
  };
  if (!("subCommands" in entry)) return [own];
  const below: Place[] = [];
  for (const [word, load] of Object.entries(entry.subCommands))
    below.push(...(await placesOf(await load(), `${path} ${word}`.trim())));
  return [own, ...below];
}

function kindOf({ name, value = "", values }: Option): Kind {
  if (values.length > 0) return values;
  if (name === "server") return "servers";
  return PATHS.has(value) ? "files" : "none";
}

function argumentOf(names: readonly string[]): Kind {
  if (names.includes("node") || names.includes("from")) return "nodes";
  if (names.includes("shell")) return SHELLS;
  return names.includes("folder") ? "files" : "none";
}

/** How the scripts find nodes and servers: with the shell's own means and sed(1). */
const NODES = `"\${XDG_CACHE_HOME:-$HOME/.cache}/walt/nodes"`;
const SERVERS = `sed -n '/^\\[servers\\]/,$s/^\\([A-Za-z0-9][A-Za-z0-9._-]*\\) *=.*/\\1/p' "\${XDG_CONFIG_HOME:-$HOME/.config}/walt/config.toml"`;
/** The names of this machine's server are looked up again after a minute, in the background. */
const REFRESH = `if [ -S /run/walt-vpn/server.sock ] && [ -z "$(find ${NODES} -mmin -1 2>/dev/null)" ]; then
    (walt node show --json </dev/null >/dev/null 2>&1 &)
  fi`;

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** Commands of a shell's case that set `words`, `values` (lines "OPTION KIND") and `argument`. */
function cases(places: readonly Place[], word: (one: Place["words"][number]) => string): string {
  const shown = (kind: Kind): string => (typeof kind === "string" ? kind : `=${kind.join(" ")}`);
  return places
    .map(({ path, words, values, argument }) => {
      const lines = [...values].map(([option, kind]) => `${option} ${shown(kind)}`).join("\n");
      return `    ${quoted(path)})
      words=(${words.map((one) => quoted(word(one))).join(" ")})
      values=${quoted(lines)}
      argument=${quoted(shown(argument))} ;;`;
    })
    .join("\n");
}

/** The paths of all commands, each between two bars. */
const paths = (places: readonly Place[]): string => quoted(`|${places.map(({ path }) => path).join("|")}|`);

function bashScript(places: readonly Place[]): string {
  // Without a process of its own for a Tab, but where servers are completed.
  return `# bash completion for walt. Made by \`walt completion bash\`.
_walt_names() {
  names=()
  case $1 in
    nodes) ${REFRESH.replaceAll("\n", "\n    ")}
      [[ -r ${NODES} ]] && mapfile -t names < ${NODES} ;;
    servers) mapfile -t names < <(${SERVERS} 2>/dev/null; echo local) ;;
    =*) IFS=' ' read -ra names <<<"\${1#=}" ;;
  esac
}
_walt() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} path= word next words values argument kind
  local all=${paths(places)} i names option=
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    next="\${path:+$path }$word"
    [[ $all == *"|$next|"* ]] || break
    path=$next
  done
  case $path in
${cases(places, ({ word }) => word)}
  esac
  COMPREPLY=()
  kind=$argument
  while read -r word next; do
    [[ -n $word && $word == "$prev" ]] && kind=$next option=yes
  done <<<"$values"
  if [[ $kind == files ]]; then
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$cur")
  else
    _walt_names "$kind"
  fi
  if [[ -z $option ]] && [[ $cur == -* || $argument == none ]]; then names+=("\${words[@]}"); fi
  for word in "\${names[@]}"; do
    [[ $word == "$cur"* ]] && COMPREPLY+=("$word")
  done
}
complete -F _walt walt walt-vpn
`;
}

function zshScript(places: readonly Place[]): string {
  return `#compdef walt walt-vpn
# zsh completion for walt. Made by \`walt completion zsh\`.
_walt_names() {
  case $1 in
    nodes) ${REFRESH.replaceAll("\n", "\n    ")}
      [[ -r ${NODES} ]] && print -r -- "$(<${NODES})" ;;
    servers) ${SERVERS} 2>/dev/null; print local ;;
    '='*) print -l -- \${(s: :)\${1#=}} ;;
  esac
}
_walt() {
  local path_= word next values argument kind i
  local -a words_ list found
  local all=${paths(places)}
  for ((i = 2; i < CURRENT; i++)); do
    next="\${path_:+$path_ }\${words[i]}"
    [[ $all == *"|$next|"* ]] || break
    path_=$next
  done
  case $path_ in
${cases(places, ({ word, text }) => `${word.replaceAll(":", "\\:")}:${text}`).replaceAll("      words=(", "      words_=(")}
  esac
  kind=$argument
  for word in \${(f)values}; do
    [[ \${word%% *} == "\${words[CURRENT-1]}" ]] && kind="option \${word#* }"
  done
  case $kind in
    'option files' | files) _files ;;
    *) list=(\${(f)"$(_walt_names "\${kind#option }")"}); compadd -a list ;;
  esac
  [[ $kind == option* ]] && return
  if [[ \${words[CURRENT]} == -* || $argument == none ]]; then
    _describe walt words_
  fi
}
if [ "$funcstack[1]" = "_walt" ]; then _walt "$@"; else compdef _walt walt walt-vpn; fi
`;
}

function fishScript(places: readonly Place[]): string {
  const lines = places.flatMap(({ path, words, values, argument }) => {
    const at = `-n ${quoted(`__walt_at ${quoted(path)}`)}`;
    const own = words.map(({ word, text }) => {
      const about = `-d ${quoted(text)}`;
      if (!word.startsWith("-")) return `complete -c walt ${at} -f -a ${quoted(word)} ${about}`;
      const name = word.startsWith("--") ? `-l ${word.slice(2)}` : `-s ${word.slice(1)}`;
      const kind = values.get(word);
      return `complete -c walt ${at} ${name} ${fishValue(kind)}${about}`;
    });
    const names =
      argument === "none" || argument === "files" ? [] : [`complete -c walt ${at} -f ${fishList(argument)}`];
    return [...own, ...names];
  });
  return `# fish completion for walt. Made by \`walt completion fish\`.
function __walt_at
    set -l path
    for word in (commandline -opc)[2..-1]
        set -l next (string trim "$path $word")
        string match -q -- "*|$next|*" ${paths(places)}; or break
        set path $next
    end
    test "$path" = "$argv[1]"
end
function __walt_nodes
    set -l cache $HOME/.cache
    test -n "$XDG_CACHE_HOME"; and set cache $XDG_CACHE_HOME
    if test -S /run/walt-vpn/server.sock; and test -z "$(find $cache/walt/nodes -mmin -1 2>/dev/null)"
        sh -c '(walt node show --json </dev/null >/dev/null 2>&1 &)'
    end
    test -r $cache/walt/nodes; and string split \\n < $cache/walt/nodes
end
function __walt_servers
    set -l config $HOME/.config
    test -n "$XDG_CONFIG_HOME"; and set config $XDG_CONFIG_HOME
    sed -n '/^\\[servers\\]/,$s/^\\([A-Za-z0-9][A-Za-z0-9._-]*\\) *=.*/\\1/p' $config/walt/config.toml 2>/dev/null
    echo local
end
complete -c walt -f
complete -c walt-vpn -w walt
${lines.join("\n")}
`;
}

function fishValue(kind: Kind | undefined): string {
  if (kind === undefined) return "";
  if (kind === "files") return "-r -F ";
  return kind === "none" ? "-x " : `-x ${fishList(kind)} `;
}

function fishList(kind: Exclude<Kind, "files" | "none">): string {
  if (kind === "nodes" || kind === "servers") return `-a '(__walt_${kind})'`;
  return `-a ${quoted(kind.join(" "))}`;
}
