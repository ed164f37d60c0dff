"""Why a pair was judged as it was: every feature beside the threshold and the verdict of the rule that reads it."""

from __future__ import annotations

SCORES = ("ai_probability", "ai_language_known", "ai_probability_document", "quality")
TYPED_ORIGIN = "-"
