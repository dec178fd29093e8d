"""Write the texts of the bundled embeddings as JSON lines, from the Debian package fortunes.

``lplr model evaluate`` takes the file as the texts of an encoder. The texts have 40 to 600
characters, at most 450 for each of the 15 topics, and are shuffled with seed 0; so they stand in
the order of the rows of `lplr.datasets.text_embeddings`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
FEWEST, MOST, TOPIC = 40, 600, 450


def texts_of(file: Path) -> list[str]:
    """The items of a file of fortunes, which lines of a single % divide, each in one line."""
    items = file.read_text(encoding="utf-8").split("\n%\n")
    lines = (" ".join(item.split()) for item in items)
    return [line for line in lines if FEWEST <= len(line) <= MOST][:TOPIC]


def main() -> None:
    """Parse the two arguments and write the file."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("source", type=Path, help="/usr/share/games/fortunes")
    parser.add_argument("out", type=Path, help="file to write, .jsonl")
    args = parser.parse_args()
    with np.load(HERE / "fortune_embeddings.npz") as archive:
        names = [str(name) for name in archive["class_names"]]
    found = [(text, name) for name in names for text in texts_of(args.source / name)]
    order = np.random.default_rng(0).permutation(len(found))
    lines = [json.dumps({"text": found[i][0], "label": found[i][1]}) for i in order]
    args.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{args.out}: {len(lines)} texts of {len(names)} topics")


if __name__ == "__main__":
    main()
