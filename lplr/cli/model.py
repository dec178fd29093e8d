"""``lplr model``: whole networks, from a checkpoint to a smaller one that still predicts.

Each command of it is a module of its own, like those of `lplr.cli.main`.
"""

from __future__ import annotations

import argparse
from typing import Any

from lplr.cli import (
    model_adapt,
    model_calibrate,
    model_compress,
    model_evaluate,
    model_export,
    model_generate,
    model_info,
)
from lplr.cli.options import add_command

__all__ = ["add_parser"]

# In the order in which one uses them.
_COMMANDS = (
    model_compress,
    model_adapt,
    model_calibrate,
    model_evaluate,
    model_generate,
    model_info,
    model_export,
)


def add_parser(subparsers: Any, common: argparse.ArgumentParser) -> None:
    """Describe the commands."""
    parser = add_command(
        subparsers,
        common,
        "model",
        "compress whole networks, and use them",
        "lplr model info SmolLM2-135M\n"
        "lplr model compress SmolLM2-135M -o smaller --bits-per-weight 2 --texts texts/*.txt\n"
        'lplr model generate smaller --prompt "The capital of France is"',
        "MODEL is a folder in the form of Hugging Face (config.json and .safetensors files), a "
        ".gguf file, or a folder that lplr model compress made.",
    )
    commands = parser.add_subparsers(title="commands", metavar="WHAT", required=True)
    for command in _COMMANDS:
        command.add_parser(commands, common)
