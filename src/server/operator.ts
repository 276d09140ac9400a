/**
 * Who gave an order, for journal, registry, log and monitors: who it was, and who the command says it was.
 */

/** What a command says when it says nothing. */
const UNKNOWN = "unknown";

/**
 * `alice`, or `root (alice@laptop)` where the command claims to run for somebody else.
 * @param user at the other end of the socket, as the kernel says; through ssh, the user who has logged in
 * @param claim what the command says, which nobody has checked
 */
export function operatorOf(user: string, claim: string): string {
  const [name = ""] = claim.split("@", 1);
  if (name === "" || name === user || claim === UNKNOWN) return user;
  return `${user} (${claim.replaceAll(/[^\w.@+-]/g, "?")})`;
}
