"""One run of an adaptation, from where the last one ended."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lplr.exceptions import InputError
from lplr.models.adaptation.coding import adapted_layer
from lplr.models.adaptation.gradient import Target, mean_loss
from lplr.models.adaptation.optimizer import AdamW
from lplr.models.adaptation.parameters import layout_of
from lplr.models.adaptation.request import Request
from lplr.models.adaptation.result import copy_model, copy_rest
from lplr.models.adaptation.start import corrections, random_start, stored_factors
from lplr.models.adaptation.student import (
    Factors,
    Student,
    dense_network,
    student_weights,
)
from lplr.models.adaptation.training import DONE, SAME, Training, train
from lplr.models.calibration import second_moments
from lplr.models.job import Job
from lplr.models.packed import PackedModel
from lplr.models.request import on_disk
from lplr.models.store import finish
from lplr.models.texts import PADDING
from lplr.progress import unheard, until

__all__ = ["Run"]

_MOMENTS = 32  # sequences from which second moments of inputs are taken
_ROUNDING = 1e-7  # a divergence of predictions that is rounding in float32
_STARTED, _TRAINED, _CODED = 0.06, 0.88, 0.98  # shares of the time that are over then, about


class Run:
    """An adaptation that is under way.

    Parameters
    ----------
    request : Request
    job : Job
    """

    def __init__(self, request: Request, job: Job) -> None:
        self.request, self.job, self.model = request, job, request.model
        self.settings, family = request.settings, request.family
        self.factors = "factors" in self.settings.trained
        self.replaced = self.factors and self.settings.rank is None
        weights = sum(math.prod(shape) for shape in family.tensors().values())
        keep = not on_disk(8 * weights)  # both networks in float32
        self.weights = student_weights(family, self.model, self.replaced, keep)
        self.original = dense_network(family, request.original, keep)
        self.target = Target(self.original if self.settings.loss == "kl" else None)
        self.numbers = {e["name"]: k for k, e in enumerate(self.model.manifest["layers"])}
        self.layers: dict[str, tuple[int, str]] = {}  # block, and name within it
        for i in range(family.n_blocks):
            at = family.prefix(i)
            self.layers |= {name: (i, name.removeprefix(at)) for name in family.linears(i)}

    def run(self) -> str:
        """Do it; returns what the caller should be warned of, if anything."""
        sequences, held_out = (
            _each(ids) for ids in (self.request.sequences, self.request.held_out)
        )
        with until(_STARTED, "predictions of the original"):
            with until(0.2):
                known = self.target.states(held_out)
            state = Training.load(self.job.training)
            if state is None:
                state = self._begin(held_out, known)
                state.save(self.job.training)
            self.student = self._student(state.ranks, state.optimizer.theta)
        with until(_TRAINED, "training"):
            train(
                state,
                self.student,
                self.target,
                sequences,
                (held_out, known),
                self.settings,
                lambda state: state.save(self.job.training),
                self.job.log,
            )
        said = "" if state.stopped == DONE else state.stopped
        trained = min(loss for _, loss in state.history)
        if trained < state.before and state.coded is None:
            with until(_CODED, "coding"):
                self._write()
            with until(0.985, "predictions of what is stored"):
                state.coded = mean_loss(self._stored(), self.target, held_out, known)
            state.save(self.job.training)
        if not (state.coded is not None and state.coded < state.before):
            copy_model(self.model, self.job.model)
            said = said or (
                "nothing was better on held-out sequences than the model as it is, which was kept"
            )
        with until(0.99, "writing the manifest"):
            self._finish(state, trained, held_out)
            self.job.finish()
        return said

    def _begin(self, held_out: list[np.ndarray], known: list[np.ndarray] | None) -> Training:
        """Parameters to start from: of two, those that serve sequences that are held out better."""

        def loss(student: Student) -> float:
            return mean_loss(student, self.target, held_out, known)

        student = self._started(stored_factors(self.model, self.layers) if self.replaced else {})
        with until(0.4):
            start = before = loss(student)
        if not math.isfinite(before):
            raise InputError("model: its loss on held-out sequences is not finite; check both")
        if self.factors and not self.replaced:
            with until(0.9, "starting corrections"):
                wanted, moments = self.request.ranks(), self.request.moments
                few, bits = self._few(), self.settings.bits
                found = corrections(student, self.original, *few, moments, wanted, bits)
                student = self._started(found)
                start = loss(student)
                if not start < before:
                    student, start = self._started(self._zero()), before
        theta = student.theta
        zero = np.zeros((2, len(theta)), np.float32)
        ranks = {
            n.removesuffix(".R"): len(R) for n, R in student.values.items() if n.endswith(".R")
        }
        state = Training(AdamW(theta, *zero), theta.copy(), before, [(0, start)], ranks)
        if before <= _ROUNDING:
            state.stopped = SAME
        return state

    def _student(self, ranks: Mapping[str, int], theta: np.ndarray | None = None) -> Student:
        """The network that is trained, with these parameters."""
        family = self.request.family
        layout = layout_of(family, self.settings.trained, ranks)
        theta = np.zeros(layout.size, np.float32) if theta is None else theta
        return Student(family, self.weights, layout, theta)

    def _started(self, factors: Mapping[str, Factors]) -> Student:
        """The model as it is, with these factors; random components where they are zero."""
        student = self._student({name: len(R) for name, (_, R) in factors.items()})
        for name, value in student.values.items():
            of, _, what = name.rpartition(".")
            if what == "scale":
                value[...] = 1
            elif what in ("L", "R"):
                value[...] = factors[of]["LR".index(what)]
            else:
                value[...] = self.model[name]
        random_start(student, self.settings.rng)
        return student

    def _zero(self) -> dict[str, Factors]:
        """Factors of all layers that are zero."""
        ranks, found = self.request.ranks(), {}
        for name, (i, _) in self.layers.items():
            n, d = self.request.family.linears(i)[name]
            found[name] = np.zeros((n, ranks[name])), np.zeros((ranks[name], d))
        return found

    def _few(self) -> tuple[np.ndarray, np.ndarray | None]:
        """Some of the sequences for second moments, and which of their tokens are no padding."""
        ids = self.request.sequences
        ids = ids[:: max(1, len(ids) // _MOMENTS)][:_MOMENTS]
        mask = ids != PADDING
        return np.where(mask, ids, 0), None if mask.all() else mask

    def _write(self) -> None:
        """All files but the manifest, the corrections coded for the inputs that they get."""
        student, values, moments = self.student, self.student.values, self.request.moments
        for names, H, tokens in second_moments(student, *self._few(), "coding"):
            for name in names:
                number = self.numbers[name]
                if self.job.packed(number) is not None:
                    continue
                i, short = self.layers[name]
                L, scale = values.get(f"{name}.L"), values.get(f"{name}.scale")
                packed = adapted_layer(
                    self.model[f"{name}.weight"],
                    1.0 if scale is None else float(scale[0]),
                    None if L is None else (L, values[f"{name}.R"]),
                    H,
                    self.settings.bits,
                    self.replaced,
                    None if moments is None else moments.output_moment(name),
                )
                W = self.original.block(i).linears[short].weight
                record = {"relative_error": packed.relative_error(W, H), "tokens": tokens}
                with unheard():
                    self.job.keep(number, name, packed, record)
        copy_rest(self.model, self.job.model, values)
        finish(self.job.model, {}, overwrite=True)  # so that it can be opened, and measured

    def _stored(self) -> Any:
        """The network as it is on disk."""
        return dense_network(self.request.family, PackedModel(self.job.model), False)

    def _finish(self, state: Training, trained: float, held_out: list[np.ndarray]) -> None:
        finish(self.job.model, {}, overwrite=True)
        changed = state.coded is not None and state.coded < state.before
        before = self.model.manifest["totals"]["layers"]
        after = PackedModel(self.job.model).manifest["totals"]["layers"]
        made = self.model.manifest["settings"]
        report = {
            **self.request.call(),
            "steps_taken": state.optimizer.step,
            "stopped": state.stopped,
            "changed": changed,
            "ranks": state.ranks,
            "history": [list(each) for each in state.history],
            "held_out_loss": {
                "sequences": len(held_out),
                "tokens": sum(len(ids) - 1 for ids in held_out),
                "before": state.before,
                "start": state.history[0][1],
                "trained": trained,
                "stored": state.coded if changed else state.before,
            },
            "layers_bits_per_weight": {
                "before": before["bits_per_weight"],
                "trained": 8 * self._trained_nbytes() / before["weights"],
                "stored": after["bits_per_weight"],
            },
        }
        adaptations = [*made.get("adaptations", []), report]
        finish(self.job.model, {**made, "adaptations": adaptations}, overwrite=True)

    def _trained_nbytes(self) -> int:
        """Bytes of all layers with L and R in float32; a scale is part of those that W has."""
        total = self.model.manifest["totals"]["layers"]["nbytes"]
        for name, value in self.student.values.items():
            if name.endswith((".L", ".R")):
                total += value.nbytes
        if self.replaced:
            packed = (self.model[f"{name}.weight"] for name in self.layers)
            total -= sum(p.parts()[side].nbytes for p in packed for side in "LR" if p.rank)
        return int(total)


def _each(ids: np.ndarray) -> list[np.ndarray]:
    """The sequences without padding."""
    return [row[row != PADDING] for row in ids]
