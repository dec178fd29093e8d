"""The README tells the truth: every example runs and prints what it says, every link exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from tiny_models import TOKENS, tiny_checkpoint

import lplr
from lplr.cli.main import main

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
_DECIMAL = re.compile(r"\d+\.\d+")


def assert_same(said: str, printed: str) -> None:
    """Equal words; decimal numbers may differ by two units of their last digit.

    So much may another processor or another BLAS change where a quantizer has to choose between
    two levels; on one machine there is no difference at all.
    """
    assert _DECIMAL.sub("#", said.strip()) == _DECIMAL.sub("#", printed.strip()), printed
    for a, b in zip(_DECIMAL.findall(said), _DECIMAL.findall(printed), strict=True):
        assert abs(float(a) - float(b)) <= 2.01 * 10.0 ** -len(a.partition(".")[2]), printed


# These take long, and are run in test_demo.py, test_cli.py, test_cli_bench.py, test_cli_bounds.py.
_ELSEWHERE = ("lplr demo", "lplr bench", "lplr doctor", "lplr bounds distortion")

# What these print is not compared, and they are given corners of the matrices in their files.
_CORNERS = {"lplr compress model.npz": ("model.npz", "second-moments.npz")}


def run(command: str) -> int:
    """Run a command of the README; of a long one, see that the options exist."""
    name, *words = shlex.split(command, comments=True)
    assert name == "lplr"
    for path in next((files for c, files in _CORNERS.items() if command.startswith(c)), ()):
        with np.load(path) as file:
            corners = {name: A[:128, :128] for name, A in file.items()}
        np.savez(path, **corners)
    return main([*words, "--help"] if command.startswith(_ELSEWHERE) else words)


def stand_in(folder: Path) -> None:
    """A tiny network and token ids for the examples of whole models."""
    tokenizers = pytest.importorskip("tokenizers")
    letters = ["<end>", *sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())]
    model = tokenizers.models.BPE({letter: i for i, letter in enumerate(letters)}, merges=[])
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    config = {"max_position_embeddings": 64, "rms_norm_eps": 1e-5, "vocab_size": len(letters)}
    tiny = tiny_checkpoint(folder / "SmolLM2", **config)
    (tiny / "tokenizer.json").write_text(tokenizer.to_str())
    np.save(folder / "calibration.npy", TOKENS)
    np.save(folder / "test.npy", TOKENS[:2])


# The stand-in's few windows of random tokens teach a network little.
@pytest.mark.filterwarnings("ignore::lplr.exceptions.AdaptationWarning")
def test_examples_and_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # In the order of the README, in one folder: later examples use the files of earlier ones.
    monkeypatch.chdir(tmp_path)
    stand_in(tmp_path)
    ran = 0
    following = [*BLOCKS[1:], ("", "")]
    for (kind, block), (next_kind, next_block) in zip(BLOCKS, following, strict=True):
        if kind == "python":
            exec(block, {"__name__": "__main__"})
            assert_same(next_block if next_kind == "text" else "", capsys.readouterr().out)
            ran += 1
        elif kind == "sh":
            for line in block.splitlines():
                assert run(line) == 0, (line, capsys.readouterr().err)
                ran += 1
            capsys.readouterr()
        elif kind == "console":
            for command, said in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", block, re.MULTILINE):
                assert run(command) == (2 if said.startswith("lplr: error") else 0), command
                out, log = capsys.readouterr()
                progress = r"^lplr: (?!error).*\n"  # on a terminal these lines do not stay
                assert_same(said, out + re.sub(progress, "", log, flags=re.M))
                ran += 1
    assert ran >= 12
    assert not Path("plan.h5").exists()  # of --dry-run
    assert np.load("restored.npy").shape == np.load("weights.npy").shape


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"[`\n]make ([a-z]+)", TEXT))
    assert {"demo", "test"} <= named <= targets


def test_relative_links_exist() -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in link]
    assert len(links) > 10
    headings = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        for title in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings
        else:
            assert (ROOT / link).exists(), link
    for name in set(re.findall(r"notebooks/[\w-]+\.png", TEXT)):
        assert (ROOT / name).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
        assert (ROOT / name).stat().st_size < 200e3


def test_code_that_the_map_names_exists() -> None:
    for cells in re.findall(r"^\| \[?\w.*\| (.*) \| \[`(\S+)`\]", TEXT, re.MULTILINE):
        code, path = cells
        sources = sorted((ROOT / path).glob("*.py")) or [ROOT / path]
        # The arguments are those of the public functions.
        sources += [
            ROOT / "lplr" / "algorithms" / f"{n}.py" for n in ("factorize", "caldera", "compress")
        ]
        source = "\n".join(p.read_text(encoding="utf-8") for p in sources)
        for name in re.findall(r"[a-z0-9_-]{4,}", code):
            assert name in source, (name, path)


def results() -> dict[tuple[str, str], list[str]]:
    """Rows of the results table: (matrix, bits) -> errors and limit as they are written."""
    rows = re.findall(r"^\| (1000.*?|Fashion.*?) \| ([12]) \| (.*) \|$", TEXT, re.MULTILINE)
    return {(m, b): [c.strip(" *") for c in cells.split("|")] for m, b, cells in rows}


def test_results_table_is_what_its_commands_print() -> None:
    (printed,) = (b for kind, b in BLOCKS if kind == "text" and re.fullmatch(r"([12] .*\n){2}", b))
    table = {b: cells for (m, b), cells in results().items() if m.startswith("1000")}
    assert [[b, *cells] for b, cells in table.items()] == [
        line.split() for line in printed.splitlines()
    ]


@pytest.mark.parametrize("name", ["transformer layer", "Shepp–Logan phantom"])
def test_what_a_budget_leaves(name: str) -> None:
    made = {
        "transformer layer": lambda: lplr.datasets.layer("minilm_l3_output").W,
        "Shepp–Logan phantom": lambda: lplr.datasets.shepp_logan(256),
    }
    A = made[name]()
    found = re.search(rf"\| {name}, (\d+)×(\d+) \| (.*) \|$", TEXT, re.MULTILINE)
    assert found is not None
    assert (int(found[1]), int(found[2])) == A.shape
    for b, said in zip((0.5, 1, 2), found[3].split(" | "), strict=True):
        f = lplr.compress(A, bits_per_entry=b, rng=0)
        assert_same(said, f"{f.relative_error(A):.3f}")


@pytest.mark.parametrize(("matrix", "bits"), list(results()))
def test_the_first_column_has_the_least_error(matrix: str, bits: str) -> None:
    *errors, _ = map(float, results()[matrix, bits])
    assert min(errors) == errors[0]
