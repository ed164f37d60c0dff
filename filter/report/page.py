"""The report as one HTML page."""

from __future__ import annotations

import html
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bisift.filter.diversity import WINDOW, Diversity
from bisift.filter.report import charts, markup
from bisift.filter.report.desk import COARSE, STEPS, TOKENS, Desk
from bisift.filter.report.facts import Group, Histogram, Report, RuleCounts
from bisift.filter.report.machine import MachineShare
from bisift.filter.report.markup import Markup
from bisift.filter.report.rows import KEPT, LENGTHS
from bisift.filter.terminal import share

_KINDS = {"languages": "Language pairs", "origins": "Origins", "generators": "Generators"}
_UNIT = [(0.0, "0"), (0.5, "0.5"), (1.0, "1")]
_LEGEND = (
    '<p class="note"><svg class="key" aria-hidden="true" viewBox="0 0 1 1"><rect class="kept" width="1" height="1"/>'
    '</svg> kept <svg class="key" aria-hidden="true" viewBox="0 0 1 1"><rect class="dropped" width="1" height="1"/>'
    "</svg> dropped by a rule. Each chart is scaled to its own highest bar.</p>"
)
_SOURCES = (
    f"Type-token ratio: mean share of distinct tokens in segments of {WINDOW:,} (Johnson 1944). MTLD: mean length of "
    "runs whose type-token ratio stays above 0.72 (McCarthy and Jarvis 2010). distinct-n: distinct n-grams over all "
    "n-grams (Li et al. 2016, arXiv 1510.03055). Tokens are lower-cased words without punctuation; a CJK character "
    "each. All three fall as a text repeats itself."
)


def render(report: Report) -> str:
    """Return the page of a report."""
    parts = {
        "desk": ("Threshold desk", list(_desk(report))),
        "scores": ("Scores", list(_scores(report))),
        "rules": ("What the rules dropped", list(_rules(report))),
        "languages": ("Languages", list(_languages(report))),
        "lengths": ("Lengths", list(_lengths(report))),
        "diversity": ("Lexical diversity", list(_diversity(report))),
        "machine": ("Most likely machine-made", list(_machine(report))),
        "samples": ("Samples", list(_samples(report))),
    }
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, (title, _) in parts.items())
    body = [*_summary(report), f'<nav aria-label="Sections"><ul>{links}</ul></nav>']
    for name, (title, content) in parts.items():
        body += [f'<section id="{name}"><h2>{title}</h2>', *content, "</section>"]
    body += list(_colophon(report))
    return markup.page("bisift report", body, script=markup.asset("desk.js"), data=_desk_data(report))


def _summary(report: Report) -> Iterator[str]:
    names = ", ".join(report.inputs)
    yield f"<h1>What is in {html.escape(names)}</h1>"
    if not report.pairs:
        yield "<p>There are no pairs.</p>"
        return
    yield f"<p>{html.escape(' '.join(_sentences(report)))}</p>"
    tiles = [("pairs", f"{report.pairs:,}"), ("kept", share(report.kept, report.pairs))]
    tiles += [("target tokens kept", f"{report.tokens:,}")]
    tiles += [("documents kept", f"{report.documents:,}")] if report.documents else []
    tiles += [("expected machine-made", f"{report.machine.share:.1%}")] if report.machine else []
    yield f'<dl class="tiles">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles)}</dl>'


