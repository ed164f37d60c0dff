"""filter-cli's commands over a stand-in engine: help, options, results, messages and exit codes."""

from __future__ import annotations

import dataclasses
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from bisift import __version__
from bisift.errors import InputError
from bisift.filter import scoring
from bisift.filter.cli import cli
from bisift.filter.publishing import Progress, ScoreResult
from bisift.filter.scoring import ScoreOptions

COMMANDS = sorted(cli.commands)
RESULT = ScoreResult(
    rows_in=1000,
    rows_out=990,
    rejected=10,
    kept=900,
    dropped=90,
    by_reason={"empty": 30, "length_ratio": 60},
    rejects_by_reason={"invalid_utf8": 10},
    resumed_rows=0,
    already_done=False,
    seconds=2.0,
    device="cpu",
    output="out.parquet",
    rejects_file="out.parquet.rejects.jsonl",
    warnings=(),
)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, arguments, prog_name="filter-cli")


@dataclasses.dataclass
class Engine:
    """Stands in for `score_files`: keeps what it was called with and returns `result` or raises `error`."""

    result: ScoreResult = RESULT
    error: BaseException | None = None
    inputs: Sequence[str] = ()
    output: str = ""
    options: ScoreOptions = ScoreOptions()  # noqa: RUF009 - frozen

    def __call__(
        self,
        inputs: Sequence[str],
        output: str,
        options: ScoreOptions,
        progress: Callable[[Progress], None] | None = None,
    ) -> ScoreResult:
        self.inputs, self.output, self.options = inputs, output, options
        if self.error is not None:
            raise self.error
        return self.result


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    stand_in = Engine()
    monkeypatch.setattr(scoring, "score_files", stand_in)
    return stand_in


