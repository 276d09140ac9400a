/** The protocol between snmpd and a `pass_persist` program (snmpd.conf(5)): requests and answers are lines of text. */

import { messageOf } from "../../errors.ts";
import { type Oid, portOfAdmin, type Row, rowAfter, rowAt } from "./mib.ts";

/** Characters of a line, and numbers of an object identifier (RFC 3416, section 4.1). */
export const LINE_MAX = 2048;
const OID_MAX = 128;

/** ms for which the objects are taken as they were. */
const FRESH = 500;

const NONE = ["NONE"];

export interface PassParts {
  /** All objects, as they are now. */
  rows(): Promise<readonly Row[]>;
  /** Switch the power of a port. @throws Error when that cannot be done. */
  power(port: number, on: boolean): Promise<void>;
  /** Why a value was not set. */
  failed(why: string): void;
}

/** Takes the lines of one snmpd, in order, each after the answer to the one before. */
export class Pass {
  /** What came of a request that is not complete. */
  #request: string[] = [];
  #rows: Promise<readonly Row[]> | undefined;

  constructor(readonly parts: PassParts) {}

  /** @returns the lines of the answer; undefined while the request is not complete. */
  async take(line: string): Promise<readonly string[] | undefined> {
    if (this.#request.length === 0 && line === "") return undefined; // snmpd ends a `set` by an empty line
    this.#request.push(line);
    const [word = "", oid = "", value = ""] = this.#request;
    const wanted = word === "get" || word === "getnext" ? 2 : word === "set" ? 3 : 1;
    if (this.#request.length < wanted) return undefined;
    this.#request = [];
    switch (word) {
      case "PING":
        return ["PONG"];
      case "get":
      case "getnext": {
        const wantedOid = parseOid(oid);
        if (wantedOid === undefined) return NONE;
        const rows = await this.#current();
        return shown(word === "get" ? rowAt(rows, wantedOid) : rowAfter(rows, wantedOid));
      }
      case "set":
        return [await this.#set(oid, value)];
      default:
        return NONE;
    }
  }

  /** All objects. A walk asks thousands of times: they are gathered anew only now and then. */
  #current(): Promise<readonly Row[]> {
    if (this.#rows === undefined) {
      this.#rows = this.parts.rows();
      const forget = setTimeout(() => (this.#rows = undefined), FRESH);
      forget.unref();
      this.#rows.catch(() => (this.#rows = undefined));
    }
    return this.#rows;
  }

  async #set(oid: string, text: string): Promise<string> {
    const port = portOfAdmin(parseOid(oid) ?? []);
    if (port === undefined) return "not-writable";
    const [type, value] = text.split(" ");
    if (type !== "integer") return "wrong-type";
    if (value !== "1" && value !== "2") return "wrong-value"; // TruthValue: true, false
    try {
      await this.parts.power(port, value === "1");
      this.#rows = undefined;
      return "DONE";
    } catch (error) {
      this.parts.failed(messageOf(error));
      return "inconsistent-value";
    }
  }
}

function shown(row: Row | undefined): readonly string[] {
  return row === undefined ? NONE : [`.${row.oid.join(".")}`, row.type, row.value];
}

function parseOid(text: string): Oid | undefined {
  if (!/^(\.\d{1,10})+$/.test(text)) return undefined;
  const parts = text.slice(1).split(".").map(Number);
  return parts.length > OID_MAX ? undefined : parts;
}
