"""What both estimators share: seeds as scikit-learn names them, and their state in a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator

from lplr.exceptions import InputError
from lplr.validation.arguments import check_integer

__all__ = ["Model", "rng_of"]


def rng_of(random_state: Any) -> Any:
    """What the functions of the package take as ``rng``."""
    if isinstance(random_state, np.random.RandomState):
        return int(random_state.randint(2**31 - 1))
    if random_state is None or isinstance(random_state, np.random.Generator):
        return random_state
    return check_integer(random_state, "random_state", 0)


class Model(BaseEstimator):
    """An estimator that `lplr.save` stores: its parameters and what fitting made of the data.

    Subclasses say in ``_fitted`` which attributes those are, each with the types that it may have
    in a file.
    """

    encoding: ClassVar[tuple[str, int]]
    meta: ClassVar[Mapping[str, Any]] = {}
    _fitted: ClassVar[Mapping[str, type | tuple[type, ...]]]

    def _state(self) -> dict[str, Any]:
        if not all(hasattr(self, name) for name in self._fitted):
            raise InputError(f"obj: this {type(self).__name__} is not fitted; call its fit first")
        try:
            self._check_fitted()  # as whoever loads it will
        except ValueError as error:
            raise InputError(f"obj: {error}; fit it again") from None
        names = ["n_features_in_", *self._fitted]
        if hasattr(self, "feature_names_in_"):
            names.append("feature_names_in_")
        params = {name: _as_json(v, name) for name, v in self.get_params(deep=False).items()}
        fitted = {name.strip("_"): _as_member(getattr(self, name), name) for name in names}
        return {"params": params, **fitted}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """Rebuild from what a file held; ValueError if anything is missing or does not fit."""
        kinds = {"n_features_in_": int, "feature_names_in_": np.ndarray, **cls._fitted}
        unknown = state.keys() - {name.strip("_") for name in kinds} - {"params", "meta"}
        if unknown:
            raise ValueError(f"a {cls.__name__} has no {min(unknown)}")
        model = cls(**{name: _from_json(value) for name, value in state["params"].items()})
        for name, kind in kinds.items():
            key = name.strip("_")
            if key not in state and name == "feature_names_in_":
                continue  # the data had none
            value = _from_member(state[key], name)
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{name} is a {type(value).__name__}")
            setattr(model, name, value)
        if len(getattr(model, "feature_names_in_", range(model.n_features_in_))) != (
            model.n_features_in_
        ):
            raise ValueError("there is not one name for each feature")
        model._check_fitted()
        return model

    def _check_fitted(self) -> None:
        """ValueError if the parts of a model, loaded or to be saved, do not fit each other."""
        raise NotImplementedError


def _as_json(value: Any, name: str) -> Any:
    """A parameter as a file holds it; pairs are lists there."""
    if isinstance(value, (tuple, list)):
        return [_as_json(item, name) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InputError(
        f"obj: its parameter {name} is a {type(value).__name__}, which a file does not hold; "
        f"use model.set_params({name}=...) with a number first"
    )


def _from_json(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


# Arrays that are no numbers are lists in a file, with their kind and the type of their items.
_LISTED: dict[str, type] = {"U": str, "O": str, "b": bool}


def _as_member(value: Any, name: str) -> Any:
    """A fitted attribute as a file holds it."""
    kind = value.dtype.kind if isinstance(value, np.ndarray) else ""
    if kind not in _LISTED:
        return value
    items = value.tolist()
    if not all(type(item) is _LISTED[kind] for item in items):
        raise InputError(f"obj: {name} has objects that are no text, which a file does not hold")
    return {"kind": kind, "items": items}


def _from_member(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        return value
    kind, items = value["kind"], value["items"]
    if not all(type(item) is _LISTED[kind] for item in items):
        raise ValueError(f"{name} has items of another type")
    return np.array(items, dtype={"U": str, "O": object, "b": bool}[kind])
