/** The checks of one entrypoint: name, port, SSH, path MTU, host keys, login, and the way to the server. */

import { formatHostPort } from "../../address.ts";
import { type Check, fault, noted, OK, type Outcome } from "../../doctor/check.ts";
import type { Talk } from "../../doctor/machine.ts";
import type { End } from "../../end.ts";
import { MESSAGE } from "../../ssh/handshake/message-numbers.ts";
import { WireWriter } from "../../ssh/keys/wire.ts";
import { REFUSED_BY_SERVER, UNKNOWN_TO_SERVER } from "../boot/state.ts";
import type { Attempt } from "./attempt.ts";
import type { WayCase } from "./case.ts";

/** Our first line to a peer that is only tested (RFC 4253 section 4.2). */
const GREETING = "SSH-2.0-walt_doctor\r\n";
/** Bytes of a packet that takes several segments on any path. */
const LARGE = 4000;
/** Bytes of an IPv4 header and an ICMP header, which ping does not count. */
const PING_HEADERS = 28;
/** Path MTUs that occur: Ethernet, PPPoE, tunnels of several kinds, and the least of IPv6 and IPv4. */
const PATH_MTUS = [1500, 1492, 1480, 1472, 1460, 1440, 1420, 1400, 1380, 1350, 1280, 576];
/** What sshd says instead of its first line to an address that failed too often (PerSourcePenalties). */
const SHUT_OUT = "Not allowed at this time";

