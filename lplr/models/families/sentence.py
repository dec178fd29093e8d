"""How a sentence encoder makes one embedding of a text, as the sentence-transformers write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lplr.exceptions import InputError
from lplr.models.beside import json_beside

__all__ = ["sentence_settings"]

_MODES = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}


def sentence_settings(files: Mapping[str, bytes]) -> dict[str, Any]:
    """What modules.json and the files that it names say of pooling and normalisation.

    Parameters
    ----------
    files : mapping of str to bytes
        Those beside the tensors, by name: modules.json, 1_Pooling/config.json,
        sentence_bert_config.json.

    Returns
    -------
    dict
        ``pooling``, "mean" or "cls"; ``normalize``, whether embeddings are of length one;
        ``max_seq_length`` where it is given. Empty where there is no modules.json.

    Raises
    ------
    InputError
        If the modules are none that are known.
    CorruptFileError
        If a file is not valid JSON.

    Examples
    --------
    >>> from lplr.models.families.sentence import sentence_settings
    >>> sentence_settings({
    ...     "modules.json": b'[{"path": "1_Pooling", "type": "models.Pooling"}]',
    ...     "1_Pooling/config.json": b'{"pooling_mode_cls_token": true}',
    ... })
    {'pooling': 'cls', 'normalize': False}
    """
    if "modules.json" not in files:
        return {}
    modules = json_beside(files, "modules.json", list)
    settings: dict[str, Any] = {"pooling": "mean", "normalize": False}
    for module in modules:
        kind = str(module.get("type")) if isinstance(module, dict) else repr(module)
        match kind.rpartition(".")[2]:
            case "Transformer":
                pass
            case "Pooling":
                settings["pooling"] = _pooling(files, f"{module.get('path')}/config.json")
            case "Normalize":
                settings["normalize"] = True
            case _:
                raise InputError(
                    f"modules.json: the module {kind} is unknown; there are Transformer, Pooling, "
                    "Normalize"
                )
    if "sentence_bert_config.json" in files:
        longest = json_beside(files, "sentence_bert_config.json", dict).get("max_seq_length")
        if type(longest) is int and longest > 0:
            settings["max_seq_length"] = longest
    return settings


def _pooling(files: Mapping[str, bytes], name: str) -> str:
    config = json_beside(files, name, dict)
    modes = [
        key for key, value in config.items() if key.startswith("pooling_mode_") and value is True
    ]
    if len(modes) != 1 or modes[0] not in _MODES:
        raise InputError(
            f"{name}: the pooling {modes} is unknown; it must be one of {list(_MODES)}"
        )
    return _MODES[modes[0]]
