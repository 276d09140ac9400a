/** The version of walt. */

import manifest from "../package.json" with { type: "json" };

/** What `git describe` said when the binary was built (build.ts); undefined when the sources are run. */
declare const WALT_VERSION: string | undefined;

/** Such as `0.1.0`, or `0.1.0+412.g1349765` for the 412th commit. */
export const VERSION: string = typeof WALT_VERSION === "string" ? WALT_VERSION : manifest.version;
