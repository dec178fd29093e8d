"""Damaged files of every kind and version: no damage is read as other contents.

Of the formats that have no digest (those of others), damage may be read as other numbers; how
often is a line of its own, and no failure.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lplr.progress import counter
from lplr.selftest.damage import damaged
from lplr.selftest.guarded import Attempt, attempts, outcome_of
from lplr.selftest.specimens import Specimen, make
from lplr.selftest.trials import Scale, Trial, described

__all__ = ["campaign"]


def campaign(scale: Scale, folder: Path) -> Iterator[Trial]:
    """Damage specimens at random, and read them."""
    count = scale.count(64_000, 1000)
    tell = counter(count)
    maker = "lplr.selftest.mutants:attempt"
    for what, failure in attempts(maker, folder, count, scale, seed=scale.seed):
        tell(1)
        yield Trial("G2 G4 G5 G6", what, failure and f"{failure} (seed {scale.seed})")


def attempt(folder: str, seed: int) -> Attempt:
    """Damage a specimen, read it, and mend it again."""
    home = Path(folder) / "specimens"
    shutil.rmtree(home, ignore_errors=True)  # of a process that broke off
    home.mkdir()
    specimens = make(home)
    files = [(specimen, path) for specimen in specimens for path in specimen.files()]
    whole = [path.read_bytes() for _, path in files]
    contents = {specimen: specimen.read() for specimen in specimens}
    # Kinds are equally likely, and of a kind its files.
    kinds = list(dict.fromkeys(specimen.kind for specimen in specimens))
    of_kind = [[i for i, (s, _) in enumerate(files) if s.kind == kind] for kind in kinds]

    def tried(i: int) -> tuple[str, str]:
        rng = np.random.default_rng([seed, i])
        chosen = of_kind[i % len(kinds)]
        at = chosen[int(rng.integers(len(chosen)))]
        specimen, path = files[at]
        how, data = damaged(whole[at], whole[int(rng.integers(len(whole)))], rng)
        path.write_bytes(data)
        outcome, found = outcome_of(specimen.read, sum(f.stat().st_size for f in specimen.files()))
        path.write_bytes(whole[at])
        what, failure = _judged(specimen, path, outcome, found, contents[specimen])
        return what, failure and f"mutant {i}, {path.name} {how}: {failure}"

    return tried


def _judged(
    specimen: Specimen, path: Path, outcome: str, found: Any, contents: Any
) -> tuple[str, str]:
    """What was tried, and how it failed."""
    what = f"damaged: {specimen.kind}"
    if outcome == "broken":
        return what, described(found)
    if outcome == "refused":
        return what, ""
    if path.suffix == ".h5":  # a packed file, which has no byte that says nothing
        return what, "accepted"
    if found == contents:
        return f"{what}: read with the same contents", ""
    if specimen.sealed:
        return what, "accepted with other contents"
    return f"{what}: read, as it has no digest", ""
