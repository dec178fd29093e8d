"""A campaign that finds nothing may be blind: each must find a guard that was taken out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from lplr.selftest.trials import Scale


class Guard(NamedTuple):
    """What is taken out of a module, and the campaign that must find it."""

    campaign: str
    module: str
    changes: tuple[tuple[str, str], ...]


GUARDS = {
    "digest": Guard(
        "mutants",
        "lplr.storage.header",
        (("if digest.digest() != digest_of(header):", "if False:"),),
    ),
    "zeros of a header": Guard(
        "mutants",
        "lplr.storage.header",
        (("    if any(header[_HEADER.size :]):\n", "    if False:\n"),),
    ),
    "digest of a tensor": Guard(  # of a compressed model that nobody verifies
        "mutants",
        "lplr.models.packed",
        (("check_file(self.path, KEPT, self.manifest)", "self.path / KEPT"),),
    ),
    "digest of a tokenizer": Guard(
        "mutants",
        "lplr.models.packed",
        (
            (
                "check_file(self.path, name, self.manifest).read_bytes()",
                "(self.path / name).read_bytes()",
            ),
        ),
    ),
    "digest of a layer": Guard(  # another layer in its place is one by its own digest
        "hostile",
        "lplr.models.packed",
        (("load(check_file(self.path, file, self.manifest))", "load(self.path / file)"),),
    ),
    "digest of a part": Guard(
        "rivals",
        "lplr.storage.folder",
        (("        self._compare(stored.sha256)\n", ""),),
    ),
    "metadata of a part": Guard(
        "hostile",
        "lplr.storage.folder",
        (('to_json(packed.meta, "meta") != to_json(self.meta, "meta")', "False"),),
    ),
    "arrays apart": Guard(
        "hostile",
        "lplr.storage.hdf5",
        (("            reader.check_apart()\n", ""),),
    ),
    "room for a picture": Guard(  # whose decoder finds out that there is none
        "hostile",
        "lplr.inputs.images",
        (("    check_fits(image.width", "    (image.width"),),
    ),
    "one copy": Guard(
        "loading",
        "lplr.storage.stored",
        (("own=own and _nbytes(one) <= LOADING // 2", "own=own"),),
    ),
    "finite": Guard(
        "numbers",
        "lplr.validation.matrices",
        (("    if not np.isfinite(largest):\n        _refuse_non_finite(array, name)\n", ""),),
    ),
    "seed": Guard(  # which is then another one in each process
        "determinism",
        "lplr.validation.arguments",
        (
            (
                'default_rng(check_integer(rng, "rng", 0))',
                'default_rng([rng, __import__("os").getpid()])',
            ),
        ),
    ),
    "limit of memory": Guard(
        "limits", "lplr.streaming.room", (("    if limit < least:\n", "    if False:\n"),)
    ),
    "limit of a text": Guard(  # a compression bomb is inflated as a whole
        "hostile",
        "lplr.storage.contents",
        (
            (
                "inflate.decompress(small.data, max(1, _LARGEST_RATIO * stored))",
                "inflate.decompress(small.data)",
            ),
        ),
    ),
    "fsync": Guard("crashes", "lplr.storage.atomic", (("        os.fsync(file.fileno())\n", ""),)),
    "fsync of a folder": Guard(
        "crashes",
        "lplr.storage.names",
        (("            os.fsync(descriptor)\n", "            pass\n"),),
    ),
    "comparison of what was written": Guard(
        "faults", "lplr.storage.atomic", (("            _compare(temporary, digest)\n", ""),)
    ),
    "clearing up": Guard(
        "faults",
        "lplr.storage.folder_writer",
        (
            (
                "            _without_left_overs(Folder.read(path))\n            raise",
                "            raise",
            ),
        ),
    ),
    "no memory": Guard(  # is damage then
        "faults",
        "lplr.storage.hdf5",
        (("except (CorruptFileError, MemoryError):", "except CorruptFileError:"),),
    ),
    "order of arrays": Guard(
        "determinism",
        "lplr.storage.contents",
        (
            (
                "for name, array in sorted(group.arrays.items()):",
                "for name, array in sorted(group.arrays.items(), key=lambda item: hash(item[0])):",
            ),
        ),
    ),
    "layers that are finished": Guard(
        "kills",
        "lplr.models.job",
        (
            (
                "                return load(layer_file(self.model, number))\n",
                "                pass\n",
            ),
        ),
    ),
    "parts that are finished": Guard(
        "kills",
        "lplr.streaming.results",
        (
            (
                "        if before is not None:\n            return before\n        kept",
                "        kept",
            ),
        ),
    ),
    "end of workers": Guard(
        "kills", "lplr.processes", (("while os.getppid() == parent:", "while True:"),)
    ),
    "lock": Guard(
        "rivals",
        "lplr.storage.workplace",
        (("    fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))\n", ""),),
    ),
    "signal handlers": Guard(
        "signals",
        "lplr.cli.main",
        (("with heeded() as heed:\n", "if heed := id:\n"),),
    ),
    "rename": Guard(  # the new file is copied over the old one
        "kills",
        "lplr.storage.atomic",
        (
            (
                "    if overwrite:\n        os.replace(temporary, target)\n",
                "    if overwrite:\n        with open(temporary, 'rb') as new:\n"
                "            with open(target, 'wb') as old:\n"
                "                old.write(new.read())\n",
            ),
        ),
    ),
}
_QUICK = ("finite",)


@pytest.mark.parametrize("name", GUARDS)
def test_there_is_such_a_guard(name: str) -> None:
    source = Path(find_spec(GUARDS[name].module).origin).read_text(encoding="utf-8")
    assert [source.count(old) for old, _ in GUARDS[name].changes] == [1] * len(GUARDS[name].changes)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", GUARDS)
def test_the_campaign_finds_it(name: str, scale: Scale) -> None:
    if not scale.long and name not in _QUICK:
        pytest.skip("only with --campaign=long")
    guard = GUARDS[name]
    path = os.pathsep.join([str(Path(__file__).parent / "broken"), *sys.path])
    broken = json.dumps([guard.module, guard.changes])
    done = subprocess.run(
        [sys.executable, "-m", "lplr", "selftest", "--only", guard.campaign, "--json"],
        env={**os.environ, "PYTHONPATH": path, "LPLR_BROKEN": broken},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    lines = json.loads(done.stdout)["lines"]
    # A campaign that breaks off has found nothing by that.
    assert any(line["failed"] and "itself" not in line["what"] for line in lines), done.stdout
