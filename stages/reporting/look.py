"""The page's style sheet: system fonts, light and dark, narrow, wide and printed."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --raised: #f6f7f8; --ink: #1b1f24; --quiet: #59636e; --line: #d9dee3;
  --accent: #0b5cad; --shade: rgb(0 0 0 / .16);
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16191d; --raised: #1f2328; --ink: #e4e7ea; --quiet: #9aa4ae; --line: #343a41;
    --accent: #7ab7f5; --shade: rgb(0 0 0 / .7);
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; max-width: 72rem; padding: 1.5rem 1.25rem 4rem;
  background: var(--paper); color: var(--ink); overflow-wrap: break-word;
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.01em; }
h2 {
  font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .75rem; padding-top: .75rem;
  border-top: 1px solid var(--line);
}
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p, ul { max-width: 46rem; margin: .5rem 0; }
ul { padding-left: 1.25rem; }
li { margin: .3rem 0; }
code, pre {
  font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
pre { overflow-x: auto; background: var(--raised); padding: .75rem 1rem; border-radius: 6px; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .35rem 1rem; margin: 1.25rem 0 0; font-size: .92rem; }
.lead { font-size: 1.15rem; line-height: 1.5; }
.quiet, .interval, .note, figcaption { color: var(--quiet); }
.tiles {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem;
  margin: 1.25rem 0;
}
.tiles > div { background: var(--raised); border-radius: 8px; padding: .8rem 1rem; }
.tiles dt { font-size: .88rem; font-weight: 600; }
.tiles dd {
  margin: .1rem 0 0; font-size: 1.5rem; line-height: 1.3; font-variant-numeric: tabular-nums;
}
.tiles dd .interval { display: block; font-size: .85rem; }
.tiles dd.note { font-size: .8rem; line-height: 1.4; margin-top: .35rem; }
.table { margin: 1.5rem 0; }
.table > div {
  overflow-x: auto;
  /* A shadow at an edge beyond which there is more. */
  background:
    linear-gradient(to right, var(--paper) 1.5rem, transparent) left / 3rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 1.5rem, transparent) right / 3rem 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / .8rem 100% no-repeat scroll;
}
.table figcaption { margin: 0 0 .3rem; max-width: 46rem; }
.table strong { color: var(--ink); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td {
  text-align: left; padding: .32rem .8rem .32rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; vertical-align: top;
}
th { font-weight: 600; border-bottom-width: 2px; }
.number { text-align: right; padding-left: .5rem; }
.wrap { white-space: normal; display: block; width: max-content; max-width: 18rem; text-align: left;
  overflow-wrap: anywhere;
}
.interval { font-size: .88em; white-space: nowrap; }
.gallery {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20.5rem), 1fr));
  gap: 1.5rem; margin: 1.25rem 0;
}
figure { margin: 0; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 6px; }
.sheet { margin: 1.25rem 0; }
.sheet > div { overflow-x: auto; }
.sheet img { max-width: none; }
figcaption { font-size: .85rem; line-height: 1.45; margin-top: .4rem; }
@media screen and (prefers-color-scheme: dark) {
  .chart img { filter: invert(.91) hue-rotate(180deg); }
}
@media (max-width: 30rem) {
  body { padding: 1rem 1rem 3rem; }
  h1 { font-size: 1.45rem; }
  .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)); gap: .5rem; }
  .tiles > div { padding: .6rem .7rem; }
  .tiles dd { font-size: 1.3rem; }
  .wrap { max-width: 16rem; }
  .table th:first-child, .table td:first-child {
    position: sticky; left: 0; background: var(--paper);
  }
}
@media print {
  :root {
    --paper: #fff; --raised: #f4f4f4; --ink: #000; --quiet: #444; --line: #bbb; --accent: #000;
  }
  @page { margin: 14mm; }
  body { max-width: none; padding: 0; font-size: 9.5pt; }
  nav { display: none; }
  a { text-decoration: none; }
  h2 { break-after: avoid; margin-top: 1.5rem; }
  h3, .table figcaption { break-after: avoid; break-inside: avoid; }
  figcaption { font-size: 7.6pt; }
  tr, .chart, .tiles > div { break-inside: avoid; }
  .table > div, .sheet > div { overflow: visible; background: none; }
  table { font-size: 7.6pt; }
  th, td { padding-right: .45rem; }
  .gallery { grid-template-columns: repeat(3, 1fr); gap: .8rem; }
  .sheet img { max-width: 100%; }
  .wrap { max-width: 14rem; }
  details::details-content { content-visibility: visible; block-size: auto; }
  pre { white-space: pre-wrap; font-size: 7pt; overflow: visible; }
}
"""
