"""`report`: what it counts agrees with counting row by row, and the page holds any text harmlessly."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from scipy import stats

from bisift.contract import SCORED, with_provenance
from bisift.errors import ConfigError
from bisift.filter.cli import cli
from bisift.filter.diversity import Diversity, Tokens
from bisift.filter.profile import load_profile
from bisift.filter.report.desk import COARSE, GRID, STEPS, TOKENS
from bisift.filter.report.facts import BINS, DENSITY_BINS, DIVERSITY_TOKENS, UNKNOWN_REASON, Report, gather
from bisift.filter.report.markup import Markup, table, write_page
from bisift.filter.report.page import render
from bisift.filter.rules import BITS
from bisift.filter.selecting import select
from tests.unit.test_ranking import scored, write

ROWS = 1_500
WORDS = ("river", "stone", "lamp", "green", "walks", "under", "seven", "old", "glass", "bird", "opens", "never")


def made(rows: int = ROWS, seed: int = 0) -> pa.Table:
    """Scored rows with documents, generators, failed rules, and scores on and off the desk's grid."""
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, rng.integers(3, 12))) for _ in range(rows)]
    on_grid = np.round(rng.random(rows), 2)
    score = np.where(rng.random(rows) < 0.5, on_grid, rng.random(rows)).astype(np.float32)
    documents = [None if rng.random() < 0.2 else f"doc-{rng.integers(0, rows // 8)}" for _ in range(rows)]
    failed = np.where(rng.random(rows) < 0.3, 1 << rng.integers(1, 5, rows), 0) | np.where(rng.random(rows) < 0.1, 1, 0)
    names = list(BITS)
    reasons = [None if not bits else names[int(bits & -bits).bit_length() - 1] for bits in failed.tolist()]
    columns = {
        "source": texts,
        "target": [text.upper() for text in texts],
        "source_lang": ["en"] * rows,
        "target_lang": rng.choice(["it", "de"], rows).tolist(),
        "document_id": documents,
        "quality": score,
        "ai_probability": rng.permutation(score),
        "ai_probability_document": [None if name is None else float(hash_share(name)) for name in documents],
        "ai_language_known": rng.random(rows) < 0.7,
        "failed_rules": failed.astype(np.uint64),
        "drop_reason": reasons,
        "source_words": np.array([len(text.split()) for text in texts], np.int32),
        "target_words": np.array([len(text.split()) for text in texts], np.int32),
        "length_ratio": (1 + rng.random(rows)).astype(np.float32),
        "source_language": ["en"] * rows,
        "target_language": [None] * rows,
    }
    found = scored(rows, seed=seed)
    for name, values in columns.items():
        index = found.schema.get_field_index(name)
        field = found.schema.field(index)
        found = found.set_column(index, field, pa.array(values).cast(field.type))
    return found


def hash_share(name: str) -> np.float32:
    return np.float32((sum(name.encode()) % 100) / 100)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("report")
    return [write(folder / f"{seed}.parquet", made(seed=seed)) for seed in (0, 1)]


@pytest.fixture(scope="module")
def report(files: list[str]) -> Report:
    return gather(files, samples=4, seed=3)


@pytest.fixture(scope="module")
def rows(files: list[str]) -> list[dict[str, Any]]:
    return [row for path in files for row in pq.read_table(path).to_pylist()]


def kept(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["drop_reason"] is None]


@pytest.mark.parametrize(("q", "p"), [(0, 100), (0, 0), (100, 100), (50, 50), (29, 71), (57, 100), (0, 7), (93, 13)])
def test_the_desk_promises_what_select_takes(files: list[str], report: Report, q: int, p: int) -> None:
    taken = [
        row for tables in select(files, min_quality=q / 100, max_ai_probability=p / 100) for row in tables.to_pylist()
    ]
    desk = report.desk
    assert desk.pairs_QP[q, p] == len(taken)
    assert desk.tokens_QP[q, p] == sum(row["target_words"] for row in taken)
    assert desk.documents_QP[q, p] == len({row["document_id"] for row in taken} - {None})
    if taken:
        assert desk.mean_quality_QP[q, p] == pytest.approx(np.mean([row["quality"] for row in taken]))
        assert desk.mean_ai_QP[q, p] == pytest.approx(np.mean([row["ai_probability"] for row in taken]))


def test_the_desk_is_exact_everywhere(report: Report, rows: list[dict[str, Any]]) -> None:
    quality, ai = (np.array([row[name] for row in kept(rows)], np.float32) for name in ("quality", "ai_probability"))
    documents = np.array([row["document_id"] or "" for row in kept(rows)])
    for q in range(STEPS):
        for p in range(0, STEPS, 4):
            inside = (quality >= GRID[q]) & (ai <= GRID[p])
            assert report.desk.pairs_QP[q, p] == inside.sum()
            assert report.desk.documents_QP[q, p] == len(set(documents[inside]) - {""})