export const WAY_CHECKS: readonly Check<WayCase>[] = [
  {
    id: "name",
    what: "The entrypoint's name can be resolved.",
    after: ["resolver"],
    look: async ({ device, hop, peer }) => {
      const found = await device.resolve(hop.host);
      if ("addresses" in found && found.addresses.length > 0) return noted(found.addresses.join(", "));
      return fault(
        `${peer}: its name cannot be resolved`,
        `${hop.host}: ${"code" in found ? found.code : "no address"}`,
        "Correct the name in device.entrypoint, or add it to the DNS that this network uses.",
      );
    },
  },
  {
    id: "reach",
    what: "Its port can be reached (TCP).",
    after: ["name", "gateway"],
    look: async ({ greeting, peer, hop }) => {
      const talk = await greeting();
      return talk.is === "there" ? OK : unreached(talk.code, peer, hop.port);
    },
  },
  {
    id: "ssh",
    what: "An SSH server answers there.",
    after: ["reach"],
    look: async ({ greeting, peer }) => greeted(await greeting(), peer),
  },
  {
    id: "mtu",
    what: "Large packets pass as small ones do (path MTU).",
    after: ["ssh"],
    look: lookAtMtu,
  },
  {
    id: "pinned",
    what: "The host keys of its proxies and of the server are pinned.",
    after: ["files"],
    look: async ({ aliases, device }) => {
      const { knownHosts } = device.files;
      const lines = [...device.hostKeys, ...((await device.machine.read(knownHosts)) ?? "").split("\n")];
      const pinned = new Set(lines.flatMap((line) => line.trim().split(/\s+/, 1)[0]?.split(",") ?? []));
      const missing = aliases.filter((alias) => !pinned.has(alias));
      if (missing.length === 0) return OK;
      return fault(
        `no host key is pinned for ${missing.join(", ")}`,
        `${knownHosts} has no such line`,
        "Make the folder or image again with `walt vpn setup-node`, with the same --entrypoint; or add the line `NAME ssh-ed25519 AAAA…` there.",
      );
    },
  },
  {
    id: "host-key",
    what: "Each machine on the way shows the host key that is pinned.",
    after: ["pinned", "mtu", "ssh"],
    look: async ({ attempt, device, name }) => {
      const failure = failureAt("host-key", await attempt());
      if (failure === undefined) return OK;
      return fault(
        failure.text,
        `pinned in ${device.files.knownHosts}; entrypoint ${name}`,
        "Compare the fingerprint with `ssh-keygen -lf` on that machine. If it was installed anew, replace its lines in that file (on a card: on the boot partition). If not, change nothing: somebody may be intercepting the connection.",
      );
    },
  },
  {
    id: "login",
    what: "The proxies accept this device's key.",
    after: ["host-key"],
    look: async (way) => {
      const attempt = await way.attempt();
      if (attempt.is === "in" && attempt.refused !== undefined) {
        const { certificate, machine } = way.device;
        const ends = ((await certificate().catch(() => undefined))?.validBefore ?? 0) * 1000;
        if (machine.now() >= ends) return noted("the certificate has expired; the enrolment key is accepted");
        return fault(
          attempt.refused.text,
          "it accepts the enrolment key, and not this device's certificate",
          "The device renews the certificate by itself. If a new one is refused as well: compare the clocks of proxy and server, and see the reason in the log of the proxy's sshd (`journalctl -u ssh`).",
        );
      }
      const failure = failureAt("login", attempt);
      return failure === undefined ? OK : fault(failure.text, evidenceOf(failure, way), LOGIN_CURE);
    },
  },
  {
    id: "forward",
    what: "The proxies let it through to the next hop.",
    after: ["login"],
    look: async (way) => {
      const failure = failureAt("forward", await way.attempt());
      if (failure === undefined) return OK;
      const { server } = way.device.config.device;
      const to = server === undefined ? "the next hop" : formatHostPort(server);
      const cure =
        failure.kind === "walt-proxy"
          ? "Use another entrypoint. Or set another user up on that machine (original-framing.md says how), and name it in the entrypoint: USER@HOST."
          : failure.kind === "refused"
            ? `Set the proxy up with \`walt vpn setup-proxy --next\` and the very text that this device uses (device.server = "${to}"). If it is, its sshd forbids forwarding: \`sshd -T\` on the proxy must say \`allowtcpforwarding yes\` (or local) and no other permitopen.`
            : `Test it on the proxy: \`nc -v ${to.replace(/:(\d+)$/, " $1")}\`. Is the server running, does its name resolve there, and does a firewall let the proxy through?`;
      return fault(failure.text, evidenceOf(failure, way), cure);
    },
  },
  {
    id: "server",
    what: "The server answers behind it, and accepts this device's key.",
    after: ["forward"],
    look: async (way) => {
      const failure = failureAt("server", await way.attempt());
      if (failure === undefined) return OK;
      if (failure.kind !== "key-refused")
        return fault(failure.text, evidenceOf(failure, way), "Run `walt doctor` on the server.");
      const isOriginal = way.device.config.device.framing === "original";
      return fault(
        isOriginal ? UNKNOWN_TO_SERVER : REFUSED_BY_SERVER,
        evidenceOf(failure, way),
        "`walt vpn list` on the server shows whether it was revoked.",
      );
    },
  },
];

const LOGIN_CURE =
  "Run the script of `walt vpn setup-proxy` on the proxy again: it checks sshd. The reason is in the log of the proxy's sshd (`journalctl -u ssh`).";

function unreached(code: string, peer: string, port: number): Outcome {
  const seen = `connect: ${code}`;
  switch (code) {
    case "ECONNREFUSED":
      return fault(
        `${peer}: nothing listens on its port ${port} (connection refused)`,
        seen,
        "Start sshd (or the daemon) there, or correct the port in device.entrypoint. A firewall that rejects looks the same.",
      );
    case "TIMEOUT":
    case "ETIMEDOUT":
      return fault(
        `${peer}: it does not answer (connection timed out)`,
        seen,
        `Is it on, and is the address right? A firewall of this network or of that machine may drop port ${port}: try from another network.`,
      );
    default:
      return fault(
        `${peer}: it cannot be reached (${code})`,
        seen,
        "Look at the routes on the way (`ip route`, `traceroute`).",
      );
  }
}

