"""``lplr compress FILE`` with several arrays: all of its matrices, resumed after interrupts."""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lplr.cli.compress_call import Call
from lplr.cli.hessians import OF, TITLES, errors_of, hessians_of
from lplr.cli.options import print_json
from lplr.exceptions import BudgetWarning, DampingWarning, InputError, LplrError, StorageError

if TYPE_CHECKING:
    from lplr.algorithms.allocate import Allocation
    from lplr.cli.parts import Parts
    from lplr.inputs import ArrayFile

__all__ = ["run_all"]

_PARTLY = 3
# Shares of the time that are over after these steps, about; _READ is one of the coding.
_SURVEY, _CODED, _READ = 0.02, 0.99, 0.01


class _Arrays(Mapping[str, Any]):
    """The arrays of a file; of those that were read, the bits of an entry there and the note."""

    def __init__(self, file: ArrayFile) -> None:
        self.file = file
        self.bits: dict[str, int] = {}
        self.notes: dict[str, str] = {}

    def __getitem__(self, name: str) -> Any:
        found = self.file[name]
        self.bits[name], self.notes[name] = found.bits, found.note
        return found.array

    def __iter__(self) -> Iterator[str]:
        return iter(self.file)

    def __len__(self) -> int:
        return len(self.file)


def run_all(args: argparse.Namespace, call: Call, path: str) -> int:
    """Compress every matrix of a file, keep everything else, and report."""
    from lplr.cli.compress_all_report import print_all
    from lplr.cli.progress import Progress, watch_compilation
    from lplr.progress import tracked

    with Progress(1.0) as line, watch_compilation(line), warnings.catch_warnings():
        job = _Job(args, call, path, line.say)
        with tracked(lambda share, what: line.tell(share, job.doing + what), "reading"):
            report = job.run()
    if args.json:
        print_json(report)
    else:
        print_all(report)
    return _PARTLY if report["failed"] else 0