def _sentences(report: Report) -> Iterator[str]:
    languages, origins = (
        _counted(report.group_counts[kind], name)
        for kind, name in (("languages", "language pair"), ("origins", "origin"))
    )
    yield (
        f"Of {_counted(report.pairs, 'pair')} of {languages} from {origins}, the rules keep {report.kept:,} "
        f"({share(report.kept, report.pairs)})."
    )
    dropped = [rule for rule in report.rules if rule.first]
    if dropped:
        most = ", ".join(f"{rule.id} ({rule.first:,})" for rule in dropped[:3])
        yield f"Most were dropped by {most}."
    if report.rejected:
        yield f"{sum(report.rejected.values()):,} more rows could not be read."
    if report.machine:
        prior = report.provenance.get("prior")
        low, high = report.machine.low, report.machine.high
        interval = "" if low is None or high is None else f" (95% interval {low:.1%} to {high:.1%})"
        condition = "" if prior is None else f" and its prior of {prior:g} holds"
        yield (
            f"If the detector is calibrated for this text{condition}, {report.machine.share:.1%} of the kept "
            f"pairs are machine-made{interval}; it has seen the target language of "
            f"{share(report.language_known, report.pairs)} of all pairs."
        )
    else:
        yield "The pairs were scored without models, so nothing is known of quality and machine origin."


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _desk(report: Report) -> Iterator[str]:
    desk = report.desk
    yield (
        "<p>What stays when pairs below a quality or above an ai_probability are left out, of the pairs that the rules "
        "keep. The command takes exactly these pairs; run it where this report was made.</p>"
    )
    for known, name in ((desk.has_quality, "quality"), (desk.has_ai, "ai_probability")):
        if report.kept and not known:
            yield f"<p>{name} is missing in some or all rows, so it has no slider: score again with the models on.</p>"
    yield "<noscript><p>The sliders need JavaScript; the rest of the page does not.</p></noscript>"
    yield '<div class="desk"><div>'
    sliders = (
        ("min-quality", "quality at least", 0, desk.has_quality),
        ("max-ai", "ai_probability at most", STEPS - 1, desk.has_ai),
    )
    for name, label, value, enabled in sliders:
        disabled = "" if enabled else " disabled"
        yield f'<div class="slider"><label for="{name}">{label} '
        yield f'<output id="{name}-value">{value / 100:.2f}</output></label>'
        yield f'<input type="range" id="{name}" max="{STEPS - 1}" value="{value}" autocomplete="off"{disabled}></div>'
    yield '<p role="status" id="stays"></p>'
    yield '<table><thead><tr><th scope="col">taken</th><th scope="col" class="n">number</th>'
    yield '<th scope="col" class="n">of kept</th></tr></thead><tbody>'
    for name, label in (("pairs", "pairs"), ("tokens", "target tokens"), ("documents", "documents with a pair")):
        yield f'<tr><td>{label}</td><td class="n" id="{name}"></td><td class="n" id="{name}-share"></td></tr>'
    for name, label in (("mean-quality", "mean quality"), ("mean-ai", "expected share machine-made")):
        yield f'<tr><td>{label}</td><td class="n" id="{name}"></td><td></td></tr>'
    for name, label in (("type_token", "target type-token ratio"), ("distinct_2", "target distinct-2")):
        yield f'<tr><td>{label} (estimate)</td><td class="n" id="{name}"></td><td></td></tr>'
    yield (
        f'</tbody></table><p class="note">The estimates are of {TOKENS:,} tokens of a random sample, at every '
        f"{COARSE / 100:g}; – where the sample is too small.</p></div>"
    )
    if report.density_QP is not None:
        label = "Density of the kept pairs by quality and ai_probability; the frame shows what the sliders take"
        yield f"<figure>{charts.density(label, report.density_QP)}"
        yield "<figcaption>Kept pairs, shaded by the logarithm of their number. The frame is what the sliders take."
        yield "</figcaption></figure>"
    command = html.escape(" ".join(_command(report.inputs)))
    yield (
        f'</div><h3>Command</h3><div class="command"><code id="command">{command}</code>'
        '<button type="button" id="copy">Copy</button></div><p class="note" role="status" id="copied"></p>'
    )


def _command(inputs: Sequence[str]) -> tuple[str, str]:
    return f"filter-cli select {' '.join(shlex.quote(path) for path in inputs)}", "-o chosen.parquet"


def _desk_data(report: Report) -> dict[str, Any]:
    desk: Desk = report.desk
    before, after = _command(report.inputs)
    return {
        "steps": STEPS,
        "coarse": COARSE,
        "size": charts.DENSITY,
        "before": before,
        "after": after,
        "pairs": desk.pairs_QP.reshape(-1).tolist(),
        "tokens": desk.tokens_QP.reshape(-1).tolist(),
        "documents": desk.documents_QP.reshape(-1).tolist(),
        "mean_quality": _rounded(desk.mean_quality_QP),
        "mean_ai": _rounded(desk.mean_ai_QP),
        "type_token": desk.type_token,
        "distinct_2": desk.distinct_2,
    }


def _rounded(mean_QP: npt.NDArray[np.float64]) -> list[float | None]:
    return [None if np.isnan(value) else round(value, 3) for value in mean_QP.reshape(-1).tolist()]


