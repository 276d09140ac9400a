/**
 * A boot service for tests of a VM without the daemon: dnsmasq for DHCP, and files over HTTP, on one host of the laboratory.
 * Run as a program (`boot-server.ts <folder> <address>`) it is the HTTP half, on port 80.
 */

import { writeFileSync } from "node:fs";
import { join, normalize } from "node:path";
import type { Host } from "./host.ts";
import type { LabProcess } from "./process.ts";

/** What iPXE runs: kernel, command line and initramfs for its architecture. */
function bootScript(server: string, cmdline: string): string {
  return `#!ipxe
set base http://${server}/boot/\${buildarch}
kernel \${base}/vmlinuz ${cmdline}
initrd \${base}/initrd.img
boot
`;
}

/** Serve `<folder>/boot/…` and `/boot.ipxe` to whoever asks DHCP on the host's first interface; the HTTP server, which prints what is asked of it. */
export async function startBootServer(host: Host, folder: string, cmdline: string): Promise<LabProcess> {
  const { device, ipv4 } = host.ports[0] ?? host.port();
  const network = ipv4.split(".").slice(0, 3).join(".");
  writeFileSync(join(folder, "boot.ipxe"), bootScript(ipv4, cmdline));
  const dhcp = host.spawn([
    "dnsmasq",
    "--keep-in-foreground",
    "--conf-file=/dev/null",
    "--log-facility=-",
    "--port=0",
    "--user=root",
    "--pid-file=",
    `--interface=${device}`,
    "--bind-interfaces",
    "--dhcp-option=encap:175,176,1b", // iPXE's no-pxedhcp: it need not wait 3 s for a second DHCP server
    `--dhcp-range=${network}.100,${network}.200,255.255.255.0,1h`,
    `--dhcp-leasefile=${host.dir}/leases`,
    "--no-ping", // it would wait 3 s for an answer from the address it is about to give
    `--dhcp-boot=http://${ipv4}/boot.ipxe`,
  ]);
  const http = host.spawn([process.execPath, import.meta.path, folder, ipv4]);
  await Promise.all([dhcp.waitFor(/dnsmasq-dhcp.*sockets bound|DHCP, IP range/), http.waitFor(/listening/)]);
  return http;
}

if (import.meta.main) {
  const [folder = "", hostname = ""] = process.argv.slice(2);
  Bun.serve({
    port: 80,
    hostname,
    fetch: async (request) => {
      const file = Bun.file(join(folder, normalize(new URL(request.url).pathname)));
      const found = await file.exists();
      console.log(`${found ? 200 : 404} ${new URL(request.url).pathname}`);
      return found ? new Response(file) : new Response("no such file\n", { status: 404 });
    },
  });
  console.log("listening");
}
