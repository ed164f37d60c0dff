"""HTML that pages share: the shell with its styles, tables, texts of pairs. Everything from data is escaped."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import sys
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from bisift.errors import ConfigError
from bisift.filter.writers.base import STANDARD, disk_errors
from bisift.manifest import atomic_path

SHOWN_CHARS = 400
_LANGUAGE_CHARS = 35


class Markup(str):
    """HTML made here, which tables take as it is; every other string is escaped."""


def page(title: str, body: Sequence[str], *, script: str = "", data: Any = None) -> str:
    """Return one page that loads nothing: a policy allows only this style and this script.

    `data` is JSON for the script, in an element with the id `data`.
    """
    style = asset("page.css")
    scripts = ""
    if script:
        block = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
        scripts = f'<script type="application/json" id="data">{block}</script>\n<script>{script}</script>\n'
    allowed = _digest(script) if script else "'none'"
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {allowed}"
    content = "\n".join(body)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{style}</style></head>\n"
        f"<body><main>\n{content}\n</main>\n{scripts}</body></html>\n"
    )


def write_page(text: str, path: str, inputs: Sequence[str]) -> None:
    """Write a page to a file, whole or not at all, or to stdout for `-`.

    Raises:
        ConfigError: the file is one of `inputs`.
        BisiftError: the disk refuses.
    """
    if Path(path).resolve() in {Path(name).resolve() for name in inputs}:
        raise ConfigError(f"{path}: is an input; name another file for the page")
    if path == STANDARD:
        sys.stdout.buffer.write(text.encode())
        sys.stdout.buffer.flush()
        return
    with disk_errors(path), atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def asset(name: str) -> str:
    """Return a file that ships beside this module."""
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def table(label: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, texts: int = 1) -> str:
    """Return a table; the first `texts` columns are text, the others numbers."""
    kinds = ["" if column < texts else ' class="n"' for column in range(len(head))]
    header = "".join(f'<th scope="col"{kind}>{html.escape(cell)}</th>' for cell, kind in zip(head, kinds, strict=True))
    body = "".join(
        f"<tr>{''.join(f'<td{kind}>{_cell(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))}</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll" role="region" aria-label="{html.escape(label)}" tabindex="0">'
        f"<table><thead><tr>{header}</tr></thead><tbody>\n{body}</tbody></table></div>"
    )


def _cell(cell: str) -> str:
    return cell if isinstance(cell, Markup) else shortened(cell)


def shortened(name: str) -> str:
    """Return a name from the data escaped, its middle left out where it is very long."""
    half = SHOWN_CHARS // 4
    return html.escape(name if len(name) <= 2 * half else f"{name[:half]} … {name[-half:]}")


def text(value: str, language: str | None) -> str:
    """Return one side of a pair, cut, escaped, in the direction of its own script."""
    attribute = f' lang="{html.escape(language)}"' if language and len(language) <= _LANGUAGE_CHARS else ""
    cut = f" … ({len(value):,} characters)" if len(value) > SHOWN_CHARS else ""
    return f'<p class="text" dir="auto"{attribute}>{html.escape(value[:SHOWN_CHARS])}{cut}</p>'


def score(value: float | None, digits: int = 2) -> str:
    """Return a score as text, a dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"
