"""How the page looks, and the script that sorts its tables."""

from __future__ import annotations

from lplr.evaluation.styles import css_colours

__all__ = ["SCRIPT", "STYLE"]

_COLOURS = f"""
:root {{ color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --dim: #57606a; --rule: #d8dee4;
  --band: #f4f6f8; --link: #0050a0; --own: #0050a0; --good: #00694c; --bad: #9a3b00;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #c05f96; --c4: #c98a00; --c5: #3a9fd6;
  --c6: #882255; {css_colours(dark=False)} }}
@media screen and (prefers-color-scheme: dark) {{
  :root {{ --paper: #14171a; --ink: #e6e9ec; --dim: #a3abb3; --rule: #363c43; --band: #1d2226;
    --link: #7ab8ff; --own: #5aa9ff; --good: #45c49a; --bad: #ff9a5c;
    --c0: #4fb0ec; --c1: #ff8a3d; --c2: #2cc295; --c3: #e39cc4; --c4: #f0b429; --c5: #8fd0f7;
    --c6: #e0769f; {css_colours(dark=True)} }} }}
"""

_RULES = """
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 66rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.55 system-ui, "DejaVu Sans", Verdana, Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.8rem; line-height: 1.2; margin: 0; }
.lead { font-size: 1.1rem; color: var(--dim); margin: .4rem 0 1.75rem; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 3.5rem 0 .5rem; }
h2 small { font-weight: normal; color: var(--dim); font-size: 1rem; white-space: nowrap; }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .25rem; }
p, ul, dl { margin: .6rem 0; max-width: 44rem; }
a { color: var(--link); }
ul { padding-left: 1.25rem; }
.dim, figcaption, caption { color: var(--dim); font-size: .875rem; line-height: 1.45; }
.overview { display: grid; gap: 1.5rem 2.5rem; align-items: start;
  grid-template-columns: minmax(0, 1fr) minmax(0, 26rem); }
.overview dl { margin: 0; display: block; }
.overview dt { color: var(--own); font-weight: 600; font-size: .875rem; letter-spacing: .02em; }
.overview dd { margin: 0 0 .9rem; }
nav { margin: 2rem 0 0; padding: .75rem 0; border: solid var(--rule); border-width: 1px 0; }
nav ul { list-style: none; padding: 0; margin: 0; display: flex; flex-wrap: wrap;
  gap: .25rem 1.25rem; max-width: none; }
figure { margin: 0; min-width: 0; }
figcaption { margin-top: .35rem; }
.charts { display: grid; gap: 1.5rem 2.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr)); }
.charts figure, .overview figure { max-width: 30rem; }
figure svg { display: block; width: 100%; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.pictures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 9.5rem), 1fr)); }
.pictures.wide { grid-template-columns: repeat(auto-fill, minmax(min(100%, 17rem), 1fr)); }
.pictures img { display: block; width: 100%; height: auto; background: #000; }
.pictures img.small { image-rendering: pixelated; }
.scroll { overflow-x: auto; margin: .75rem 0; }
.scroll:focus-visible, summary:focus-visible, button:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .35rem; }
caption span { display: block; position: sticky; left: 0;
  max-width: min(44rem, calc(100vw - 2rem)); }
th, td { padding: .28rem .8rem .28rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--rule); overflow-wrap: normal; }
thead th { border-bottom: 2px solid var(--dim); vertical-align: bottom; line-height: 1.25; }
tbody th { font-weight: normal; }
thead th:first-child, tbody th { position: sticky; left: 0; background: var(--paper); z-index: 1; }
.n { text-align: right; white-space: nowrap; } thead .n { white-space: normal; }
td.w { min-width: 14rem; }
tr.own, tr.own th { background: var(--band); }
tr.own th { font-weight: bold; }
.good { color: var(--good); } .bad { color: var(--bad); }
th button { all: unset; cursor: pointer; font: inherit; color: inherit; }
th button::after { content: "\\2195"; color: var(--dim); padding-left: .3em; font-weight: normal; }
th[aria-sort="ascending"] button::after { content: "\\2191"; color: inherit; }
th[aria-sort="descending"] button::after { content: "\\2193"; color: inherit; }
details { margin: .25rem 0; }
summary { cursor: pointer; color: var(--link); padding: .3rem 0; }
.terms, .listed { display: grid; grid-template-columns: minmax(4rem, 13rem) minmax(0, 1fr);
  gap: .5rem 1.25rem; max-width: 56rem; }
dt { font-weight: 600; } dd { margin: 0; } dd dl { margin: 0; }
dd dt { font-weight: normal; color: var(--dim); }
@media (max-width: 52rem) { .overview { grid-template-columns: minmax(0, 1fr); } }
@media (max-width: 40rem) { body { padding-top: 1.25rem; } h1 { font-size: 1.5rem; }
  tbody th { min-width: 7.6rem; max-width: 8.6rem; overflow-wrap: anywhere; }
  th, td { padding-right: .45rem; } table { font-size: .8125rem; }
  .terms, .listed { display: block; } .terms dd { margin-bottom: .75rem; }
  .pictures, .pictures.wide { grid-template-columns: 1fr 1fr; } dd dl { margin-left: 1rem; } }
@media print {
  body { font-size: 9pt; max-width: none; padding: 0; }
  nav, summary { display: none; }
  details::details-content { content-visibility: visible; block-size: auto; }
  .scroll { overflow: visible; } table { font-size: 6.5pt; } .n { white-space: normal; }
  th button::after { content: none !important; }
  thead { display: table-header-group; }
  tr, figure { break-inside: avoid; } h2, h3, caption { break-after: avoid; }
  .charts { grid-template-columns: 1fr 1fr; }
}
"""

STYLE = _COLOURS + _RULES

SCRIPT = """
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const key = (row, i) => {
    const cell = row.cells[i], value = cell.dataset.v;
    return value === undefined ? cell.textContent : value === "" ? null : Number(value);
  };
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach(other => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => typeof a === "number" ? a - b : a.localeCompare(b);
      const rows = [...body.rows].map(row => [key(row, i), row]);
      rows.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null)
        : (down ? -1 : 1) * order(a, b));
      body.append(...rows.map(([, row]) => row));
    });
  });
}
"""
