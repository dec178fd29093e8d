"""The words of the report, for readers who know linear algebra and neither paper."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.evaluation.report.page import anchor, escape, folded, typeset
from lplr.evaluation.styles import in_order, style_of

__all__ = ["glossary", "term"]

_TERMS = {
    "relative error": "|A - B|_F / |A|_F, with A the matrix and B what is stored of it: the length "
    "of the difference as a share of the length of A. 0 is exact, 1 as bad as storing nothing.",
    "stored bits per entry": "Everything that decoding needs, codes, scales, codebooks and seeds, "
    "in bits, divided by the number of entries of A. A float32 matrix has 32.",
    "rank": "The number of columns of L, and of rows of R, in a product L R. A product of rank k "
    "has k (n + d) numbers to store, where A has n d.",
    "L R": "A product of two thin factors, both with few bits per number.",
    "Q + L R": "A coarsely rounded matrix Q of full size, plus a product that mends its largest "
    "errors.",
    "kNN accuracy": "Each query gets the label of most of the k nearest rows of the compressed "
    "matrix. Accuracy is the share of queries whose label is right. Queries are not compressed.",
    "neighbours kept (recall@10)": "Of the 10 rows nearest to a query in A, the share that is also "
    "among the 10 nearest in B.",
    "standard error": "How far a measured mean is likely to be from the true one: within twice "
    "this in 95 % of cases. Other queries, or other random numbers, would give another mean.",
    "no difference": "A difference within twice its standard error. Two methods answer the same "
    "queries, so that only queries on which they disagree count (as in McNemar's test). The best "
    "of many methods is partly the luckiest: a small lead of it says little.",
    "Hessian": "H = X^T X / m for m inputs X of a layer. The error under H is that of the layer's "
    "outputs: sqrt(tr((A - B) H (A - B)^T) / tr(A H A^T)).",
    "yardstick": "The least error of two factors that are coded ideally, were the singular vectors "
    "of A random. It is not a bound: a code of the entries, or of structure, may go below.",
    "PSNR, SSIM": "How near two images are: in decibel, and as a similarity that is 1 for equal "
    "ones. More is better.",
    "seed": "The start of the random numbers. Results of several seeds are averaged.",
}


def glossary(stores: Mapping[str, Any]) -> str:
    """All terms; and, folded, what each method stores."""
    terms = "".join(
        f'<dt id="{anchor(name)}">{escape(name)}</dt><dd>{typeset(text)}</dd>'
        for name, text in _TERMS.items()
    )
    shown = f'<h2 id="glossary">Glossary</h2><dl class="terms">{terms}</dl>'
    if not stores:
        return shown
    methods = "".join(
        f"<dt>{escape(style_of(name).label)}</dt><dd>{escape(stores[name])}</dd>"
        for name in in_order(stores)
    )
    told = f"What each of {len(stores)} methods stores"
    return shown + folded(told, f'<dl class="listed">{methods}</dl>')


def term(name: str, text: str = "") -> str:
    """A link to a term."""
    assert name in _TERMS
    return f'<a href="#{anchor(name)}">{escape(text or name)}</a>'