def test_the_desk_estimates_diversity_where_there_is_enough_text(tmp_path: Path) -> None:
    many = made(6_000)
    found = gather([write(tmp_path / "many.parquet", many)]).desk
    assert len(found.distinct_2) == len(found.type_token) == (STEPS - 1) // COARSE + 1
    words = [word for row in kept(many.to_pylist()) for word in row["target"].split()]
    assert len(words) > TOKENS
    everything = found.type_token[0][-1]
    assert everything is not None
    assert everything == pytest.approx(len(WORDS) / 1_000)  # every segment of 1,000 holds all of the few words
    assert found.distinct_2[-1][0] is None


def test_rules_are_counted_failed_alone_and_first(report: Report, rows: list[dict[str, Any]]) -> None:
    counted = {rule.id: (rule.failed, rule.alone, rule.first) for rule in report.rules}
    expected = {}
    for name, bit in BITS.items():
        failed = [row for row in rows if row["failed_rules"] & bit]
        if failed:
            alone = sum(row["failed_rules"] == bit for row in failed)
            expected[name] = (len(failed), alone, sum(row["drop_reason"] == name for row in rows))
    assert counted == expected
    assert sum(first for _, _, first in counted.values()) == len(rows) - len(kept(rows)) == report.pairs - report.kept
    assert {rule.threshold for rule in report.rules} == {None}  # judged by a profile that is not known here


def test_thresholds_stand_beside_the_rules_of_the_default_profile(tmp_path: Path) -> None:
    profile = load_profile()
    schema = with_provenance(SCORED, models={}, profile_digest=profile.digest, prior=None)
    failing = scored(4, schema=schema, drop_reason="too_long", failed_rules=BITS["too_long"])
    (rule,) = gather([write(tmp_path / "a.parquet", failing)]).rules
    assert (rule.id, rule.threshold) == ("too_long", profile.thresholds["too_long"])


def test_reasons_of_other_commands_are_listed(tmp_path: Path) -> None:
    found = gather([write(tmp_path / "a.parquet", scored(6, drop_reason="near_duplicate"))])
    assert [(rule.id, rule.first) for rule in found.rules] == [("near_duplicate", 6)]
    assert found.kept == 0
    assert "near_duplicate" in render(found)


def test_groups_histograms_density_and_lengths_hold_every_row(report: Report, rows: list[dict[str, Any]]) -> None:
    assert set(report.groups) == {"languages", "origins", "generators"}
    for groups in report.groups.values():
        assert sum(group.pairs for group in groups) == len(rows)
        assert sum(group.kept for group in groups) == len(kept(rows))
    italian = next(group for group in report.groups["languages"] if group.name == "en-it")
    of_it = [row for row in rows if row["target_lang"] == "it"]
    assert italian.pairs == len(of_it)
    assert italian.tokens == sum(row["target_words"] for row in kept(of_it))
    assert italian.quality is not None
    scores = np.array([row["quality"] for row in kept(of_it)], np.float32)
    edges = (np.arange(BINS + 1) / BINS).astype(np.float32)
    assert list(italian.quality.kept_B) == np.histogram(scores, edges)[0].tolist()
    assert italian.quality.median == pytest.approx(np.median(scores))
    assert report.density_QP is not None
    assert np.sum(report.density_QP) == len(kept(rows))
    assert np.shape(report.density_QP) == (DENSITY_BINS, DENSITY_BINS)
    for inside, outside in report.lengths.values():
        assert (sum(inside), sum(outside)) == (len(kept(rows)), len(rows) - len(kept(rows)))
    assert report.identified == {"en-?": len(rows)}


def test_diversity_is_that_of_samples_of_one_length(report: Report, rows: list[dict[str, Any]]) -> None:
    kinds = {entry.kind for entry in report.diversity}
    assert kinds == {"all", "origins", "generators", "deciles"}
    assert report.diversity_tokens <= DIVERSITY_TOKENS
    lengths = {side.tokens for entry in report.diversity for side in (entry.source, entry.target)}
    assert lengths == {report.diversity_tokens}
    everything = next(entry for entry in report.diversity if entry.kind == "all")
    assert everything.target == everything.source  # the same words in capitals
    whole = Diversity.of(Tokens.of(pa.array([row["target"] for row in kept(rows)])))
    assert everything.target.type_token == pytest.approx(whole.type_token, abs=0.001)


