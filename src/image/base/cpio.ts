/** cpio archives in the "newc" format: the kernel unpacks such an archive as its initial file system. */

/**
 * One entry of an archive: a folder, a file, a symbolic link or a character device.
 * Every entry belongs to root and has the modification time 0.
 */
export type Entry =
  | { path: string; type: "folder" }
  | { path: string; type: "file"; data: string | Uint8Array; mode: number }
  | { path: string; type: "link"; target: string }
  | { path: string; type: "device"; major: number; minor: number };

/**
 * The type bits of st_mode (inode(7)) and the permissions of each type. A file states its own permissions.
 */
const MODES = { folder: 0o040755, file: 0o100000, link: 0o120777, device: 0o020600 } as const;

/** Zero bytes that fill `length` up to a multiple of four. */
function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

/**
 * The archive as bytes. A folder must come before the entries in it.
 * Format: Documentation/driver-api/early-userspace/buffer-format.rst of the Linux kernel.
 */
export function cpioNewc(entries: readonly Entry[]): Buffer {
  const parts: Buffer[] = [];
  const add = (inode: number, mode: number, path: string, data: Buffer, device = [0, 0]): void => {
    const name = Buffer.from(`${path}\0`);
    const fields = [inode, mode, 0, 0, 1, 0, data.length, 0, 0, ...device, name.length, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, "0")).join("")}`;
    parts.push(Buffer.from(header), name, padding(header.length + name.length), data, padding(data.length));
  };
  for (const [index, entry] of entries.entries()) {
    const path = entry.path.replace(/^\//, "");
    if (entry.type === "file") {
      add(index + 1, MODES.file | entry.mode, path, Buffer.from(entry.data));
    } else if (entry.type === "link") {
      add(index + 1, MODES.link, path, Buffer.from(entry.target));
    } else if (entry.type === "device") {
      add(index + 1, MODES.device, path, Buffer.alloc(0), [entry.major, entry.minor]);
    } else {
      add(index + 1, MODES.folder, path, Buffer.alloc(0));
    }
  }
  add(0, 0, "TRAILER!!!", Buffer.alloc(0));
  return Buffer.concat(parts);
}
