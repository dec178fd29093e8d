"""The page around the contents, its tables, and a policy that forbids the rest.

The page needs no script to be read: tables arrive sorted, and the script makes their heads
buttons. Its content security policy allows no address at all, and of scripts the one below.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lplr.evaluation.metrics import number
from lplr.evaluation.report.look import SCRIPT, STYLE
from lplr.storage.atomic import write_atomic

__all__ = [
    "Value",
    "anchor",
    "captioned",
    "document",
    "escape",
    "folded",
    "listing",
    "navigation",
    "table",
    "typeset",
    "write_page",
]

_TAGS = {"_": "sub", "^": "sup"}


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
    dots = r"(?<=\.)(?=[a-z])"  # where a name has them, as those of modules do: nowhere else
    meet = dots if re.search(dots, text) else r"(?<=[a-z])(?=[A-Z])|(?<=_)"
    return re.sub(meet, "<wbr>", escape(text))


def captioned(content: str, caption: str) -> str:
    """A figure with what is written below it; both are HTML."""
    return f"<figure>{content}<figcaption>{caption}</figcaption></figure>"


def folded(summary: str, content: str) -> str:
    """What is shown on demand; both are HTML."""
    return f"<details><summary>{summary}</summary>{content}</details>"


def navigation(links: Sequence[tuple[str, str]]) -> str:
    """Links to the sections of the page: the id of each and its name."""
    items = "".join(f'<li><a href="#{to}">{escape(text)}</a></li>' for to, text in links)
    return f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def listing(value: Any) -> str:
    """Nested mappings as lists of terms, everything else as it prints."""
    if isinstance(value, Mapping):
        terms = (f"<dt>{escape(k)}</dt><dd>{listing(v)}</dd>" for k, v in value.items())
        return f'<dl class="listed">{"".join(terms)}</dl>'
    if isinstance(value, (list, tuple)):
        return escape(", ".join(map(str, value)))
    return escape(number(value) if isinstance(value, float) else value)


def write_page(
    path: str | os.PathLike[str],
    title: str,
    sections: Mapping[str, str],
    *,
    lead: str = "",
    header: str = "",
    overwrite: bool = False,
) -> None:
    """Write one self-contained HTML file: a header, links to the sections, and these.

    Parameters
    ----------
    path : str or path-like
    title : str
    sections : mapping
        HTML by the name of the section, in order; empty ones are left out.
    lead : str
        Text below the title.
    header : str
        HTML that takes the place of title and lead.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    InputError
        If the file exists and ``overwrite`` is False.
    StorageError
        If it cannot be written.
    """
    shown = {name: content for name, content in sections.items() if content}
    header = header or f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>'
    body = "".join(
        f'<section><h2 id="{anchor(name)}">{escape(name)}</h2>{content}</section>'
        for name, content in shown.items()
    )
    links = navigation([(anchor(name), name) for name in shown])
    page = document(title, f"<header>{header}</header>{links}{body}")
    write_atomic(path, [page.encode(errors="backslashreplace")], overwrite)


def document(title: str, body: str) -> str:
    """The whole file, of a title that is not yet escaped and a body that is HTML."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
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
<style>{STYLE}</style>
</head>
<body>
{body}
<script>{SCRIPT}</script>
</body>
</html>
"""
