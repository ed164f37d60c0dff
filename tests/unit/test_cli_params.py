"""Strict parsing of option values, alone and through the command line."""

from __future__ import annotations

import click
import pytest

from bisift.filter.cli import params


@pytest.mark.parametrize(
    ("text", "size"),
    [("1B", 1), ("1KB", 1000), ("1KiB", 1024), ("1.5MiB", 1572864), ("2GB", 2 * 10**9), ("1GiB", 1 << 30)],
)
def test_a_size_has_a_number_and_a_unit(text: str, size: int) -> None:
    assert params.Size().convert(text, None, None) == size


@pytest.mark.parametrize("text", ["", "1", "GiB", "1gib", "1 GiB", "-1GiB", "1e9B", "0.1B", "0KB", "1GiBs", "١GiB"])
def test_anything_else_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter):
        params.Size().convert(text, None, None)


def test_a_model_is_parted_at_the_first_equals_sign() -> None:
    assert params.NamedFile().convert("quality=a=b.onnx", None, None) == ("quality", "a=b.onnx")


@pytest.mark.parametrize("text", ["quality", "=file", "quality=", "="])
def test_a_model_needs_name_and_file(text: str) -> None:
    with pytest.raises(click.BadParameter, match="NAME=FILE"):
        params.NamedFile().convert(text, None, None)


def test_a_share_is_parted_at_the_last_equals_sign() -> None:
    assert params.Share().convert("s3://x/a=1/b.tsv=0.25", None, None) == ("s3://x/a=1/b.tsv", 0.25)


@pytest.mark.parametrize("text", ["human", "human=", "=0.3", "human=0", "human=-1", "human=nan", "human=inf", "a=b"])
def test_a_share_needs_a_finite_number_above_zero(text: str) -> None:
    with pytest.raises(click.BadParameter, match="NAME=SHARE"):
        params.Share().convert(text, None, None)


@pytest.mark.parametrize("text", ["0", "1", "nan", "inf", "-0.1", "1.1", "half", ""])
def test_a_probability_lies_between_zero_and_one(text: str) -> None:
    with pytest.raises(click.BadParameter, match="above 0 and below 1"):
        params.Probability().convert(text, None, None)


def test_a_probability_is_a_float() -> None:
    assert params.Probability().convert("0.25", None, None) == 0.25