function greeted(talk: Talk, peer: string): Outcome {
  if (talk.is === "none") return OK; // the check before it says so
  const { line, ended } = talk;
  if (line?.startsWith("SSH-2.0-") === true) return noted(line);
  const seen = line === undefined ? "not a line came" : `its first line is ${JSON.stringify(line)}`;
  if (line?.startsWith(SHUT_OUT) === true) {
    return fault(
      `${peer}: its sshd has shut this address out for a while`,
      seen,
      "Too many logins from this address failed. Wait some minutes, or see PerSourcePenalties in sshd_config(5).",
    );
  }
  if (line !== undefined) {
    return fault(
      `${peer}: what listens there is no SSH server`,
      seen,
      "Correct the port in device.entrypoint. A captive portal or a firewall that answers for others looks the same.",
    );
  }
  return ended
    ? fault(
        `${peer}: it closes connections at once`,
        seen,
        "sshd may have too many connections (MaxStartups), or something like fail2ban or hosts.deny bars this address: see its log.",
      )
    : fault(
        `${peer}: it takes connections, but does not speak SSH (timed out)`,
        seen,
        "The machine may be overloaded, or a firewall may take connections for it and not pass them on.",
      );
}

/**
 * A peer that reads a DISCONNECT closes the connection. If it does after a small packet, but not after a
 * large one in front, the large one was lost.
 *
 */
async function lookAtMtu({ device, hop, peer, greeting }: WayCase): Promise<Outcome> {
  const { machine } = device;
  const { host } = await greeting();
  const goodbye = packet(new WireWriter().u8(MESSAGE.disconnect).u32(11).string("").string("").bytes());
  const ignored = packet(new WireWriter().u8(MESSAGE.ignore).string(Buffer.alloc(LARGE)).bytes());
  const send = (...parts: Uint8Array[]): Promise<Talk> =>
    machine.talk({ ...hop, host }, Buffer.concat([Buffer.from(GREETING), ...parts]));
  const large = await send(ignored, goodbye);
  if (large.is === "none" || large.ended) return OK;
  const small = await send(goodbye);
  if (small.is === "none" || !small.ended)
    return noted(`${peer} does not close connections when it is asked to`);
  const passed = await Promise.all(
    PATH_MTUS.map(async (mtu) => {
      const bytes = String(mtu - PING_HEADERS);
      const ping = await machine.run(["ping", "-c", "1", "-W", "1", "-s", bytes, host], 3000);
      return ping?.status === 0 ? mtu : 0;
    }),
  );
  const most = Math.max(...passed);
  const use = most > 0 && most < 1500 ? most : 1280;
  return fault(
    `${peer}: small packets pass, and large ones are lost on the way (path MTU)`,
    most > 0
      ? `a ping of ${most} bytes passes, and none larger; ICMP "fragmentation needed" does not come back`
      : `${LARGE} bytes in one write are lost, and some hundred are not; pings are not answered`,
    `Lower the MTU: option 26 of the DHCP server, or \`ip link set dev CARD mtu ${use}\` on this machine; and here and on the proxy \`sysctl -w net.ipv4.tcp_mtu_probing=1\`. The firewall that drops ICMP type 3 code 4 is the cause.`,
  );
}

/** A packet before any key exchange (RFC 4253 section 6): length, padding, a multiple of 8 bytes, no MAC. */
function packet(payload: Uint8Array): Uint8Array {
  const padding = 8 - ((payload.length + 5) % 8) + 8;
  const length = 1 + payload.length + padding;
  return new WireWriter().u32(length).u8(padding).raw(payload).raw(Buffer.alloc(padding)).bytes();
}

type Place = "host-key" | "login" | "forward" | "server";

/** The failure of a trial, if it is for this check to tell. */
function failureAt(place: Place, attempt: Attempt): End | undefined {
  return attempt.is === "failed" && placeOf(attempt) === place ? attempt.end : undefined;
}

/** Which check tells a failure. Behind the proxies the last of them tells why it does not let us through. */
function placeOf({ at, end }: Extract<Attempt, { is: "failed" }>): Place {
  if (end.kind === "wrong-host-key") return "host-key";
  if (["refused", "unreachable", "walt-proxy"].includes(end.kind)) return "forward";
  return at === "proxies" ? "login" : "server";
}

function evidenceOf({ kind }: End, { name }: WayCase): string {
  return `a trial login along ${name} ended: ${kind}`;
}