def test_the_commands_are_those_of_the_interface() -> None:
    assert COMMANDS == ["compare", "completion", "dedup", "explain", "rank", "report", "rules", "score", "select"]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_ends_with_examples_of_the_command(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    examples = result.stdout.split("\nExamples:\n")[1].splitlines()
    assert all(line.startswith("  ") for line in examples)
    assert any(f"filter-cli {command}" in line for line in examples)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_example_is_accepted_by_the_parser(command: str) -> None:
    examples = " | ".join(cli.commands[command].examples)  # type: ignore[attr-defined]
    calls = [shlex.split(call) for call in re.findall("filter-cli [^|>)]*", examples)]
    assert calls
    for _, name, *words in calls:
        cli.commands[name].make_context(name, words)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_has_a_help_text(command: str) -> None:
    for parameter in cli.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


@pytest.mark.parametrize("arguments", [["--help"], *([command, "--help"] for command in COMMANDS), ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom bisift.filter.cli import main\nsys.argv[1:] = sys.argv[1:]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "heavy = {'pyarrow', 'numpy', 'onnxruntime', 'torch', 'rich', 'apache_beam', 'lxml', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert result.stderr == "[]\n"


def test_version() -> None:
    assert run("--version").stdout == f"bisift {__version__}\n"


def test_no_command_shows_the_help_and_fails() -> None:
    result = run()
    assert result.exit_code == 2
    assert "Commands:" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["scoer"], "Did you mean 'score'?"),
        (["score", "a", "-o", "b", "--frmat", "tsv"], "Did you mean '--format'?"),
        (["score", "-o", "b"], "Missing argument 'INPUT...'"),
        (["score", "a"], "Missing option '-o'"),
        (["score", "a", "-o", "b", "--format", "xls"], "'xls' is not one of"),
        (["score", "a", "-o", "b", "--workers", "0"], "0 is not in the range"),
        (["score", "a", "-o", "b", "--limit", "0"], "0 is not in the range"),
        (["score", "a", "-o", "b", "--chunk-rows", "many"], "'many' is not a valid integer"),
        (["score", "a", "-o", "b", "--prior", "nan"], "'nan' is not a number above 0"),
        (["score", "a", "-o", "b", "--model", "quality"], "'quality' is not NAME=FILE"),
        (["score", "a", "-o", "b", "--model", "q=a", "--model", "q=b"], "'q' is given twice"),
        (["score", "a", "-o", "b", "--generator", "x", "--generator-column", "2"], "exclude each other"),
        (["score", "a", "-o", "b", "--no-models", "--prior", "0.5"], "--no-models excludes"),
        (["score", "a", "-o", "b", "--no-models", "--model", "q=a"], "--no-models excludes"),
        (["score", "a", "-o", "-", "--json"], "--json and -o - both want stdout"),
        (["rank", "a", "-o", "b", "--memory", "1"], "'1' is no size"),
        (["rank", "a", "-o", "b", "--order", "best"], "'best' is not one of"),
        (["rank", "a", "-o", "b", "--share", "human=0"], "share above 0"),
        (["rank", "a", "-o", "b", "--share", "human=0.5"], "--share needs --order mixed"),
        (["rank", "a", "-o", "b", "--order", "mixed", "--share", "h=1", "--share", "h=2"], "'h' is given twice"),
        (["explain"], "give --source and --target, or a SCORED file"),
        (["explain", "--source", "a"], "give --source and --target"),
        (["explain", "--source", "a", "--target", "b", "--row", "1"], "--row and --origin need a SCORED file"),
        (["explain", "a.parquet"], "say which pair of SCORED"),
        (["explain", "a.parquet", "--row", "0"], "0 is not in the range"),
        (["explain", "a.parquet", "--row", "1", "--source", "a"], "a SCORED file excludes"),
        (["completion", "tcsh"], "'tcsh' is not one of"),
    ],
)
def test_wrong_usage_is_exit_2_with_the_usage_and_a_hint(arguments: list[str], message: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: filter-cli ")
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert message in result.stderr
    assert result.stdout == ""


def test_defaults_are_the_engines_own(engine: Engine) -> None:
    assert run("score", "a.tsv", "b.tsv", "-o", "out.parquet").exit_code == 0
    assert list(engine.inputs) == ["a.tsv", "b.tsv"]
    assert engine.output == "out.parquet"
    assert engine.options == ScoreOptions()


def test_every_option_reaches_the_engine(engine: Engine) -> None:
    words = (
        "score in.csv -o out.tsv --format csv --header yes --source-lang en --target-lang it --source-column 2 "
        "--target-column titolo --document-column url --generator-column g --keep-column a --keep-column b "
        "--profile p.yaml --disable empty --disable html --model quality=q.onnx --device cpu --prior 0.2 --workers 3 "
        "--chunk-rows 77 --limit 9 --rejects r.jsonl --restart --max-line-bytes 2KiB"
    )
    assert run(*words.split()).exit_code == 0
    options = engine.options
    assert dataclasses.asdict(options) == dataclasses.asdict(
        ScoreOptions(
            read=dataclasses.replace(
                options.read,
                format="csv",
                header="yes",
                source_lang="en",
                target_lang="it",
                source_column="2",
                target_column="titolo",
                document_column="url",
                generator_column="g",
                keep_columns=("a", "b"),
                chunk_rows=77,
                max_line_bytes=2048,
            ),
            profile="p.yaml",
            disable=("empty", "html"),
            models=(("quality", "q.onnx"),),
            device="cpu",
            prior=0.2,
            workers=3,
            limit=9,
            rejects="r.jsonl",
            restart=True,
        )
    )


def test_no_models_reaches_the_engine(engine: Engine) -> None:
    assert run("score", "a", "-o", "b", "--no-models", "--generator", "human").exit_code == 0
    assert engine.options.use_models is False
    assert engine.options.read.generator == "human"


def test_the_summary_and_the_closing_line_go_to_stderr(engine: Engine) -> None:
    result = run("score", "a.tsv", "-o", "out.parquet")
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "rows read                            1,000  100.0%",
        "  kept                                 900   90.0%",
        "  dropped, by the first rule failed     90    9.0%",
        "    length_ratio                        60    6.0%",
        "    empty                               30    3.0%",
        "  rejected                              10    1.0%",
        "    invalid_utf8                        10    1.0%",
        "rejects: out.parquet.rejects.jsonl",
        "scored 990 pairs in 2.0 s (500 pairs/s, cpu) -> out.parquet",
    ]