def _scores(report: Report) -> Iterator[str]:
    yield _LEGEND
    for kind, groups in report.groups.items():
        yield f"<details{' open' if kind == 'languages' else ''}><summary><h3>{_KINDS[kind]}</h3></summary>"
        more = report.group_counts[kind] - len(groups)
        if more:
            yield f'<p class="note">The {len(groups)} largest; {more:,} more are not shown.</p>'
        yield '<div class="charts">'
        for group in groups:
            for name, histogram in (("quality", group.quality), ("ai_probability", group.ai_probability)):
                yield _score_figure(group, name, histogram)
        yield "</div></details>"


def _score_figure(group: Group, name: str, histogram: Histogram | None) -> str:
    caption = f"{markup.shortened(group.name)}<br>{name}: "
    if histogram is None:
        return f"<figure><figcaption>{caption}none</figcaption></figure>"
    caption += f"median {markup.score(histogram.median)}, mean {markup.score(histogram.mean)}"
    chart = charts.histogram(f"Histogram of {name}", histogram.kept_B, histogram.dropped_B, _UNIT)
    return f"<figure><figcaption>{caption}</figcaption>{chart}</figure>"


def _rules(report: Report) -> Iterator[str]:
    if report.rules:
        yield (
            "<p>Failed: pairs that break the rule. Alone: pairs that break no other rule, which switching this one off "
            "would keep. First: pairs of which it is the drop_reason; these add up to all dropped pairs.</p>"
        )
        top = max(rule.first for rule in report.rules) or 1
        rows = [
            (
                _rule_name(rule),
                charts.bar(rule.first / top),
                f"{rule.first:,}",
                share(rule.first, report.pairs),
                f"{rule.alone:,}",
                f"{rule.failed:,}",
            )
            for rule in report.rules
        ]
        head = ("rule, and when it fails", "first, as a bar", "first", "of all pairs", "alone", "failed")
        yield markup.table("Rules", head, rows, texts=2)
    else:
        yield "<p>No pair failed a rule.</p>"
    if report.rejected:
        yield "<h3>Rows that could not be read</h3>"
        rejected = [(reason, f"{count:,}") for reason, count in report.rejected.items()]
        yield markup.table("Rejects", ("reason", "rows"), rejected)


def _rule_name(rule: RuleCounts) -> Markup:
    threshold = "" if rule.threshold is None else f" (threshold {rule.threshold:g})"
    return Markup(f'{markup.shortened(rule.id)}<br><span class="note">{html.escape(rule.help)}{threshold}</span>')


def _languages(report: Report) -> Iterator[str]:
    rows = [
        (
            group.name,
            f"{group.pairs:,}",
            f"{group.kept:,}",
            share(group.kept, group.pairs),
            f"{group.tokens:,}",
            markup.score(group.quality.median if group.quality else None),
            markup.score(group.ai_probability.mean if group.ai_probability else None),
        )
        for group in report.groups["languages"]
    ]
    head = ("declared", "pairs", "kept", "share kept", "target tokens", "median quality", "mean ai_probability")
    yield markup.table("Declared language pairs", head, rows)
    yield "<h3>As identified from the text</h3>"
    identified = [(name, f"{count:,}", share(count, report.pairs)) for name, count in report.identified.items()]
    yield markup.table("Identified language pairs", ("identified", "pairs", "share"), identified)
    yield '<p class="note">? is a side of which the language could not be told; the most frequent are shown.</p>'


