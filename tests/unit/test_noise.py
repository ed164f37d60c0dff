from __future__ import annotations

import numpy as np
import pytest

from bisift.models import noise

SOURCE = ["The train leaves at 9 from platform 12.", "It is late.", "2 apples", "Yes"]
TARGET = ["Der Zug fährt um 9 von Gleis 12 ab.", "Es ist spät.", "2 Äpfel", "Yes"]
NEXT = ["Es ist spät.", "2 Äpfel", None, None]
FOREIGN = ["Le train part à 9 h du quai 12.", None, None, None]


def spoil(kind: str, seed: int = 0) -> list[str | None]:
    return noise.spoil(kind, SOURCE, TARGET, ["de"] * 4, NEXT, FOREIGN, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", noise.KINDS)
def test_the_same_seed_spoils_alike_and_never_leaves_a_target_as_it_was(kind: str) -> None:
    made = spoil(kind)
    assert made == spoil(kind)
    assert any(text is not None for text in made)
    assert all(text != target for text, target in zip(made, TARGET, strict=True) if text is not None)


def test_half_and_dropped_phrase_keep_the_order_of_what_is_left() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for made in (noise.half(TARGET[0], rng), noise.dropped_phrase(TARGET[0], rng)):
            assert made is not None
            words = iter(TARGET[0].split(" "))
            assert all(word in words for word in made.split(" "))
            assert 2 <= len(made.split(" ")) < len(TARGET[0].split(" "))


def test_text_without_spaces_is_cut_between_characters() -> None:
    made = noise.half("我们明天早上坐火车去北京开会", np.random.default_rng(1))
    assert made in ("我们明天早上坐", "火车去北京开会")


def test_a_changed_number_changes_one_digit_and_nothing_else() -> None:
    for seed in range(20):
        made = noise.changed_number(TARGET[0], np.random.default_rng(seed))
        assert made is not None
        assert len(made) == len(TARGET[0])
        changed = [(a, b) for a, b in zip(made, TARGET[0], strict=True) if a != b]
        assert len(changed) == 1
        assert changed[0][0].isdigit()
        assert changed[0][1].isdigit()
    assert noise.changed_number("ohne Zahl", np.random.default_rng(0)) is None


def test_negation_knows_its_languages() -> None:
    rng = np.random.default_rng(0)
    assert noise.negation("Es ist spät.", "de", rng) == "Es ist nicht spät."
    assert noise.negation("Es ist nicht spät.", "de", np.random.default_rng(3)) in (
        "Es ist spät.",
        "Es ist nicht nicht spät.",
    )
    assert noise.negation("Tá sé déanach.", "ga", rng) is None
    assert noise.negation("这是我的书", "zh", rng) == "这不是我的书"


def test_neighbour_wrong_language_and_untranslated_take_what_they_are_given() -> None:
    assert spoil("neighbour") == NEXT
    assert spoil("wrong_language") == FOREIGN
    assert spoil("untranslated") == [SOURCE[0], None, None, None]  # short ones may be names, the same in both languages