def test_warnings_are_shown(engine: Engine) -> None:
    engine.result = dataclasses.replace(RESULT, warnings=("3 tabs became spaces",))
    assert "warning: 3 tabs became spaces\n" in run("score", "a", "-o", "b.tsv").stderr


def test_a_resumed_run_counts_only_its_own_speed(engine: Engine) -> None:
    engine.result = dataclasses.replace(RESULT, resumed_rows=800)
    line = run("score", "a", "-o", "b").stderr.splitlines()[-1]
    assert line == "scored 990 pairs (800 of them by an earlier run) in 2.0 s (100 pairs/s, cpu) -> out.parquet"


def test_a_finished_run_says_so(engine: Engine) -> None:
    engine.result = dataclasses.replace(RESULT, already_done=True)
    result = run("score", "a", "-o", "b")
    assert result.exit_code == 0
    assert result.stderr == ("out.parquet is finished and would be the same: nothing to do (--restart makes it anew)\n")


def test_json_is_one_object_on_stdout(engine: Engine) -> None:
    result = run("score", "a", "-o", "b", "--json")
    value = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert value["rows_in"] == value["kept"] + value["dropped"] + value["rejected"] == 1000
    assert value["by_reason"] == {"empty": 30, "length_ratio": 60}
    assert value["pairs_per_second"] == 500.0
    assert result.stderr == "scored 990 pairs in 2.0 s (500 pairs/s, cpu) -> out.parquet\n"


@pytest.mark.parametrize(("rejected", "flags", "code"), [(10, ["--strict"], 3), (10, [], 0), (0, ["--strict"], 0)])
def test_strict_tells_of_rejects_by_exit_3(engine: Engine, rejected: int, flags: list[str], code: int) -> None:
    engine.result = dataclasses.replace(RESULT, rejected=rejected)
    result = run("score", "a", "-o", "b", "--json", *flags)
    assert result.exit_code == code
    assert json.loads(result.stdout)["rejected"] == rejected


def test_strict_holds_for_a_run_that_was_finished_before(engine: Engine) -> None:
    engine.result = dataclasses.replace(RESULT, already_done=True)
    assert run("score", "a", "-o", "b", "--strict").exit_code == 3


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (["a", "-o", "b"], "interrupted: what is done is kept; give the same command again to go on\n"),
        (["-", "-o", "b"], "interrupted: stdin cannot be resumed: run it again from the start\n"),
        (["a", "-o", "-"], "interrupted: output to stdout is not complete: run it again from the start\n"),
    ],
)
def test_an_interruption_says_what_is_kept(engine: Engine, arguments: list[str], note: str) -> None:
    engine.error = KeyboardInterrupt()
    result = run("score", *arguments)
    assert result.exit_code == 130
    assert result.stderr == note


def test_an_engine_error_is_one_line(engine: Engine) -> None:
    engine.error = InputError("a.csv: column 5 asked, the file has 3: title, en, it")
    result = run("score", "a.csv", "-o", "b", "--source-column", "5")
    assert result.exit_code == 1
    assert result.stderr == "error: a.csv: column 5 asked, the file has 3: title, en, it\n"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str) -> None:
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_FILTER_CLI_COMPLETE={shell}_complete" in result.stdout


def complete(*words: str) -> list[str]:
    """Return what bash would offer for the last of `words`."""
    environment: dict[str, Any] = {
        "_FILTER_CLI_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(("filter-cli", *words)),
        "COMP_CWORD": str(len(words)),
    }
    output = CliRunner().invoke(cli, [], prog_name="filter-cli", env=environment).stdout
    return [line.split(",", 1)[1] for line in output.splitlines()]


def test_completion_knows_commands_options_and_values() -> None:
    assert complete("sc") == ["score"]
    assert complete("score", "--source-c") == ["--source-column"]
    assert complete("rank", "--order", "m") == ["mixed"]