def test_deciles_are_tenths_of_the_kept_rows_by_quality(tmp_path: Path) -> None:
    poor = " ".join(["same"] * 30)
    rng = np.random.default_rng(5)
    texts = [poor if i < 500 else " ".join(f"w{n}" for n in rng.integers(0, 10**6, 30)) for i in range(1_000)]
    base = scored(1_000, drop_reason=None)
    for name, values in {
        "target": pa.array(texts),
        "source": pa.array(texts),
        "target_words": pa.array([30] * 1_000, pa.int32()),
        "quality": pa.array([i / 1_000 for i in range(1_000)], pa.float32()),
    }.items():
        base = base.set_column(base.schema.get_field_index(name), base.schema.field(name), values)
    deciles = [entry for entry in gather([write(tmp_path / "a.parquet", base)]).diversity if entry.kind == "deciles"]
    assert [entry.name.split(":")[0] for entry in deciles] == [str(number + 1) for number in range(10)]
    assert [entry.target.distinct[0] > 0.5 for entry in deciles if entry.target.distinct[0]] == [False] * 5 + [True] * 5


def test_intervals_are_of_documents(report: Report, rows: list[dict[str, Any]]) -> None:
    """The sandwich estimate for clusters, summed here document by document."""
    assert report.machine is not None
    probability = np.array([row["ai_probability"] for row in kept(rows)])
    mean = probability.mean()
    clusters: dict[Any, float] = {}
    for number, row in enumerate(kept(rows)):
        name = row["document_id"] or number
        clusters[name] = clusters.get(name, 0.0) + row["ai_probability"] - mean
    count = len(clusters)
    spread = stats.norm.ppf(0.975) * np.sqrt(sum(value**2 for value in clusters.values()) * count / (count - 1))
    assert report.machine.share == pytest.approx(mean)
    assert report.machine.low == pytest.approx(mean - spread / len(probability), abs=1e-6)
    assert report.machine.high == pytest.approx(mean + spread / len(probability), abs=1e-6)


def test_documents_most_likely_machine_made_come_first(report: Report, rows: list[dict[str, Any]]) -> None:
    listed = report.machine_documents
    known = {row["document_id"]: row["ai_probability_document"] for row in kept(rows) if row["document_id"]}
    assert [entry.document_probability for entry in listed] == pytest.approx(
        sorted(known.values(), reverse=True)[: len(listed)]
    )
    for entry in listed:
        inside = [row["ai_probability"] for row in kept(rows) if row["document_id"] == entry.name]
        assert known[entry.name] == pytest.approx(entry.document_probability)
        assert entry.pairs == len(inside)
        assert entry.share == pytest.approx(np.mean(inside))


def test_a_documents_interval_is_wilsons(tmp_path: Path) -> None:
    base = scored(8, drop_reason=None, document_id="d", ai_probability_document=0.9)
    ones = pa.array([1.0] * 6 + [0.0] * 2, pa.float32())
    base = base.set_column(base.schema.get_field_index("ai_probability"), base.schema.field("ai_probability"), ones)
    (entry,) = gather([write(tmp_path / "a.parquet", base)]).machine_documents
    exact = stats.binomtest(6, 8).proportion_ci(method="wilson")
    assert entry.low == pytest.approx(exact.low, abs=1e-6)
    assert entry.high == pytest.approx(exact.high, abs=1e-6)


def test_samples_are_seeded_and_do_not_depend_on_the_order_of_files(
    files: list[str], report: Report, rows: list[dict[str, Any]]
) -> None:
    reasons = {(row["origin"], row["row"]): row["drop_reason"] or "kept" for row in rows}
    assert set(report.samples) == set(reasons.values())
    for reason, pairs in report.samples.items():
        assert [reasons[pair["origin"], pair["row"]] for pair in pairs] == [reason] * 4

    def shown(found: Report) -> dict[str, list[tuple[str, int]]]:
        return {name: [(pair["origin"], pair["row"]) for pair in pairs] for name, pairs in found.samples.items()}

    assert shown(gather(files[::-1], samples=4, seed=3)) == shown(report)
    assert shown(gather(files, samples=4, seed=4)) != shown(report)


def test_rejected_rows_come_from_the_manifests(tmp_path: Path) -> None:
    for name, manifest in {
        "a": {
            "rows": {"kept": 4, "dropped": 1, "rejected": 5},
            "rejects_by_reason": {"invalid_utf8": 3, "nul_byte": 1},
        },
        "b": {"rows": {"kept": 4, "dropped": 1, "rejected": 2}, "rejects_by_reason": {"invalid_utf8": 2}},
    }.items():
        write(tmp_path / f"{name}.parquet", scored(5))
        (tmp_path / f"{name}.parquet.manifest.json").write_text(json.dumps(manifest))
    found = gather([str(tmp_path / "*.parquet")])
    assert found.rejected == {"invalid_utf8": 5, "nul_byte": 1, UNKNOWN_REASON: 1}
    assert "7 more rows could not be read" in render(found)


