"""Pairs for tests: made sentences in several scripts, with documents, duplicates, repeated sides and bad rows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

SUBJECTS = (
    ("the cat", "die Katze"),
    ("our neighbour", "unser Nachbar"),
    ("an old train", "ein alter Zug"),
    ("the museum", "das Museum"),
    ("her brother", "ihr Bruder"),
)
VERBS = (("sees", "sieht"), ("finds", "findet"), ("loses", "verliert"), ("paints", "malt"))
OBJECTS = (
    ("the red door", "die rote Tür"),
    ("{n} green apples", "{n} grüne Äpfel"),
    ("a small boat", "ein kleines Boot"),
    ("the page https://example.org/{n}", "die Seite https://example.org/{n}"),
    ("日本語 🙂 text", "日本語 🙂 Text"),
    ("שלום עולם", "שלום עולם"),
)


@dataclass(frozen=True)
class Pair:
    source: str
    target: str
    document: str


def pairs(count: int, seed: int = 7) -> Iterator[Pair]:
    """Made pairs; about one in ten repeats an earlier pair, and a document's pairs stand apart."""
    rng = random.Random(seed)
    made: list[Pair] = []
    for number in range(count):
        if made and rng.random() < 0.1:
            pair = rng.choice(made)
        else:
            subject, verb, thing = rng.choice(SUBJECTS), rng.choice(VERBS), rng.choice(OBJECTS)
            n = rng.randrange(5)
            source = f"{subject[0]} {verb[0]} {thing[0].format(n=n)} number {number}."
            target = f"{subject[1]} {verb[1]} {thing[1].format(n=n)} Nummer {number}."
            if rng.random() < 0.05:
                target = rng.choice(("", source, target * 8, "Völlig anderes."))
            pair = Pair(source.capitalize(), target.capitalize(), f"doc-{rng.randrange(9)}")
        made.append(pair)
        yield pair
