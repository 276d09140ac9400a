/** What must never be lost: the registry's devices, and what each device has on its disk. */

import { parseCertificateLine } from "../../src/ssh/keys/certificate.ts";
import { fingerprint, parsePublicKey } from "../../src/ssh/keys/ed25519.ts";
import type { Site } from "./site.ts";

/** One device, as the server and the device's disk know it. */
export interface Possession {
  /** Names and addresses, which never change while the device keeps its key. */
  readonly identity: string;
  /** Serial number of the last certificate that the server made for it: it never goes back. */
  readonly serial: number;
}

/** What there is now, by the fingerprint of the device's key. @throws Error when both ends do not agree. */
export async function possessionsOf(site: Site): Promise<Map<string, Possession>> {
  const { world, devices } = site;
  const [registered, nodes] = await Promise.all([world.list(), world.nodes()]);
  const active = registered.filter(({ revokedAt }) => revokedAt === null);
  const all = new Map<string, Possession>();
  for (const { host } of devices) {
    const read = (name: string): Promise<string> => Bun.file(host.path(`/var/lib/walt-vpn/${name}`)).text();
    const key = fingerprint(parsePublicKey(await read("device_key.pub"), host.name));
    const certificate = parseCertificateLine(await read("device-certificate.pub"), host.name);
    const own = JSON.parse(await read("credentials.json")) as { node: string; mac: string };
    const device = active.find((one) => one.fingerprint === key);
    const node = nodes.find(({ mac }) => mac === own.mac);
    if (device === undefined || node === undefined)
      throw new Error(`${host.name}: its key ${key} or its MAC address ${own.mac} is not in the registry`);
    if (device.defaultName !== own.node)
      throw new Error(`${host.name}: the registry says ${device.defaultName}, its disk ${own.node}`);
    const serial = Number(device.certificateSerial);
    if (Number(certificate.serial) > serial)
      throw new Error(
        `${host.name}: its certificate ${certificate.serial} is newer than the last, ${serial}`,
      );
    if (fingerprint(certificate.publicKey) !== key)
      throw new Error(`${host.name}: a certificate of another key`);
    const { boardMac, model, serialNumber, acceptedAt } = device;
    const identity = [device.defaultName, device.node, own.mac, boardMac, model, serialNumber];
    all.set(key, { identity: [...identity, acceptedAt, node.address].join(" "), serial });
  }
  if (active.length !== all.size)
    throw new Error(`the registry has ${active.length} devices, and there are ${all.size}`);
  return all;
}

/** What was lost, in words. A device that enrolled anew has another key, and is another device. */
export function losses(
  before: ReadonlyMap<string, Possession>,
  now: ReadonlyMap<string, Possession>,
): string[] {
  return [...now].flatMap(([key, { identity, serial }]) => {
    const was = before.get(key);
    if (was === undefined) return [];
    return [
      ...(was.identity === identity ? [] : [`${was.identity} became ${identity}`]),
      ...(was.serial <= serial ? [] : [`the last serial number went back from ${was.serial} to ${serial}`]),
    ];
  });
}
