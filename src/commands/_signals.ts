/** What a command takes away before a signal ends it: children, and files for the time of the command. */

const STOPS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
const cleaners = new Set<() => void>();

/** Call `clean` before a signal ends this command, until the result is disposed of. */
export function beforeSignal(clean: () => void): Disposable {
  if (cleaners.size === 0) for (const signal of STOPS) process.on(signal, cleanUp);
  cleaners.add(clean);
  return {
    [Symbol.dispose]: () => {
      cleaners.delete(clean);
      if (cleaners.size === 0) for (const signal of STOPS) process.off(signal, cleanUp);
    },
  };
}

function cleanUp(signal: NodeJS.Signals): void {
  for (const clean of cleaners) clean();
  for (const one of STOPS) process.off(one, cleanUp);
  // A command with a listener of its own ends in its own way.
  if (process.listenerCount(signal) === 0) process.kill(process.pid, signal);
}
