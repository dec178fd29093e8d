"""The page around the contents: style, the sorting of tables, and a policy that forbids the rest.

The page needs no script to be read: tables arrive sorted, and the script makes their heads
buttons. Its content security policy allows no address at all, and of scripts the one below.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Value", "anchor", "document", "escape", "table", "typeset"]

_TAGS = {"_": "sub", "^": "sup"}

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1a1a1a; --dim: #595959; --rule: #d9d9d9;
  --band: #f4f5f7; --link: #005a9c; --good: #00694c; --bad: #b03a00;
  --c0: #0072b2; --c1: #d55e00; --c2: #009e73; --c3: #c05f96; --c4: #c98a00; --c5: #3a9fd6;
  --c6: #882255; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #14171a; --ink: #e8e8e8; --dim: #a8adb3; --rule: #3a3f45; --band: #1d2226;
    --link: #79b8f3; --good: #45c49a; --bad: #ff9a5c;
    --c0: #4fb0ec; --c1: #ff8a3d; --c2: #2cc295; --c3: #e39cc4; --c4: #f0b429; --c5: #8fd0f7;
    --c6: #e0769f; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 78rem; background: var(--paper);
  color: var(--ink); font: 1rem/1.5 system-ui, "DejaVu Sans", Verdana, Arial, sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 3rem 0 .5rem; padding-top: .75rem;
  border-top: 1px solid var(--rule); }
h2 small { font-weight: normal; color: var(--dim); font-size: 1rem; white-space: nowrap; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; }
p, ul, dl { margin: .5rem 0; max-width: 50rem; }
a { color: var(--link); }
.lead { font-size: 1.1rem; border-left: 4px solid var(--c0); padding-left: .9rem; }
.lead.lost { border-color: var(--bad); }
.dim, figcaption, caption { color: var(--dim); font-size: .875rem; }
nav ul { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: .25rem 1.25rem;
  max-width: none; }
figure { margin: 0; min-width: 0; }
.charts { display: grid; gap: 1.25rem 1.5rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 22.5rem), 1fr)); }
.charts svg { display: block; width: 100%; height: auto; overflow: visible; }
svg * { stroke-linejoin: round; stroke-linecap: butt; }
.pictures { display: grid; gap: 1rem; margin: 1rem 0;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 8.5rem), 1fr)); }
.pictures img { display: block; width: 100%; height: auto; background: #000; }
.pictures img.small { image-rendering: pixelated; }
.scroll { overflow-x: auto; margin: .75rem 0; }
.scroll:focus-visible, summary:focus-visible, button:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding-bottom: .35rem; }
caption span { display: block; position: sticky; left: 0;
  max-width: min(50rem, calc(100vw - 2rem)); }
th, td { padding: .28rem .7rem .28rem 0; text-align: left; vertical-align: baseline;
  border-bottom: 1px solid var(--rule); overflow-wrap: normal; }
thead th { border-bottom: 2px solid var(--dim); vertical-align: bottom; line-height: 1.25; }
tbody th { font-weight: normal; }
thead th:first-child, tbody th { position: sticky; left: 0; background: var(--paper); z-index: 1; }
.n { text-align: right; white-space: nowrap; }
td.w { min-width: 14rem; }
tr.own, tr.own th { background: var(--band); }
tr.own th { font-weight: bold; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: bold; }
th button { all: unset; cursor: pointer; font: inherit; color: inherit; }
th button::after { content: "\\2195"; color: var(--dim); padding-left: .3em; font-weight: normal; }
th[aria-sort="ascending"] button::after { content: "\\2191"; color: inherit; }
th[aria-sort="descending"] button::after { content: "\\2193"; color: inherit; }
summary { cursor: pointer; color: var(--link); padding: .3rem 0; }
dl { display: grid; grid-template-columns: minmax(4rem, max-content) minmax(0, 1fr);
  gap: .2rem 1rem; }
dt { font-weight: 600; } dd { margin: 0; } dd dl { margin: 0; }
dd dt { font-weight: normal; color: var(--dim); }
@media (max-width: 40rem) { tbody th { min-width: 6.8rem; max-width: 8rem;
    overflow-wrap: anywhere; } dl { display: block; } dd dl { margin-left: 1rem; } }
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

_SCRIPT = """
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


def escape(text: object) -> str:
    """Any text as HTML, in an attribute or outside."""
    return html.escape(str(text))


def typeset(formula: str) -> str:
    """A formula in plain characters as HTML: signs, indices and exponents.

    Examples
    --------
    >>> from lplr.evaluation.report.page import typeset
    >>> typeset("|A - B|_F / sqrt(x^2)")
    '‖A − B‖<sub>F</sub> / √(x<sup>2</sup>)'
    """
    text = escape(formula).replace(" - ", " − ").replace("sqrt(", "√(")
    text = re.sub(r"\|([^|]*)\|(?=_[F2])", r"‖\1‖", text)
    return re.sub(r"([_^])(\w+)", lambda m: f"<{_TAGS[m[1]]}>{m[2]}</{_TAGS[m[1]]}>", text)


def anchor(text: str) -> str:
    """A name for the id of an element, from any text; equal for equal texts only.

    Examples
    --------
    >>> from lplr.evaluation.report.page import anchor
    >>> anchor("a b") == anchor("a b"), anchor("a b") == anchor("a-b"), anchor("é")[:4]
    (True, False, 'x---')
    """
    plain = "".join(c if c.isascii() and c.isalnum() else "-" for c in text)
    return f"x-{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}"


@dataclass(frozen=True)
class Value:
    """A cell of a table: its text, what a numeric column sorts by, and a class of the cell."""

    text: str
    key: float | None = None
    mark: str = ""


def table(
    caption: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[Value]],
    *,
    numeric: Sequence[int],
    sorted_by: int | None = None,
    own: Sequence[int] = (),
) -> str:
    """A table that can be sorted where there are scripts; the first cell of a row is its head.

    ``numeric`` are columns of numbers, ``own`` the rows to set off; the rows come sorted by the
    column ``sorted_by``, ascending.
    """
    lines = [
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">',
        f'<table class="sortable"><caption><span>{escape(caption)}</span></caption><thead><tr>',
    ]
    for i, head in enumerate(heads):
        order = ' aria-sort="ascending"' if i == sorted_by else ""
        kind = ' class="n"' if i in numeric else ""
        lines.append(f'<th scope="col"{kind}{order}>{escape(head)}</th>')
    lines.append("</tr></thead><tbody>")
    for i, row in enumerate(rows):
        cells = []
        for j, value in enumerate(row):
            marks = " ".join(filter(None, ("n" if j in numeric else "", value.mark)))
            about = f' class="{marks}"' if marks else ""
            if j in numeric:
                about += f' data-v="{"" if value.key is None else repr(float(value.key))}"'
            tag = "th" if j == 0 else "td"
            scope = ' scope="row"' if j == 0 else ""
            text = escape(value.text) if j else _breakable(value.text)
            cells.append(f"<{tag}{scope}{about}>{text}</{tag}>")
        kind = ' class="own"' if i in own else ""
        lines.append(f"<tr{kind}>{''.join(cells)}</tr>")
    lines.append("</tbody></table></div>")
    return "\n".join(lines)


def _breakable(text: str) -> str:
    """A name that a narrow column may break where its words meet: ``TruncatedSVD``, ``a_b``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=_)", "<wbr>", escape(text))


def document(title: str, body: str) -> str:
    """The whole file, of a title that is not yet escaped and a body that is HTML."""
    digest = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
{body}
<script>{_SCRIPT}</script>
</body>
</html>
"""
