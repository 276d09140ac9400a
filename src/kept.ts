/** Work whose result many wait for. A failure is not kept: what failed once would fail for ever. */

/** Does `work` at the first call, and gives its result at every call. If it has failed, the next call does it again. */
export function kept<T>(work: () => Promise<T>): () => Promise<T> {
  let result: Promise<T> | undefined;
  return () => {
    if (result !== undefined) return result;
    const mine = work();
    result = mine;
    mine.catch(() => {
      result = undefined;
    });
    return mine;
  };
}
