"""Fuzz one target: ``python tests/campaign/fuzzing.py TARGET SECONDS [FOLDER]``.

With atheris, ``pip install 'lplr[fuzz]'``, guided by coverage; without it, by seeded damage to the
corpus, which lies in ``corpus/TARGET`` beside this file. What fails is written to the folder, under
a name with ``defect-``, and so is, with atheris, each input that reaches code that no other one
did. To keep these for ever, name the corpus itself, and then add its new files to the repository:

    python tests/campaign/fuzzing.py header 600 tests/campaign/corpus/header
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

CORPUS = Path(__file__).parent / "corpus"


def corpus(name: str) -> list[bytes]:
    """The seeds of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def damaged_corpus(name: str, seed: int = 0) -> Iterator[bytes]:
    """The seeds as they are, then damaged for ever."""
    from lplr.selftest.damage import damaged

    seeds, rng = corpus(name), np.random.default_rng(seed)
    yield from seeds
    while True:
        data, other = (seeds[i] for i in rng.integers(len(seeds), size=2))
        for _ in range(int(rng.integers(1, 4))):
            data = damaged(data, other, rng)[1] or b"\0"
        yield data


def guided(name: str, seconds: float, found: str) -> None:
    """Run libFuzzer on a target; the process ends with it, with another code than 0 on a defect."""
    import atheris

    with atheris.instrument_imports(include=["lplr"]):
        from fuzz_targets import TARGETS

    limits = [f"-max_total_time={seconds:.0f}", "-timeout=60", "-rss_limit_mb=4096"]
    quiet = ["-verbosity=0", "-print_final_stats=1", f"-artifact_prefix={found}/defect-"]
    places = [found, str(CORPUS / name)]  # what is new is written to the first one
    atheris.Setup([sys.argv[0], *limits, *quiet, *places], TARGETS[name])
    atheris.Fuzz()


def unguided(name: str, seconds: float, found: str) -> int:
    """The number of inputs that were tried."""
    from fuzz_targets import TARGETS

    end, count = time.monotonic() + seconds, 0
    inputs = damaged_corpus(name)
    while time.monotonic() < end:
        data, count = next(inputs), count + 1
        try:
            TARGETS[name](data)
        except BaseException:
            print(f"{name} fails on {data!r}", file=sys.stderr)
            Path(found, f"defect-{hashlib.sha1(data).hexdigest()}").write_bytes(data)
            raise
    return count


def main(name: str, seconds: str, found: str = "") -> None:
    with tempfile.TemporaryDirectory() as folder:
        if find_spec("atheris") is None:
            tried = unguided(name, float(seconds), found or folder)
            print(f"stat::number_of_executed_units: {tried}")
        else:
            guided(name, float(seconds), found or folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
