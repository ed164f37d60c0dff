"""bisift: score, filter and rank parallel text, and measure what the ranking is worth."""

__version__ = "0.1.0"