class _Page(HTMLParser):
    """Tags and attributes of a page, as a browser without scripts would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs


EVIL = (
    '<script>alert("1")</script>',
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "<svg onload=alert(4)>",
    "שלום <b>עולם</b>",
    "日本語の文🙂",
    "long" * 5_000,
)


def test_texts_and_names_are_harmless(tmp_path: Path) -> None:
    base = scored(len(EVIL) * 3)
    for name in ("source", "target", "source_lang", "target_lang", "document_id", "generator", "origin"):
        index = base.schema.get_field_index(name)
        base = base.set_column(
            index, base.schema.field(index), pa.array(list(EVIL) * 3).cast(base.schema.field(index).type)
        )
    probability = pa.array([0.5] * base.num_rows, pa.float32())
    index = base.schema.get_field_index("ai_probability_document")
    base = base.set_column(index, base.schema.field(index), probability)
    page = render(gather([write(tmp_path / "a.parquet", base)], samples=50))
    clean = render(gather([write(tmp_path / "b.parquet", scored(9, document_id="d"))]))
    found, known = _Page(page), _Page(clean)
    assert found.tags.count("script") == known.tags.count("script") == 2
    assert set(found.tags) == set(known.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name in ("src", "style")]
    assert all(value and value.startswith("#") for name, value in found.attributes if name == "href")
    assert "&lt;svg onload=alert(4)&gt;" in page
    assert "long" * 500 not in page
    assert page.count('dir="auto"') == 2 * base.num_rows


def test_the_page_loads_nothing(report: Report) -> None:
    page = render(report)
    assert not re.search(r"(https?:)?//[a-z]", page.replace("http://www.w3.org/2000/svg", ""))
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', page)
    assert policy is not None
    assert policy[1].startswith("default-src 'none'; style-src 'sha256-")
    assert len(page) < 1_000_000
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data is not None
    desk = json.loads(data[1])
    assert desk["pairs"] == report.desk.pairs_QP.reshape(-1).tolist()


def test_markup_made_here_passes_and_nothing_else_does() -> None:
    shown = table("t", ("a", "b"), [(Markup("<svg x/>"), "<svg y/>")])
    assert "<svg x/>" in shown
    assert "<svg y/>" not in shown
    assert "&lt;svg y/&gt;" in shown


@pytest.mark.parametrize("rows", [0, 1])
def test_nearly_nothing(tmp_path: Path, rows: int) -> None:
    found = gather([write(tmp_path / "a.parquet", scored(rows, drop_reason=None))])
    assert (found.pairs, found.kept) == (rows, rows)
    assert "<h1>" in render(found)


def test_without_models_there_are_no_sliders_but_the_rest(tmp_path: Path) -> None:
    bare = scored(40, quality=None, ai_probability=None)
    found = gather([write(tmp_path / "a.parquet", bare)])
    page = render(found)
    assert not found.desk.has_quality
    assert not found.desk.has_ai
    assert page.count(" disabled>") == 2
    assert "scored without models" in page
    assert found.desk.pairs_QP[0, STEPS - 1] == found.kept


def test_one_unscored_row_switches_its_slider_off_as_select_would_refuse(tmp_path: Path) -> None:
    base = scored(20)
    values = base.column("quality").to_pylist()
    values[0] = None  # a dropped row
    base = base.set_column(
        base.schema.get_field_index("quality"), base.schema.field("quality"), pa.array(values, pa.float32())
    )
    path = write(tmp_path / "a.parquet", base)
    desk = gather([path]).desk
    assert (desk.has_quality, desk.has_ai) == (False, True)
    with pytest.raises(ConfigError, match="null in some rows"):
        list(select([path], min_quality=0.5))


def test_command(tmp_path: Path, files: list[str]) -> None:
    output = tmp_path / "report.html"
    done = CliRunner().invoke(cli, ["report", *files, "-o", str(output), "--json"])
    assert done.exit_code == 0, done.output
    value = json.loads(done.stdout)
    assert value["pairs"] == 2 * ROWS
    assert value["samples"]["kept"]
    assert "<title>bisift report</title>" in output.read_text(encoding="utf-8")
    piped = CliRunner().invoke(cli, ["report", *files, "-o", "-"])
    assert piped.stdout.startswith("<!doctype html>")
    with pytest.raises(ConfigError, match="is an input"):
        write_page("x", files[0], files)
