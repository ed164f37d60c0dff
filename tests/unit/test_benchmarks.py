"""The benchmarks' own tools: what they measure is what a child process did, and what they keep can be read again."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

from bench import data, measure, results  # noqa: E402

BURN = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\n"


def python(code: str) -> measure.Run:
    return measure.run([sys.executable, "-S", "-c", code])


def test_cpu_time_of_a_child_is_counted_and_its_sleep_is_not() -> None:
    idle = python("import time; time.sleep(0.3)").measured
    busy = python(BURN).measured
    assert busy.cpu_s > 0.3
    assert busy.cpu_s > idle.cpu_s + 0.2
    assert idle.wall_s > 0.3


def test_cpu_time_of_a_grandchild_is_counted_and_ours_is_not() -> None:
    end = time.process_time() + 0.2
    while time.process_time() < end:
        pass
    idle = python("pass").measured
    nested = python(f"import subprocess, sys; subprocess.run([sys.executable, '-S', '-c', {BURN!r}], check=True)")
    assert nested.measured.cpu_s > idle.cpu_s + 0.2


def test_memory_of_the_whole_tree_is_counted_and_ours_is_not() -> None:
    ballast = bytearray(b"x" * (100 << 20))
    alone = python("import time; time.sleep(0.2)").measured
    hold = "import time; block = b'x' * (60 << 20); time.sleep(0.4)"
    nested = python(
        f"import subprocess, sys; block = b'x' * (60 << 20); subprocess.run([sys.executable, '-S', '-c', {hold!r}])"
    ).measured
    assert len(ballast) == 100 << 20
    assert 0 < alone.rss_anon_mib <= alone.vm_hwm_mib < 60
    assert nested.rss_anon_mib > 120
    assert nested.vm_hwm_mib > 120


def test_stdout_is_returned_and_a_failure_tells_why() -> None:
    assert python("print('ciao')").stdout == "ciao\n"
    with pytest.raises(measure.BenchmarkError, match=r"exit 3\nboom"):
        python("import sys; print('boom', file=sys.stderr); sys.exit(3)")
    with pytest.raises(measure.BenchmarkError, match="No such file"):
        measure.run(["/nonexistent"])


def test_a_command_that_hangs_is_killed() -> None:
    with pytest.raises(measure.BenchmarkError, match="exit -9"):
        measure.run([sys.executable, "-S", "-c", "import time; time.sleep(60)"], timeout_s=0.2)


def test_best_of_takes_the_least() -> None:
    costs = iter((3.0, 1.0, 2.0))

    def fake() -> measure.Run:
        cost = next(costs)
        return measure.Run(
            measure.Measurement(cpu_s=cost, wall_s=-cost, rss_anon_mib=0, vm_hwm_mib=0, other_cores=0), ""
        )

    assert measure.best_of(3, fake, key=measure.cpu).measured.cpu_s == 1.0


@pytest.mark.parametrize(
    ("kind", "value", "verdict"),
    [
        ("at_least", 10.0, "reached"),
        ("at_least", 9.99, "missed"),
        ("under", 0.3, "missed"),
        ("under", 0.29, "reached"),
        ("at_least", None, "not run"),
    ],
)
def test_a_figure_says_whether_its_target_was_reached(kind: str, value: float | None, verdict: str) -> None:
    bound = 10 if kind == "at_least" else 0.3
    target = results.Target(bound=bound, kind=kind)  # type: ignore[arg-type]
    figure = results.Figure(name="speed", unit="×", value=value, target=target)
    assert figure.verdict == verdict
    assert figure.line("rules").endswith(verdict)
    assert "\n" not in figure.line("rules")


def test_a_result_is_one_line_of_json_that_the_docs_can_show(tmp_path: Path) -> None:
    cost = measure.Measurement(cpu_s=1, wall_s=1, rss_anon_mib=1, vm_hwm_mib=1, other_cores=0)
    target = results.Target(bound=600, kind="under")
    for value in (700.0, 512.0):
        figure = results.Figure(name="memory", unit="MiB", value=value, target=target, measured={"bisift": cost})
        results.append(tmp_path, results.record("full", [figure], data="made up", load=0.25))
    lines = (tmp_path / "full.jsonl").read_text().splitlines()
    kept = [json.loads(line) for line in lines]
    assert [one["figures"][0]["verdict"] for one in kept] == ["missed", "reached"]
    assert kept[0]["machine"]["cores"] >= 1
    assert {"date", "commit", "versions", "load", "data"} <= set(kept[0])

    page = tmp_path / "page.md"
    page.write_text(f"before\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    results.write_docs(tmp_path, page)
    text = page.read_text()
    assert "| full | memory | 512 MiB | < 600 | reached |" in text
    assert "old" not in text
    assert "missed" not in text
    assert text.startswith("before\n")
    assert text.endswith("after\n")


def test_the_page_of_the_docs_has_the_marks_of_the_table() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert text.index(results.BEGIN) < text.index(results.END)


def test_more_rows_than_the_text_has_are_all_different() -> None:
    corpus = data.Corpus("made up", [("one", "uno"), ("two", "due")])
    pairs = corpus.head(7).pairs
    assert pairs[:3] == [("one", "uno"), ("two", "due"), ("one (1)", "uno (1)")]
    assert len({source for source, _ in pairs}) == len({target for _, target in pairs}) == 7
