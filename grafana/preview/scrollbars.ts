// esbuild reads this CommonJS module as Node does, where its default export is the whole module.
// scripts/build_preview puts this file in its place, and it under the name below.
export { Scrollbars as default } from 'scrollbars-as-published';
