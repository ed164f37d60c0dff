"""`python -m bisift.models.evaluate MODEL ...`: measures one model. Each model's module adds its options and runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from bisift.models.train import dispatch

MODELS = {"detector": "bisift.models.detector_evaluate", "quality": "bisift.models.quality_evaluate"}
"""Module of each model: `add_arguments(parser)` and `run(arguments)`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one model's command; errors that a user can act on become one line and their exit code."""
    return dispatch("bisift.models.evaluate", "Measure a model.", MODELS, arguments)


if __name__ == "__main__":
    sys.exit(main())
