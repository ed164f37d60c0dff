"""Writes the tables of docs/rules.md: `python -m bisift.filter.rules_doc docs/rules.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from bisift.contract import FEATURES
from bisift.filter.profile import default_of
from bisift.filter.rules import RULES, Rule

BEGIN, END = "<!-- tables: python -m bisift.filter.rules_doc docs/rules.md -->", "<!-- end of tables -->"


def tables() -> str:
    """All rules in order and all features, as Markdown."""
    rules = [_row(str(bit), f"`{r.id}`", r.help, _reads(r), default_of(r), r.why) for bit, r in enumerate(RULES)]
    features = [_row(f"`{feature.name}`", str(feature.type), feature.help) for feature in FEATURES]
    return "\n".join(
        [
            "## Rules",
            "",
            "| bit | id | a pair fails when | by its threshold | threshold | why |",
            "|---|---|---|---|---|---|",
            *rules,
            "",
            "## Features",
            "",
            "| column | type | what it says |",
            "|---|---|---|",
            *features,
        ]
    )


def _reads(rule: Rule) -> str:
    columns = ", ".join(f"`{column}`" for column in rule.columns)
    return f"{rule.fails} it: {columns}" if columns else "decided over the whole input"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def refreshed(page: str) -> str:
    """The page with the tables between its two marks replaced by the current ones."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(refreshed(path.read_text(encoding="utf-8")), encoding="utf-8")
