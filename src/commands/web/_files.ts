/** The page's own files: inside the compiled binary, and from the sources made when the command starts. */

import type { HTMLBundle } from "bun";
import page from "../../web/index.html";

export interface PageFile {
  readonly type: string;
  readonly body: Blob;
}

/** The files by their path in a URL; the page itself is `/`. @throws Error when the sources cannot be built. */
export async function pageFiles(): Promise<ReadonlyMap<string, PageFile>> {
  const { index, files } = page as HTMLBundle;
  if (files !== undefined) {
    return new Map(
      files.map(({ path, headers, loader }) => [
        loader === "html" ? "/" : nameOf(path),
        { type: headers["content-type"] ?? "application/octet-stream", body: Bun.file(path) },
      ]),
    );
  }
  const built = await Bun.build({ entrypoints: [index], target: "browser", splitting: true });
  return new Map(
    built.outputs.map((output) => [
      output.path.endsWith(".html") ? "/" : nameOf(output.path),
      { type: output.type, body: output },
    ]),
  );
}

/** Bundles are beside each other. */
function nameOf(path: string): string {
  return `/${path.slice(path.lastIndexOf("/") + 1)}`;
}
