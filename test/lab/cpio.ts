/** The node's initramfs is written by the same program as the device's. */
export { cpioNewc, type Entry } from "../../src/image/base/cpio.ts";