def _lengths(report: Report) -> Iterator[str]:
    yield _LEGEND
    yield '<div class="charts">'
    for name, (kept, dropped) in report.lengths.items():
        edges = LENGTHS[name]
        marks = range(0, len(edges), max(1, len(edges) // 6))
        ticks = [(place / len(edges), f"{edges[place]:g}") for place in marks]
        chart = charts.histogram(f"Histogram of {name}", kept, dropped, ticks)
        yield f"<figure><figcaption>{name}, bins from each mark up</figcaption>{chart}</figure>"
    yield "</div>"


def _diversity(report: Report) -> Iterator[str]:
    if not report.diversity:
        yield f"<p>No group has {WINDOW:,} tokens on both sides, so nothing can be measured.</p>"
        return
    yield f"<p>Of {report.diversity_tokens:,} tokens of random kept pairs of each group, so that groups compare.</p>"
    measures = ("type-token", "MTLD", "distinct-1", "distinct-2", "distinct-3", "distinct-4")
    top = max(side.mtld or 0 for entry in report.diversity for side in (entry.source, entry.target)) or 1
    rows = []
    for entry in report.diversity:
        name = entry.name if entry.kind != "deciles" else f"decile {entry.name}"
        for side, found in (("source", entry.source), ("target", entry.target)):
            rows.append((name, side, charts.bar((found.mtld or 0) / top), *_measures(found)))
    yield markup.table("Lexical diversity", ("group", "side", "MTLD, as a bar", *measures), rows, texts=3)
    yield f'<p class="note">{_SOURCES} Groups of fewer than {WINDOW:,} tokens are left out.</p>'


def _measures(diversity: Diversity) -> list[str]:
    distinct = [markup.score(value, 3) for value in diversity.distinct]
    return [markup.score(diversity.type_token, 3), markup.score(diversity.mtld, 1), *distinct]


def _machine(report: Report) -> Iterator[str]:
    if report.machine is None:
        yield "<p>There is no ai_probability: score again with the models on.</p>"
        return
    yield (
        "<p>The mean ai_probability of kept pairs with its 95% interval. Intervals are for chance in which documents "
        "and pairs came, not for errors of the detector, and what it says of one pair is weak: read docs/models.md "
        "before acting on a name.</p>"
    )
    head = ("name", "from 0 to 1", "mean", "95%", "pairs")
    for kind, entries in report.machine_groups.items():
        yield f"<h3>{_KINDS[kind]}</h3>"
        yield markup.table(_KINDS[kind], head, _shares(entries), texts=2)
    yield "<h3>Documents</h3>"
    if not report.machine_documents:
        yield "<p>No documents are declared: name their column with --document-column when scoring.</p>"
        return
    rows = [
        (*row, markup.score(entry.document_probability, 3))
        for row, entry in zip(_shares(report.machine_documents), report.machine_documents, strict=True)
    ]
    yield markup.table("Documents", (*head, "ai_probability_document"), rows, texts=2)


def _shares(entries: Sequence[MachineShare]) -> list[tuple[str, ...]]:
    return [
        (
            entry.name,
            charts.interval(entry.share, entry.low, entry.high),
            f"{entry.share:.3f}",
            _interval(entry) or "one document: none",
            f"{entry.pairs:,}",
        )
        for entry in entries
    ]


def _interval(entry: MachineShare) -> str:
    return "" if entry.low is None or entry.high is None else f"{entry.low:.3f} to {entry.high:.3f}"


def _samples(report: Report) -> Iterator[str]:
    if not report.samples:
        return
    yield (
        f"<p>Drawn at random with seed {report.seed}; each side stands in the direction of its script. "
        f"<code>filter-cli explain {html.escape(shlex.quote(report.inputs[0]))} --row N</code> says why a pair was "
        "judged as it was.</p>"
    )
    counts = {KEPT: report.kept, **{rule.id: rule.first for rule in report.rules}}
    for reason, pairs in report.samples.items():
        title = "Kept" if reason == KEPT else f"Dropped: {reason}"
        yield f"<details{' open' if reason == KEPT else ''}>"
        yield f"<summary><h3>{markup.shortened(title)} ({len(pairs)} of {counts[reason]:,})</h3></summary>"
        for pair in pairs:
            sides = "".join(markup.text(pair[side], pair[f"{side}_lang"]) for side in ("source", "target"))
            place = f"{markup.shortened(pair['origin'])}, row {pair['row']:,}"
            place += f", written by {markup.shortened(pair['generator'])}" if pair["generator"] else ""
            scores = f"quality {markup.score(pair['quality'])}, ai_probability {markup.score(pair['ai_probability'])}"
            yield f'<article class="sample">{sides}<p class="note">{scores}; {place}</p></article>'
        yield "</details>"


def _colophon(report: Report) -> Iterator[str]:
    yield '<section id="provenance"><h2>Provenance</h2>'
    for warning in report.warnings:
        yield f"<p>{html.escape(warning)}</p>"
    known = {name: value for name, value in report.provenance.items() if value is not None}
    models = known.pop("models", None) or {}
    entries = {**known, **{f"{name} model": digest for name, digest in models.items()}}
    if entries:
        rows = [(name, str(value)) for name, value in entries.items()]
        yield markup.table("Provenance", ("what", "value"), rows, texts=2)
    yield "</section>"
