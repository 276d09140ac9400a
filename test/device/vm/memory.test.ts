import { expect, test } from "bun:test";
import { LEAST, MOST, totalMemory, vmMemory } from "../../../src/device/vm/memory.ts";

test("a number is taken as it is", () => {
  expect(vmMemory(777, "rpi-3-b-plus", 926)).toBe(777);
});

test("auto: a Pi keeps what its own system needs, a generic machine half of what it has", () => {
  expect(vmMemory("auto", "rpi-3-b-plus", 905)).toBe(576); // what the emulated board has
  expect(vmMemory("auto", "rpi-3-b-plus", 926)).toBe(592);
  expect(vmMemory("auto", "rpi-3-b", 926)).toBe(592);
  expect(vmMemory("auto", "generic", 1000)).toBe(496);
});

test("auto has a least and a most", () => {
  expect(vmMemory("auto", "rpi-3-b-plus", 400)).toBe(LEAST);
  expect(vmMemory("auto", "generic", 64_000)).toBe(MOST);
});

test("this machine's memory is read, and what is no answer is refused", () => {
  expect(totalMemory()).toBeGreaterThan(100);
  expect(totalMemory("MemTotal:         948304 kB\nMemFree: 1 kB\n")).toBe(926);
  expect(() => totalMemory("MemFree: 1 kB\n")).toThrow(/has no MemTotal/);
});
