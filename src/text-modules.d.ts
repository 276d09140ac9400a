/** Files that are imported as text, and so are inside the compiled binary. */

declare module "*.sh" {
  const text: string;
  export default text;
}

declare module "*.py" {
  const text: string;
  export default text;
}

declare module "*.service" {
  const text: string;
  export default text;
}

declare module "*.socket" {
  const text: string;
  export default text;
}

declare module "*.ipxe" {
  const text: string;
  export default text;
}

declare module "*Containerfile" {
  const text: string;
  export default text;
}
