/**
 * An image of the relay (`walt proxy run`) for containers, as an archive in the layout of the OCI
 * (https://github.com/opencontainers/image-spec/blob/main/image-layout.md), made without a daemon. It has the
 * binary, the libraries that it loads, and nothing else.
 */

import { mkdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { binaryPath } from "../build.ts";
import { run } from "../src/linux/run.ts";
import { ARCHITECTURES, type PackageOptions } from "./debian.ts";
import { type Entry, writeTree } from "./tree.ts";

/** Media types of the specification. */
const MANIFEST = "application/vnd.oci.image.manifest.v1+json";
const CONFIG = "application/vnd.oci.image.config.v1+json";
const LAYER = "application/vnd.oci.image.layer.v1.tar+gzip";

/** A blob as others refer to it. */
interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

/**
 * Build the image; its libraries are those of this machine.
 * @param o its target is this machine's architecture.
 * @returns the path of the archive. @throws WaltError when ldd or tar fails.
 */
export async function relayImage(o: PackageOptions): Promise<string> {
  const architecture = ARCHITECTURES[o.target];
  const work = join(o.output, ".walt-relay");
  rmSync(work, { recursive: true, force: true });
  const layout = join(work, "layout");
  mkdirSync(join(layout, "blobs/sha256"), { recursive: true });
  try {
    const add = (content: string | Uint8Array, mediaType: string): Descriptor => {
      const digest = new Bun.CryptoHasher("sha256").update(content).digest("hex");
      writeFileSync(join(layout, "blobs/sha256", digest), content);
      return { mediaType, digest: `sha256:${digest}`, size: Buffer.byteLength(content) };
    };
    const tree = join(work, "root");
    writeTree(tree, await files(binaryPath(o.target)), o.time);
    const layer = join(work, "layer.tar");
    await archive(tree, layer, o.time);
    const tar = readFileSync(layer);
    const layers = [add(gzipSync(tar, { level: 6 }), LAYER)];
    const created = new Date(o.time * 1000).toISOString();
    const config = {
      created,
      architecture,
      os: "linux",
      config: {
        Entrypoint: ["/usr/bin/walt-vpn", "proxy", "run", "--config", "/etc/walt/vpn.toml"],
        Env: ["PATH=/usr/bin", "HOME=/var/lib/walt-vpn"],
        ExposedPorts: { "22/tcp": {} },
        Volumes: { "/var/lib/walt-vpn": {} },
        Labels: {
          "org.opencontainers.image.title": "walt-relay",
          "org.opencontainers.image.version": o.version,
          "org.opencontainers.image.licenses": "BSD-3-Clause",
        },
      },
      rootfs: {
        type: "layers",
        diff_ids: [`sha256:${new Bun.CryptoHasher("sha256").update(tar).digest("hex")}`],
      },
      history: [{ created, created_by: "bun run package" }],
    };
    const manifest = {
      schemaVersion: 2,
      mediaType: MANIFEST,
      config: add(JSON.stringify(config), CONFIG),
      layers,
    };
    // A tag has no "+" (https://github.com/opencontainers/distribution-spec, "Pulling manifests").
    const tag = o.version.replaceAll("+", "_");
    const index = {
      schemaVersion: 2,
      manifests: [
        {
          ...add(JSON.stringify(manifest), MANIFEST),
          platform: { architecture, os: "linux" },
          annotations: { "org.opencontainers.image.ref.name": tag },
        },
      ],
    };
    writeTree(
      layout,
      [
        { path: "oci-layout", content: JSON.stringify({ imageLayoutVersion: "1.0.0" }) },
        { path: "index.json", content: JSON.stringify(index) },
      ],
      o.time,
    );
    const output = join(o.output, `walt-relay_${o.version}_${architecture}.oci.tar`);
    await archive(layout, output, o.time);
    return output;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** The binary with what ldd(1) says that it loads. */
async function files(binary: string): Promise<Entry[]> {
  const said = await run(["ldd", binary]);
  const libraries = [...said.matchAll(/(\/\S+) \(0x[0-9a-f]+\)/g)].map(([, path = ""]) => path);
  return [
    { path: "usr/bin/walt-vpn", content: readFileSync(binary), mode: 0o755 },
    ...libraries.map((path) => ({
      path: path.slice(1),
      content: readFileSync(realpathSync(path)),
      mode: 0o755,
    })),
    { path: "etc/passwd", content: "root:x:0:0:root:/var/lib/walt-vpn:/usr/sbin/nologin\n" },
    { path: "etc/group", content: "root:x:0:\n" },
    { path: "tmp/.keep", content: "" },
    { path: "var/lib/walt-vpn/.keep", content: "" },
  ];
}

async function archive(folder: string, file: string, time: number): Promise<void> {
  const same = [
    "--sort=name",
    `--mtime=@${time}`,
    "--owner=0",
    "--group=0",
    "--numeric-owner",
    "--format=gnu",
  ];
  await run(["tar", "-c", ...same, "-f", file, "-C", folder, "."], { timeout: 120_000 });
}
