/** What an operator types of the short code that a device shows. */

/** Characters of a short code that must be typed at least: 15 bits, which nobody types by accident. */
export const LEAST_CODE = 3;

/**
 * The characters of a short code as they were typed, in the form in which codes are compared: upper case,
 * without dashes, and O, I, L as the digits that they resemble (Crockford's base32). Undefined when it is no
 * code, or has another length.
 */
export function parseCode(text: string, least: number): string | undefined {
  const code = text.toUpperCase().replaceAll("-", "").replaceAll("O", "0").replace(/[IL]/g, "1");
  return code.length >= least && /^[0-9A-HJKMNP-TV-Z]{1,10}$/.test(code) ? code : undefined;
}

/** Whether a short code begins with what was typed. @param typed of `parseCode`. */
export function codeBegins(code: string, typed: string): boolean {
  return code.replaceAll("-", "").startsWith(typed);
}
