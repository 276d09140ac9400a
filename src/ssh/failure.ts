/** What OpenSSH's client prints when it fails, in words for a person. */

export function explainSshFailure(stderr: string, peer: string): string {
  return `${peer}: ${stderr}`;
}
