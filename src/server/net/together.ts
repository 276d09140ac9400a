/**
 * Does jobs of one kind together: while a group of them is being done, the next group gathers. A program that is
 * started for each of a thousand jobs at the same moment would take longer than it may.
 */

interface Waiting<T> {
  readonly job: T;
  /** The job was done. */
  readonly resolve: () => void;
  /** The job failed. */
  readonly reject: (error: unknown) => void;
}

/** Jobs of one group at most: the group must be done in the time of one program. */
const MOST = 64;

export class Together<T> {
  #waiting: Waiting<T>[] = [];
  #isBusy = false;

  /**
   * @param all does several jobs. If it fails, each of them is done alone, so that one that cannot be done does
   *   not concern the others: a job may be done twice.
   */
  constructor(readonly all: (jobs: readonly T[]) => Promise<void>) {}

  /** Do a job. @throws what `all` throws for this job alone. */
  add(job: T): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#waiting.push({ job, resolve, reject });
    void this.#work();
    return promise;
  }

  async #work(): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    while (this.#waiting.length > 0) await this.#group(this.#waiting.splice(0, MOST));
    this.#isBusy = false;
  }

  async #group(group: readonly Waiting<T>[]): Promise<void> {
    try {
      await this.all(group.map(({ job }) => job));
      for (const { resolve } of group) resolve();
    } catch (error) {
      const [only] = group;
      if (group.length === 1) only?.reject(error);
      else for (const one of group) await this.#group([one]);
    }
  }
}