class _Job:
    """One call: what it asks for, and, once it runs, what a first look at the arrays found."""

    def __init__(
        self, args: argparse.Namespace, call: Call, path: str, say: Callable[[str], None]
    ) -> None:
        from lplr.algorithms.collection import collected
        from lplr.inputs import ArrayFile
        from lplr.validation.arguments import check_budget, check_integer

        self.args, self.path, self.say = args, path, say
        self.doing = ""  # what comes before the words of a step
        self.bits = check_budget(call.arguments["bits_per_entry"])
        self.client = call.arguments.get("client")
        self.seed = check_integer(call.arguments["rng"], "rng", 0)
        self.effort = str(call.arguments.get("effort", "default"))
        self.arrays = _Arrays(ArrayFile(path))
        if not self.arrays:
            raise InputError(f"{path}: has no arrays; name another file")
        self.items = collected(self.arrays, **hessians_of(args))

    def run(self) -> dict[str, Any]:
        """Do it; the report."""
        from lplr.algorithms.collection import survey
        from lplr.cli.parts import Parts
        from lplr.progress import until

        with until(_SURVEY):
            self.found = survey(self.items)
        self.matrices = self.found.matrices
        self.names = list(self.matrices)
        self._check()
        for said in (DampingWarning, BudgetWarning):  # by now, with a name
            warnings.simplefilter("ignore", said)
        if self.args.dry_run:
            start = time.perf_counter()
            plan = self._plan(None)
            ratio = sum(self._coding(self.names)) / sum(self._planning(self.names))
            return self._report(plan) | {"seconds": ratio * (time.perf_counter() - start)}
        with Parts(Path(self.args.output), self._call()) as parts:
            try:
                plan = self._plan(parts)
                self._compress(plan, parts)
                report = self._write(self._report(plan), parts)
            except BaseException as error:
                done = sum(map(parts.has_packed, range(len(self.names))))
                if isinstance(error, InputError) and not done:  # another budget has to be given
                    parts.discard()
                else:
                    self.say(
                        f"stopped{self.doing and ' at '}{self.doing.rstrip(': ')}; {done} of "
                        f"{len(self.names)} matrices are done and kept in {parts.folder}; the same "
                        "command goes on from there"
                    )
                raise
            parts.discard()
        return report

    def _call(self) -> dict[str, Any]:
        """What every byte of the output depends on."""
        from lplr.provenance import versions
        from lplr.storage.digest import file_digest

        hessians = self.args.hessians, self.args.output_hessians
        of_inputs, of_outputs = (None if file is None else file_digest(file) for file in hessians)
        return {
            "the input": file_digest(self.path),
            "--hessians": of_inputs,
            "--output-hessians": of_outputs,
            "--bits-per-entry": self.bits,
            "--seed": self.seed,
            "--effort": self.effort,
            "the versions of packages": versions(),
        }

    def _check(self) -> None:
        """Refuse or tell what is wrong before anything is computed."""
        from lplr.cli.tables import shown
        from lplr.validation.arguments import check_budget

        found = self.found
        if found.wrong_hessians:
            wrong = (
                f"--{argument.replace('_', '-')}: cannot be used; "
                + "; ".join(f"{shown(name)}: {why}" for name, why in of.items())
                for argument, of in found.wrong_hessians.items()
            )
            raise InputError("; ".join(wrong))
        for name, why in found.wrong.items():
            self.say(f"warning: {shown(name)}: {why}; it is not compressed")
        if not self.names:
            reasons = [f"{shown(name)} ({why})" for name, why in (found.kept | found.wrong).items()]
            raise InputError(
                f"{self.path}: has no matrix of floating-point numbers with at least two rows and "
                f"two columns: {', '.join(reasons[:5])}{', ...' if len(reasons) > 5 else ''}"
            )
        check_budget(self.bits, 8 * sum(map(self._nbytes, self.names)) / self._entries())

    def _entries(self) -> int:
        return sum(n * d for n, d in (matrix.shape for matrix in self.matrices.values()))

    def _nbytes(self, name: str) -> int:
        """Bytes of a matrix in the input."""
        n, d = self.matrices[name].shape
        return n * d * self.arrays.bits[name] // 8

    def _planning(self, names: Iterable[str]) -> list[float]:
        from lplr.planning.work import planning_work

        found = (self.matrices[name] for name in names)
        return [planning_work(m.shape, m.hessian, m.output_hessian) for m in found]

    def _coding(self, names: Iterable[str]) -> list[float]:
        from lplr.planning.work import compression_work

        found = (self.matrices[name] for name in names)
        return [compression_work(m.shape, m.hessian, self.effort, m.output_hessian) for m in found]

    def _plan(self, parts: Parts | None) -> Allocation:
        """The budgets, from curves of which an earlier run may have left some."""
        from lplr.algorithms.allocate import curve_of, divide
        from lplr.algorithms.many import each
        from lplr.parallel import reproducible
        from lplr.progress import parts as shares
        from lplr.progress import until

        curves = {} if parts is None else parts.curves(self.names)
        new = [name for name in self.names if name not in curves]
        work, rest = self._planning(new), sum(self._coding(self.names))
        with until(_SURVEY + (_CODED - _SURVEY) * sum(work) / (sum(work) + rest)), reproducible():
            items = ((*self.items.look_up(name), name, self.effort) for name in new)
            found = each(curve_of, items, self.client)
            for name in shares(new, work, lambda name: f"planning {name}"):
                _, curves[name] = next(found)
                if parts is not None:
                    parts.add_curve(self.names.index(name), curves[name])
        shapes = [matrix.shape for matrix in self.matrices.values()]
        return divide(self.names, shapes, [curves[name] for name in self.names], self.bits)

    def _compress(self, plan: Allocation, parts: Parts) -> None:
        """Every matrix that no earlier run has finished."""
        from lplr.algorithms.many import each
        from lplr.progress import parts as shares
        from lplr.progress import until

        with until(_CODED):
            with until(_READ, "reading what is done"):
                todo = [i for i in range(len(self.names)) if parts.packed(i) is None]
            if done := len(self.names) - len(todo):
                self.say(f"going on: {done} of {len(self.names)} matrices are in {parts.folder}")
            work = self._coding(self.names[i] for i in todo)
            how = self.seed, self.effort
            items = (
                (*self.items.look_up(self.names[i]), plan.bits_per_entry[i], *how) for i in todo
            )
            coded = each(_measured, items, self.client)
            for i in shares(todo, work, "compressing"):
                self.doing = f"{self.names[i]} ({i + 1} of {len(self.names)}): "
                parts.add_packed(i, *next(coded))
        self.doing = ""

    def _report(self, plan: Allocation) -> dict[str, Any]:
        """What is known before anything is compressed."""
        matrices = [
            {
                "name": name,
                "shape": list(matrix.shape),
                "dtype": matrix.dtype,
                "nbytes": self._nbytes(name),
                "hessian": matrix.hessian,
                "output_hessian": matrix.output_hessian,
                "budget": bits,
                "predicted": predicted,
                "at_equal_budgets": uniform,
            }
            for (name, matrix), bits, predicted, uniform in zip(
                self.matrices.items(),
                plan.bits_per_entry,
                plan.predicted,
                plan.uniform,
                strict=True,
            )
        ]
        kept = [self._described(name, why) for name, why in self.found.kept.items()]
        failed = [self._described(name, why) for name, why in self.found.wrong.items()]
        return {
            "input": {
                "file": self.path,
                "hessians": self.args.hessians,
                "output_hessians": self.args.output_hessians,
                "nbytes": sum(map(self._nbytes, self.names)),
            },
            "matrices": matrices,
            "kept": kept,
            "failed": failed,
        }

    def _described(self, name: str, why: str) -> dict[str, Any]:
        """An array that is not compressed; without ``nbytes`` if it cannot be kept either."""
        array = self._kept(name)
        if array is None:
            return {"name": name, "why": why}
        return {
            "name": name,
            "why": why,
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "nbytes": array.nbytes,
            "note": self.arrays.notes[name],
        }

    def _kept(self, name: str) -> Any:
        """An array as it is, or None if it is none that a file can keep."""
        from lplr.validation.matrices import as_array

        try:
            return as_array(self.arrays[name], name)
        except LplrError:
            return None

    def _write(self, report: dict[str, Any], parts: Parts) -> dict[str, Any]:
        """Combine all to the output, and add to the report what came out."""
        import lplr

        packed, measured = {}, {}
        for i, name in enumerate(self.names):
            found = parts.packed(i)
            if found is None:
                raise StorageError(f"{parts.folder}: part {i} is damaged; repeat the command")
            packed[name], measured[name] = found
        kept = {name: self._kept(name) for name in self.items.names if name not in packed}
        objects = {**packed, **{name: array for name, array in kept.items() if array is not None}}
        in_order = {name: objects[name] for name in self.items.names if name in objects}
        errors = {
            kind: {name: found[kind] for name, found in measured.items() if kind in found}
            for kind in TITLES
        }
        attrs = {kind: found for kind, found in errors.items() if found}
        lplr.save(self.args.output, in_order, self.args.overwrite, attrs=attrs)
        stored = sum(f.nbytes for f in packed.values())
        results = (
            {"stored_nbytes": f.nbytes, "bits_per_entry": f.bits_per_entry} | measured[name]
            for name, f in packed.items()
        )
        return report | {
            "matrices": [a | b for a, b in zip(report["matrices"], results, strict=True)],
            "output": self.args.output,
            "file_nbytes": Path(self.args.output).stat().st_size,
            "stored_nbytes": stored,
            "bits_per_entry": 8 * stored / self._entries(),
            "seconds": sum(found["seconds"] for found in measured.values()),
        }


def _measured(
    A: Any, hessian: Any, output_hessian: Any, bits: float, seed: int, effort: str
) -> tuple[Any, dict[str, float]]:
    """A packed matrix, its errors and its time."""
    import lplr

    hessians = dict(zip(OF, (hessian, output_hessian), strict=True))
    start = time.perf_counter()
    f = lplr.compress(A, bits_per_entry=bits, **hessians, rng=seed, effort=effort)
    seconds = time.perf_counter() - start
    return f, {"seconds": seconds, **errors_of(f, A, **hessians)}
