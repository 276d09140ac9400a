/**
 * TCP in one direction, simulated: what carries the tunnel, and what a foreign flow is. It has what decides how
 * fast and how regularly bytes arrive: slow start that ends when the round trip time grows (HyStart), CUBIC
 * (RFC 9438), SACK and RACK, one tail loss probe, retransmission timeouts, and delivery in order.
 */

/** Payload of a packet, bytes, and what the wire carries besides: headers of TCP, IPv4 and Ethernet. */
const MSS = 1448;
const HEADERS = 90;
const INITIAL_WINDOW = 10;
/** Retransmission timeouts: the least variation that they allow for, and the one before the first answer, ms. */
const RTO_MIN = 200;
const RTO_FIRST = 1000;
/** CUBIC: how fast it grows, and what is left of the window after a loss. */
const CUBIC_C = 0.4;
const BETA = 0.7;
/** A packet is lost when this many that were sent after it have arrived. */
const REORDERING = 3;

interface Packet {
  readonly id: number;
  readonly bytes: number;
  /** Number of its last transmission. */
  order: number;
  /** When that was, ms. */
  time: number;
  transmissions: number;
  acked: boolean;
}

/** How packets of this flow get to the other end, and answers back. `at` is called with the time, ms. */
export interface Wires {
  /** @returns false if it was dropped. */
  data(bytes: number, now: number, at: (now: number) => void): void;
  ack(bytes: number, now: number, at: (now: number) => void): void;
}

export class Tcp<Message> {
  /** Bytes that the application has written since the beginning. */
  #written = 0;
  /** Bytes that have been sent once. */
  #sent = 0;
  /** Bytes that have arrived in order. */
  delivered = 0;
  /** There is always more to send. */
  greedy = false;
  cwnd = INITIAL_WINDOW;
  #ssthresh = Number.POSITIVE_INFINITY;
  /** Packets that are not acknowledged together with all before them. */
  #packets: Packet[] = [];
  /** Transmissions that are neither acknowledged nor lost, oldest first. */
  #flight: { packet: Packet; order: number }[] = [];
  #lost: Packet[] = [];
  #orders = 0;
  #nextId = 0;
  /** Recovery ends when this packet is acknowledged. */
  #recovery = -1;
  #srtt = 0;
  #rttvar = 0;
  #backoff = 1;
  /** When something is done without an acknowledgement, ms. */
  timer = Number.POSITIVE_INFINITY;
  #probed = false;
  #wMax = 0;
  #epoch = -1;
  #minRtt = Number.POSITIVE_INFINITY;
  #roundEnd = 0;
  #roundMin = Number.POSITIVE_INFINITY;
  #roundSamples = 0;
  // The receiver:
  #expected = 0;
  readonly #early = new Map<number, number>();
  #unackedCount = 0;
  readonly #messages: { end: number; message: Message }[] = [];

  /** @param deliver is called for each message that has arrived whole, in order. */
  constructor(
    readonly wires: Wires,
    readonly deliver: (message: Message, now: number) => void,
  ) {}

  /** Bytes that were written and not sent. */
  get unsent(): number {
    return this.#written - this.#sent;
  }

  write(bytes: number, message: Message, now: number): void {
    this.#written += bytes;
    this.#messages.push({ end: this.#written, message });
    this.#transmit(now);
  }

  /** Begin a flow without end. */
  flood(now: number): void {
    this.greedy = true;
    this.#transmit(now);
  }

  #transmit(now: number): void {
    while (this.#flight.length < this.cwnd) {
      const lost = this.#lost.shift();
      if (lost !== undefined) {
        if (!lost.acked) this.#put(lost, now);
        continue;
      }
      const bytes = this.greedy ? MSS : Math.min(MSS, this.unsent);
      if (bytes <= 0) break;
      this.#sent += bytes;
      if (this.greedy) this.#written = Math.max(this.#written, this.#sent);
      const packet = { id: this.#nextId++, bytes, order: 0, time: 0, transmissions: 0, acked: false };
      this.#packets.push(packet);
      this.#put(packet, now);
    }
    this.#use();
    if (this.timer === Number.POSITIVE_INFINITY) this.#arm(now);
  }

