/** The script that iPXE runs in the virtual machine, and the lines by which it tells on the console how far it is. */

/** The script's line before each question for an address. */
const ASKS = "walt: asking DHCP";
/** The script's line after the answer: the address, and the host name if there is one. */
const ANSWERED = "walt: DHCP answered";

/**
 * The script. It asks DHCP for an address, then loads what DHCP names by HTTP or TFTP, and repeats this until it
 * succeeds. iPXE's own `autoboot` is not used: it waits 13 s for IPv6 routers that are not there, and gives up when
 * the tunnel is not up yet.
 *
 * - The first line makes it a script. iPXE for EFI takes the first word of a command line for its own name, and
 *   without that label the first failure would end the script.
 * - A WalT server learns from the user class (option 77) what kind of node asks. To such a node it names no file:
 *   the node loads `start.ipxe` from the server by TFTP.
 * - Each round asks DHCP anew: a WalT server that has just registered the node answers something else.
 * - `imgfree` forgets files of a round that failed. Otherwise a kernel and an initramfs more would be in memory
 *   after each round.
 */
export function netbootScript(model: string): string {
  return `#!ipxe
set user-class walt.node.${model}
:retry
imgfree
echo ${ASKS} as walt.node.${model}
ifconf -c dhcp || goto again
echo ${ANSWERED} \${ip} \${hostname}
isset \${filename} || goto walt
chain --autofree \${filename} ||
goto again
:walt
chain --autofree tftp://\${next-server}/start.ipxe ||
:again
sleep 2
goto retry`;
}

/** What a line of the console tells of the script. */
export type NetbootLine =
  | { readonly at: "asking" }
  /** @param name the host name that DHCP gave; "" when it gave none. */
  | { readonly at: "answered"; readonly address: string; readonly name: string };

/** Read a line of the console; undefined when the script did not write it. The guest may write the same. */
export function parseNetbootLine(line: string): NetbootLine | undefined {
  if (line.includes(ASKS)) return { at: "asking" };
  const [, address = "", name = ""] =
    /walt: DHCP answered ([\d.]{7,15}) ?(\S{0,64})$/.exec(line.trimEnd()) ?? [];
  return address === "" ? undefined : { at: "answered", address, name };
}
