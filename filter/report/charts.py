"""Charts as inline SVG: colours come from the page's classes, so that they follow light and dark."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

from bisift.filter.report.markup import Markup

WIDTH, HEIGHT = 240, 90
DENSITY = 300
LEVELS = 8
_MARGIN = 14


def histogram(label: str, kept_B: Sequence[int], dropped_B: Sequence[int], ticks: Sequence[tuple[float, str]]) -> str:
    """Return stacked bars, kept below dropped, scaled to the highest; `ticks` are places from 0 to 1 and their text."""
    top = max((kept + dropped for kept, dropped in zip(kept_B, dropped_B, strict=True)), default=0) or 1
    step = WIDTH / max(len(kept_B), 1)
    kept_path, dropped_path = [], []
    for place, (kept, dropped) in enumerate(zip(kept_B, dropped_B, strict=True)):
        left, low, high = place * step + 0.25, HEIGHT * kept / top, HEIGHT * dropped / top
        if kept:
            kept_path.append(f"M{left:.1f} {HEIGHT}v{-low:.2f}h{step - 0.5:.1f}v{low:.2f}z")
        if dropped:
            dropped_path.append(f"M{left:.1f} {HEIGHT - low:.2f}v{-high:.2f}h{step - 0.5:.1f}v{high:.2f}z")
    return (
        f'<svg class="chart" role="img" aria-label="{html.escape(label)}" viewBox="0 0 {WIDTH} {HEIGHT + _MARGIN}">'
        f'<path class="kept" d="{"".join(kept_path)}"/><path class="dropped" d="{"".join(dropped_path)}"/>'
        f'<path class="axis" d="M0 {HEIGHT}h{WIDTH}"/>{_ticks(ticks, WIDTH, HEIGHT + 11)}</svg>'
    )


def density(label: str, counts_QP: Sequence[Sequence[int]]) -> str:
    """Return counts as a map, quality upwards and ai_probability to the right, in LEVELS shades of their logarithm.

    The rectangle `chosen` is for the script of the desk.
    """
    size = DENSITY / len(counts_QP)
    top = max(max(row) for row in counts_QP)
    paths: list[list[str]] = [[] for _ in range(LEVELS)]
    for q, row in enumerate(counts_QP):
        for p, count in enumerate(row):
            if count:
                level = min(int(LEVELS * math.log1p(count) / math.log1p(top)), LEVELS - 1)
                paths[level].append(f"M{p * size:g} {DENSITY - (q + 1) * size:g}h{size:g}v{size:g}h{-size:g}z")
    cells = "".join(f'<path class="d{level + 1}" d="{"".join(path)}"/>' for level, path in enumerate(paths) if path)
    ticks = [(place / 4, f"{place / 4:g}") for place in range(5)]
    upwards = "".join(
        f'<text class="tick" text-anchor="end" x="-4" y="{DENSITY * (1 - place) + 3:.1f}">{name}</text>'
        for place, name in ticks
    )
    return (
        f'<svg class="density" role="img" aria-label="{html.escape(label)}" '
        f'viewBox="-42 -6 {DENSITY + 56} {DENSITY + 42}">{cells}'
        f'<rect class="axis" x="0" y="0" width="{DENSITY}" height="{DENSITY}"/>'
        f'<rect id="chosen" x="0" y="0" width="{DENSITY}" height="{DENSITY}"/>'
        f"{_ticks(ticks, DENSITY, DENSITY + 14)}{upwards}"
        f'<text class="tick" text-anchor="middle" x="{DENSITY / 2}" y="{DENSITY + 30}">ai_probability →</text>'
        f'<text class="tick" text-anchor="middle" transform="translate(-30 {DENSITY / 2}) rotate(-90)">quality →</text>'
        "</svg>"
    )


def bar(share: float) -> Markup:
    """Return a bar for a share of 0 to 1."""
    return Markup(
        '<svg class="bar" aria-hidden="true" viewBox="0 0 100 10" preserveAspectRatio="none">'
        f'<rect class="kept" width="{100 * share:.1f}" height="10"/></svg>'
    )


def interval(share: float, low: float | None, high: float | None) -> Markup:
    """Return a share of 0 to 1 as a point with its interval."""
    span = "" if low is None or high is None else f'<path class="span" d="M{100 * low:.1f} 5H{100 * high:.1f}"/>'
    return Markup(
        '<svg class="bar" aria-hidden="true" viewBox="0 0 100 10" preserveAspectRatio="xMinYMid">'
        '<path class="axis" d="M0 5H100"/>'
        f'{span}<circle class="kept" cx="{100 * share:.1f}" cy="5" r="3"/></svg>'
    )


def _ticks(ticks: Sequence[tuple[float, str]], width: float, y: float) -> str:
    anchors = {0.0: "start", 1.0: "end"}
    return "".join(
        f'<text class="tick" text-anchor="{anchors.get(place, "middle")}" x="{place * width:.1f}" y="{y}">'
        f"{html.escape(name)}</text>"
        for place, name in ticks
    )
