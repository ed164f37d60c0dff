"""`python -m bisift.models.train MODEL ...`: trains one model. Each model's module adds its options and runs."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from bisift.errors import BisiftError

MODELS = {
    "lexical": "bisift.models.lexical_train",
    "detector": "bisift.models.detector_train",
    "quality": "bisift.models.quality_train",
    "typical": "bisift.models.typical",
}
"""Module of each model: `add_arguments(parser)` and `run(arguments)`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one model's command; errors that a user can act on become one line and their exit code."""
    return dispatch("bisift.models.train", "Train a model.", MODELS, arguments)


def dispatch(program: str, summary: str, models: dict[str, str], arguments: Sequence[str] | None) -> int:
    """Parse `MODEL options`, importing only that model's module."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=summary)
    parser.add_argument("model", choices=sorted(models))
    name = parser.parse_args(given[:1]).model
    module = importlib.import_module(models[name])
    own = argparse.ArgumentParser(prog=f"python -m {program} {name}", description=module.__doc__)
    module.add_arguments(own)
    try:
        module.run(own.parse_args(given[1:]))
    except BisiftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
