/** Styles that a script of the page imports: the bundler puts them into its style sheet. */

declare module "*.css";
