"""What a kill, an interrupt, another process and a full disk leave of a compression."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import refused
from tiny_models import TOKENS, content, tiny_checkpoint

from lplr.cli.main import main
from lplr.exceptions import InputError, StorageError
from lplr.models import moments_pass, request, run
from lplr.models.compress_model import compress
from lplr.models.job import Job, progress_of

QUICK: dict[str, Any] = {"method": "caldera", "rank": 2, "calibration": TOKENS}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("tiny") / "source")


@pytest.fixture(scope="module")
def expected(source: Path) -> dict[str, Any]:
    """What an undisturbed run with `QUICK` makes."""
    out = source.parent / "expected"
    compress(source, out, **QUICK)
    return content(out)


def test_hidden_states_on_disk_make_the_same_bytes(
    source: Path, expected: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request, "_IN_MEMORY", 0)
    compress(source, tmp_path / "small", **QUICK)
    assert content(tmp_path / "small") == expected


@contextmanager
def stopping(error: BaseException, after: int) -> Iterator[None]:
    """Raises in the block after so many."""
    walk = run.compress_block

    def stop(network: Any, i: int, *rest: Any, **settings: Any) -> None:
        if i == after:
            raise error
        walk(network, i, *rest, **settings)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "compress_block", stop)
        yield


def test_an_interrupt_is_resumable(
    source: Path, expected: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "tokens.npy", TOKENS)
    out = tmp_path / "small"
    command = ["model", "compress", str(source), "-o", str(out), "--tokens"]
    command += [str(tmp_path / "tokens.npy"), "--method", "caldera", "--rank", "2"]
    with stopping(KeyboardInterrupt(), after=1):
        assert main(command) == 130
    *_, how, last = capsys.readouterr().err.splitlines()
    assert last == "lplr: interrupted"
    assert "7 layers are done" in how
    assert "the same command goes on" in how
    assert not out.exists()

    # Another call on the same folder is refused, and leaves what is there.
    assert main([*command, "--seed", "1"]) == 2
    said = capsys.readouterr().err
    assert "it differs in rng)" in said
    assert "the same command goes on" not in said
    assert progress_of(out) == 7
    (tmp_path / "small.job" / "states-00001.npy").unlink()  # then the layers lead there again
    (tmp_path / "small.job" / "model" / "layers" / "00003.h5").write_bytes(b"damaged")
    assert main(command) == 0
    assert "going on: 7 layers" in capsys.readouterr().err
    assert content(out) == expected
    assert "exists" in refused(capsys, *command)


def test_a_damaged_log_changes_nothing(
    source: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Errors are measured again; only times, which no result depends on, are lost."""
    out, log = tmp_path / "small", tmp_path / "small.job" / "log.jsonl"
    with stopping(KeyboardInterrupt(), after=1), pytest.raises(KeyboardInterrupt):
        compress(source, out, **QUICK)
    lines = [line for line in log.read_bytes().splitlines() if line]
    (of_block,) = [line for line in lines if b'"block"' in line]
    at = of_block.index(b'"error": 0.') + len(b'"error": 0.')
    changed = of_block[:at] + bytes([of_block[at] ^ 1]) + of_block[at + 1 :]
    kept = [line for line in lines if line is not of_block]
    damages = [b"5", b"[" * 100_000, b"\xff\xfe", b'{"block": 0}', b'{"layer": "x"}']
    log.write_bytes(b"\n".join([*kept, *damages, changed, b""]))
    compress(source, out, **QUICK)
    assert content(out) == expected


def test_an_interrupt_while_output_moments_are_formed(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    np.save(tmp_path / "tokens.npy", TOKENS)
    command = ["model", "compress", str(source), "--tokens", str(tmp_path / "tokens.npy")]
    command += ["--method", "caldera", "--rank", "2", "--output-moments", "-o"]
    out, whole, batch = tmp_path / "small", tmp_path / "whole", moments_pass.Pass._batch
    seen: list[int] = []

    def stop(self: Any, part: slice) -> float:
        seen.append(part.start)
        if seen == [0, 3, 6]:
            raise KeyboardInterrupt
        return batch(self, part)

    monkeypatch.setattr(moments_pass, "BATCH", 3)
    assert main([*command, str(whole)]) == 0
    monkeypatch.setattr(moments_pass.Pass, "_batch", stop)
    assert main([*command, str(out)]) == 130
    *_, how, last = capsys.readouterr().err.splitlines()
    assert last == "lplr: interrupted"
    assert how.endswith(
        f"stopped; what is done is kept in {out}.job; the same command goes on from there"
    )
    assert not out.exists()
    with stopping(KeyboardInterrupt(), after=1):
        assert main([*command, str(out)]) == 130
    assert seen == [0, 3, 6, 6]  # finished batches are not repeated
    moments = tmp_path / "small.job" / "moments.safetensors"
    data = bytearray(moments.read_bytes())
    data[-1] ^= 1
    moments.write_bytes(data)
    assert main([*command, str(out)]) == 0
    assert seen == [0, 3, 6, 6, 0, 3, 6]  # what is damaged is made anew
    assert content(out) == content(whole)


def test_a_second_process_fails_at_once(source: Path, tmp_path: Path) -> None:
    with Job(tmp_path / "small", {}), pytest.raises(InputError, match=r"another process \(\d+\)"):
        compress(source, tmp_path / "small", **QUICK)
    shutil.rmtree(tmp_path / "small.job")
    (tmp_path / "small.job").mkdir()
    (tmp_path / "small.job" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="files of others"):
        compress(source, tmp_path / "small", **QUICK)
    (tmp_path / "small.job" / "diary.txt").rename(tmp_path / "diary.txt")
    (tmp_path / "small.job" / "job.json").write_text("[]")  # parts of an unknown call
    compress(source, tmp_path / "small", **QUICK)


def test_a_full_disk_is_one_error_and_resumable(
    source: Path, expected: dict[str, Any], tmp_path: Path
) -> None:
    """Layers take 3 kB, and hidden states 2 x 8 x 16 x 32 x 4 bytes = 32 kB."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16_000, hard))
    try:
        with pytest.raises(StorageError, match="free space"):
            compress(source, tmp_path / "small", **QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert progress_of(tmp_path / "small") == 7
    compress(source, tmp_path / "small", **QUICK)
    assert content(tmp_path / "small") == expected


def test_too_little_space_is_known_before(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 70_000}))
    with pytest.raises(StorageError, match="are free"):
        compress(source, tmp_path / "small", **QUICK)
    assert progress_of(tmp_path / "small") == 0
