"""Figures of llama.cpp's types, for the one network and the texts on which they were measured.

They were measured with llama.cpp's own quantization under an importance matrix, and not by this
package: SmolLM2-135M-Instruct, the float32 values of its Q4_1 file as the original, KL in nats on
the first 12 of 24 windows of 512 tokens. 576 columns are no multiple of the 256 weights of a block;
for such layers llama.cpp takes larger types, so that its files have the bits "as built". The other
figures are those of the types themselves, as if their blocks fitted.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

__all__ = ["SAID", "figures_for"]

_CHECKPOINT = "16399c58348341f1727030d1fc312a7fb25819f69fcbb6d15fd0687f698a49c4"
_TEXTS = {  # SHA-256 of the tokens, all windows and the first 12: which of the two KLs is theirs
    "7543925dc17a6e622fd9bfc805c8e8fbc42430ac3d10926e020b899651101345": 0,
    "e99c83196dee6e8ed77fd61300c92c9f44c19df24a6cae2e1ec48d6e7684a77e": 0,
    "56adfd3ae8e59ab269e2e4350be19892c10359afd387d237f1bf7460784f5c82": 1,
    "3ea45f2939d656eede2a786dc4affefefd8fcf3113e444420130110190783db7": 1,
}
# Type: bits per weight over the linear layers, and KL on both texts.
_FITTED = {
    "IQ2_XS": (2.31, 2.26, 2.00),
    "IQ2_S": (2.56, 1.53, 1.33),
    "Q2_K": (2.63, 1.12, 0.98),
    "IQ3_XXS": (3.06, 0.65, 0.51),
}
_BUILT = {
    "IQ1_M": (3.83, 0.88, 0.72),
    "IQ3_S": (4.23, 0.18, 0.12),
    "Q2_K": (4.23, 0.34, 0.26),
    "Q3_K_M": (4.63, 0.089, 0.068),
}
_FIGURES: Mapping[str, Mapping[str, tuple[float, float, float]]] = MappingProxyType(
    {"llama.cpp": _FITTED, "llama.cpp, as built": _BUILT}
)
SAID = (
    "Types of llama.cpp under an importance matrix: KL on the first 12 of these windows, measured "
    "with llama.cpp and not by this package. Layers of 576 columns, which its blocks of 256 "
    "weights do not fit, are in larger types in its files: as built. The others are as if all "
    "fitted."
)


def figures_for(
    run: Mapping[str, Any], result: Mapping[str, Any]
) -> dict[str, list[tuple[str, float, float]]]:
    """By curve: type, bits per weight and KL; empty for any other network or text.

    Parameters
    ----------
    run, result : mapping
        A network and what was measured of it, as ``lplr model evaluate --json`` prints them.

    Examples
    --------
    >>> from lplr.evaluation.report.llama_cpp import figures_for
    >>> figures_for({"settings": {}}, {"kind": "predictions"})
    {}
    """
    text = _TEXTS.get(result.get("tokens", {}).get("sha256"))
    if run["settings"].get("checkpoint") != _CHECKPOINT or text is None:
        return {}
    return {
        curve: [(name, bits, kl[text]) for name, (bits, *kl) in types.items()]
        for curve, types in _FIGURES.items()
    }
