/** What boards say of themselves and should not have in common: warnings about requests whose keys claim the same. */

import type { ListedRequest, PendingRequest } from "../api/events.ts";

export const CLAIMS = ["MAC address", "serial number"] as const;
export type Claim = (typeof CLAIMS)[number];

/** Whether two keys claim the same. A serial number that is not there is nobody's. */
export function sameClaim(claim: Claim, a: PendingRequest, b: PendingRequest): boolean {
  if (a.fingerprint === b.fingerprint) return false;
  return claim === "MAC address"
    ? a.mac === b.mac
    : a.serialNumber !== "" && a.serialNumber === b.serialNumber;
}

/** @param other the short code of another key, and what became of it */
export function warningText(claim: Claim, other: string): string {
  return `${other} claims the same ${claim}; only the code tells which one the device is`;
}

/** Warnings about other requests in a listing whose key claims the same. */
export function alike(one: ListedRequest, all: readonly ListedRequest[]): string[] {
  return CLAIMS.flatMap((claim) => {
    const other = all.find((each) => sameClaim(claim, one, each));
    return other === undefined ? [] : [warningText(claim, other.code)];
  });
}
