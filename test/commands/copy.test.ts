/** What is copied where by `walt node cp`. */

import { expect, test } from "bun:test";
import { copyOf, type NodeCopy, pathsOf, patternsOf } from "../../src/commands/node/_copy.ts";
import { WaltError } from "../../src/errors.ts";

/** The part of a node that fits words which begin as its name does. */
function paths(words: string[], name: string, folders = false): NodeCopy {
  return pathsOf(copyOf(words), name, (word) => name.startsWith(word.replace("*", "")), folders);
}

test("to nodes", () => {
  expect(paths(["a", "./b:c", "lab-3:/tmp/"], "lab-3")).toEqual({
    sources: ["a", "./b:c"],
    target: "lab-3:/tmp/",
  });
  expect(paths(["a", "lab-*:"], "lab-4", true)).toEqual({ sources: ["a"], target: "lab-4:" });
  expect(patternsOf(copyOf(["a", "lab-*:/tmp"]))).toEqual(["lab-*"]);
});

test("from nodes: of several, each has a folder, and its own sources", () => {
  expect(paths(["lab-3:/x", "lab-3:y:z", "here"], "lab-3")).toEqual({
    sources: ["lab-3:/x", "lab-3:y:z"],
    target: "here",
  });
  const words = ["lab-*:/x", "lab-3:/y", "logs"];
  expect(paths(words, "lab-3", true)).toEqual({
    sources: ["lab-3:/x", "lab-3:/y"],
    target: "logs/lab-3",
    folder: "logs/lab-3",
  });
  expect(paths(words, "lab-4", true)).toEqual({
    sources: ["lab-4:/x"],
    target: "logs/lab-4",
    folder: "logs/lab-4",
  });
  expect(patternsOf(copyOf(words))).toEqual(["lab-*", "lab-3"]);
});

test("words that name nodes on no side, on both, or among files here", () => {
  const refusal = (...words: string[]): string => {
    try {
      copyOf(words);
    } catch (error) {
      if (error instanceof WaltError && error.exitCode === 2) return error.message;
      throw error;
    }
    throw new Error("nothing was thrown");
  };
  expect(refusal("a", "b")).toBe('neither "b" nor a source is on a node');
  expect(refusal("a", "./lab-3:b")).toStartWith("neither ");
  expect(refusal("lab-3:a", "lab-4:b")).toBe('both "lab-4:b" and a source are on nodes');
  expect(refusal("a", "lab-3:b", "c")).toBe("some sources are on nodes and some are here");
});