  /**
   * Record how far the window is used. As in Linux (tcp_cwnd_validate), having used all of it once counts for
   * the whole round trip.
   */
  #use(): void {
    const limited = this.#flight.length >= this.cwnd;
    const over = (this.#packets[0]?.id ?? this.#nextId) >= this.#useEnd;
    if (!over && !limited && (this.#limited || this.#flight.length <= this.#mostFlight)) return;
    this.#limited = limited;
    this.#mostFlight = this.#flight.length;
    this.#useEnd = this.#nextId;
  }
  #limited = false;
  #mostFlight = 0;
  #useEnd = 0;

  /** The window may grow: it is what limits. */
  get #mayGrow(): boolean {
    return this.#limited || (this.cwnd < this.#ssthresh && this.cwnd < 2 * this.#mostFlight);
  }

  #put(packet: Packet, now: number): void {
    packet.order = ++this.#orders;
    packet.time = now;
    packet.transmissions++;
    const { order } = packet;
    this.#flight.push({ packet, order });
    this.wires.data(packet.bytes + HEADERS, now, (at) => this.#arrived(packet, order, at));
  }

  #arm(now: number): void {
    if (this.#flight.length === 0) {
      this.timer = Number.POSITIVE_INFINITY;
      return;
    }
    const known = this.#srtt > 0;
    const rto = this.#backoff * (known ? this.#srtt + Math.max(RTO_MIN, 4 * this.#rttvar) : RTO_FIRST);
    this.timer = now + (this.#probed || !known ? rto : Math.min(rto, 2 * this.#srtt + 2));
  }

  /** The timer has run out: probe the tail once, then send everything again. */
  expire(now: number): void {
    const last = this.#flight.at(-1)?.packet;
    if (last === undefined) {
      this.timer = Number.POSITIVE_INFINITY;
      return;
    }
    if (!this.#probed && this.#srtt > 0) {
      this.#probed = true;
      this.#put(last, now);
      this.#arm(now);
      return;
    }
    this.#lost = [...new Set([...this.#lost, ...this.#flight.map((one) => one.packet)])]
      .filter((one) => !one.acked)
      .toSorted((a, b) => a.id - b.id);
    this.#flight = [];
    if (this.#backoff === 1) this.#ssthresh = Math.max(2, this.cwnd * BETA);
    this.cwnd = 1;
    this.#epoch = -1;
    this.#recovery = this.#nextId;
    this.#backoff = Math.min(64, 2 * this.#backoff);
    this.timer = Number.POSITIVE_INFINITY;
    this.#transmit(now);
  }

  /** At the receiver. */
  #arrived(packet: Packet, order: number, now: number): void {
    if (packet.id >= this.#expected) this.#early.set(packet.id, packet.bytes);
    const ordered = packet.id === this.#expected && this.#early.size === 1;
    for (;;) {
      const bytes = this.#early.get(this.#expected);
      if (bytes === undefined) break;
      this.#early.delete(this.#expected++);
      this.delivered += bytes;
    }
    for (;;) {
      const first = this.#messages[0];
      if (first === undefined || first.end > this.delivered) break;
      this.#messages.shift();
      this.deliver(first.message, now);
    }
    const expected = this.#expected;
    // Every second packet that arrives in order is acknowledged, here with nothing lost for it.
    const small = packet.bytes < MSS;
    if (ordered && !small && ++this.#unackedCount % 2 === 1) {
      this.#held = { packet, order };
      return;
    }
    const held = this.#held;
    this.#held = undefined;
    this.wires.ack(HEADERS, now, (at) => {
      if (held !== undefined) this.#acknowledged(held.packet, held.order, expected, at, true);
      this.#acknowledged(packet, order, expected, at, false);
    });
  }
  #held: { packet: Packet; order: number } | undefined;

  #acknowledged(packet: Packet, order: number, expected: number, now: number, first: boolean): void {
    const fresh = !packet.acked;
    packet.acked = true;
    while (this.#packets[0] !== undefined && this.#packets[0].id < expected) {
      const done = this.#packets.shift();
      if (done !== undefined) done.acked = true;
    }
    if (fresh && packet.order === order) {
      if (packet.transmissions === 1) this.#measure(now - packet.time, packet.id);
      this.#backoff = 1;
      this.#probed = false;
    }
    let losses = false;
    for (;;) {
      const head = this.#flight[0];
      if (head === undefined) break;
      if (head.packet.acked || head.order !== head.packet.order) this.#flight.shift();
      else if (head.order + REORDERING <= order) {
        this.#flight.shift();
        this.#lost.push(head.packet);
        losses = true;
      } else break;
    }
    if (losses && packet.id >= this.#recovery) {
      this.#wMax = this.cwnd < this.#wMax ? (this.cwnd * (1 + BETA)) / 2 : this.cwnd;
      this.cwnd = Math.max(2, this.cwnd * BETA);
      this.#ssthresh = this.cwnd;
      this.#epoch = -1;
      this.#recovery = this.#nextId;
    } else if (fresh && this.#mayGrow && expected >= this.#recovery) this.#grow(now);
    if (!first) {
      this.timer = Number.POSITIVE_INFINITY;
      this.#transmit(now);
      this.#arm(now);
    }
  }

  #measure(rtt: number, id: number): void {
    this.#minRtt = Math.min(this.#minRtt, rtt);
    if (this.#srtt === 0) [this.#srtt, this.#rttvar] = [rtt, rtt / 2];
    else {
      this.#rttvar += (Math.abs(rtt - this.#srtt) - this.#rttvar) / 4;
      this.#srtt += (rtt - this.#srtt) / 8;
    }
    if (id >= this.#roundEnd) {
      this.#roundEnd = this.#nextId;
      this.#roundMin = Number.POSITIVE_INFINITY;
      this.#roundSamples = 0;
    }
    if (this.#roundSamples++ < 8) this.#roundMin = Math.min(this.#roundMin, rtt);
    else if (this.cwnd < this.#ssthresh && this.cwnd >= 16) {
      const room = Math.min(16, Math.max(4, this.#minRtt / 8));
      if (this.#roundMin > this.#minRtt + room) this.#ssthresh = this.cwnd;
    }
  }

  #grow(now: number): void {
    if (this.cwnd < this.#ssthresh) {
      this.cwnd++;
      return;
    }
    if (this.#epoch < 0) {
      this.#epoch = now;
      this.#wMax = Math.max(this.#wMax, this.cwnd);
      this.#friendly = this.cwnd;
    }
    const k = Math.cbrt((this.#wMax * (1 - BETA)) / CUBIC_C);
    const t = (now - this.#epoch + this.#srtt) / 1000;
    const target = CUBIC_C * (t - k) ** 3 + this.#wMax;
    this.#friendly += (3 * (1 - BETA)) / (1 + BETA) / this.cwnd;
    const goal = Math.max(target, this.#friendly);
    if (goal > this.cwnd) this.cwnd += Math.min(0.5, (goal - this.cwnd) / this.cwnd);
    else this.cwnd += 0.01 / this.cwnd;
  }
  #friendly = 0;
}
