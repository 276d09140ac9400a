/** The state of a device's supervisor, as `walt device status` asks for it. */

import type { Fields } from "../parse.ts";
import { parseDiagnosis } from "./diagnosis.ts";
import { MAX_ENTRYPOINT, parseTraffic } from "./messages.ts";

/** Strings are safe for a terminal. */
export type DeviceStatus = ReturnType<typeof parseDeviceStatus>;

/** A USB device of the board that is passed on to the node. */
export type UsbStatus = ReturnType<typeof parseUsb>;

/** Longest error, or description of the stage, in characters. */
export const MAX_DETAIL = 500;

export function parseDeviceStatus(f: Fields) {
  return {
    stage: f.words("stage", 40),
    /** What the stage is about right now, in words. */
    detail: f.words("detail", MAX_DETAIL),
    lastError: f.orNull("lastError", (key) => f.words(key, MAX_DETAIL)),
    /**
     * Seconds until it tries again; null while it does not wait. (Not a time of day: the device may have no
     * clock.)
     */
    nextTryIn: f.orNull("nextTryIn", (key) => f.integer(key, 0, 1e9)),
    since: f.time("since"),
    node: f.orNull("node", (key) => f.words(key)),
    mac: f.orNull("mac", (key) => f.words(key)),
    /** The short code and the fingerprint of its key. */
    code: f.orNull("code", (key) => f.words(key)),
    fingerprint: f.orNull("fingerprint", (key) => f.words(key)),
    tunnel: f.choice("tunnel", ["down", "connecting", "up"]),
    /** The entrypoint that it uses, or tries. */
    via: f.orNull("via", (key) => f.words(key, MAX_ENTRYPOINT)),
    /** As in NodeInfo, measured by this end. */
    rtt: f.orNull("rtt", (key) => f.number(key, 0, Number.MAX_SAFE_INTEGER)),
    loss: f.orNull("loss", (key) => f.number(key, 0, 1)),
    /** Counters of the tunnel while it is up. "In" is from the server. */
    traffic: f.orNull("traffic", (key) => parseTraffic(f.object(key))),
    vm: f.choice("vm", ["off", "starting", "running", "waiting", "powered-off"]),
    usb: f.list("usb", parseUsb, 256),
    certificateRenewal: f.orNull("certificateRenewal", (key) => f.time(key)),
    /** What the device found when it examined itself, because it could not connect. */
    ...f.optional("doctor", (key) => parseDiagnosis(f.object(key))),
  };
}

function parseUsb(f: Fields) {
  return {
    /** Where it is plugged in, as in /sys/bus/usb/devices: `1-1.2`. */
    port: f.words("port"),
    /** Vendor and product: `0781:5567`. */
    id: f.words("id"),
    /** Its own words; empty when it has none. */
    name: f.words("name"),
  };
}
