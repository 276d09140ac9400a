/** The text of a systemd unit, from its template. */

/** A template with its `@NAME@`s filled in. */
export function filled(template: string, values: Readonly<Record<string, string>>): string {
  return template.replace(/@([A-Z]+)@/g, (whole, name: string) => values[name] ?? whole);
}

/**
 * A word of a command in a unit. systemd.service(5), "Command lines": a word can be quoted and has escapes as in C, "$$"
 * is a "$", and "%%" a "%" (systemd.unit(5), "Specifiers").
 */
export function quoted(text: string): string {
  const escaped = text.replace(/[\\"]/g, "\\$&").replaceAll("\n", "\\n");
  return `"${escaped.replaceAll("$", () => "$$").replaceAll("%", "%%")}"`;
}
