"""Train the recipe of Multi30k from English with several seeds, and report BLEU on test2016: the mean and the spread.

    python benchmarks/multi30k.py --work runs/multi30k                   German, seeds 1, 2 and 3, one after the other
    python benchmarks/multi30k.py --work runs/multi30k --jobs 2 --language fr

Needs the corpus (multi30k-{train,val,test_2016_flickr}.parquet with a column a language) in --corpora. A run that was
stopped goes on where it was. Appends one JSON line, with the curves, to benchmarks/results/multi30k.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import pyarrow.parquet as pq
import sacrebleu
from bench.measure import BenchmarkError, run
from bench.results import RESULTS, ROOT, Figure, Target, append, record
from bench.training import ONE_THREAD
from sacremoses import MosesPunctNormalizer, MosesTokenizer

BIN = Path(sys.executable).parent
SPLITS = {"val": "val", "test2016": "test_2016_flickr"}
DAY = 86_400.0
# The export, driven as its users drive it: pieces of the vocabulary beside it in, pieces out.
CTRANSLATE2 = """
import sys, ctranslate2, sentencepiece
folder, lines = sys.argv[1], open(sys.argv[2], encoding="utf-8").read().splitlines()
pieces = sentencepiece.SentencePieceProcessor(model_file=f"{folder}/vocabulary.model")
translator = ctranslate2.Translator(folder, intra_threads=1)
found = translator.translate_batch(pieces.encode(lines, out_type=str), beam_size=5, max_batch_size=64)
print("\\n".join(pieces.decode(one.hypotheses[0]) for one in found))
"""


@dataclass(frozen=True, slots=True)
class Seed:
    """What one run gave."""

    seed: int
    tokens: int
    validation: float
    test: dict[str, Any]
    lowercased: float
    exported: dict[str, float]
    rates: dict[str, float]
    curve: list[tuple[int, float, float]]


def cli(name: str) -> Path:
    return BIN / f"{name}-cli"


def prepare(corpora: Path, work: Path, language: str) -> None:
    """Write the splits as text, and rank the training pairs at random."""
    work.mkdir(parents=True, exist_ok=True)
    for split, name in SPLITS.items():
        table = pq.read_table(corpora / f"multi30k-{name}.parquet", columns=["en", language])
        for side in ("en", language):
            lines = [text.replace("\n", " ") + "\n" for text in table.column(side).to_pylist()]
            (work / f"{split}.{side}").write_text("".join(lines), encoding="utf-8")
    scored = work / "scored.parquet"
    columns = ("--source-column", "en", "--target-column", language, "--source-lang", "en", "--target-lang", language)
    run([cli("filter"), "score", corpora / "multi30k-train.parquet", *columns, "--no-models", "-o", scored])
    if not (work / "ranked").exists():
        run([cli("filter"), "rank", scored, "--order", "random", "--keep-dropped", "-o", work / "ranked"])


def train(work: Path, language: str, seed: int) -> Seed:
    """Train one seed and evaluate its best checkpoint, decoding as `trainer-cli evaluate` does by default: beam 5."""
    output = work / f"seed-{seed}"
    recipe = ROOT / "trainer" / "recipes" / f"multi30k-en-{language}.yaml"
    places = {
        "data": work / "ranked",
        "output": output,
        "seed": seed,
        "threads": 1,
        "validation.source": work / "val.en",
        "validation.reference": work / f"val.{language}",
    }
    overrides = [f"{key}={value}" for key, value in places.items()]
    run([cli("trainer"), "train", recipe, *overrides], env=ONE_THREAD, timeout_s=DAY)
    return evaluate(work, language, seed)


def evaluate(work: Path, language: str, seed: int) -> Seed:
    """Score val and test2016, and test2016 as the exports translate it."""
    output = work / f"seed-{seed}"
    model = output / "checkpoints" / "best.pt"
    reference = work / f"test2016.{language}"
    systems = {split: output / f"{split}.{language}" for split in SPLITS}
    rates: dict[str, float] = {}
    for split, path in systems.items():
        one = run([cli("trainer"), "translate", model, "-i", work / f"{split}.en", "-o", path], env=ONE_THREAD)
        rates["torch"] = len(path.read_text(encoding="utf-8").splitlines()) / one.measured.cpu_s
    exported = {}
    for kind in ("float32", "int8"):
        folder = output / f"ctranslate2-{kind}"
        if not folder.exists():
            run([cli("trainer"), "export", model, "--to", "ctranslate2", "--quantization", kind, "-o", folder])
        one = run([sys.executable, "-c", CTRANSLATE2, folder, work / "test2016.en"], env=ONE_THREAD)
        (output / f"{kind}.{language}").write_text(one.stdout, encoding="utf-8")
        exported[kind] = score(output / f"{kind}.{language}", reference)["BLEU"]["score"]
        rates[kind] = 1000 / one.measured.cpu_s
    events = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return Seed(
        seed=seed,
        tokens=max(event["tokens"] for event in events if event["event"] == "train"),
        validation=score(systems["val"], work / f"val.{language}")["BLEU"]["score"],
        test=score(systems["test2016"], reference),
        lowercased=tokenised(systems["test2016"], reference, language),
        exported=exported,
        rates=rates,
        curve=curve(events),
    )


def score(hypotheses: Path, reference: Path) -> dict[str, Any]:
    """BLEU and chrF with their signatures, as `trainer-cli evaluate` prints them."""
    printed = run([cli("trainer"), "evaluate", "--system", f"it={hypotheses}", "--reference", reference, "--json"])
    return dict(json.loads(printed.stdout)["systems"]["it"])


def tokenised(hypotheses: Path, reference: Path, language: str) -> float:
    """BLEU of normalised, lower-cased text in Moses's tokens, which is what papers on Multi30k print.

    The reference of test2016 in German then has 12,103 tokens, as in the log of Wu et al. 2021 (arXiv 2105.14462).
    """
    normaliser, tokenizer = MosesPunctNormalizer(language), MosesTokenizer(language)

    def prepared(path: Path) -> list[str]:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [tokenizer.tokenize(normaliser.normalize(one).lower(), escape=False, return_str=True) for one in lines]

    found = sacrebleu.corpus_bleu(prepared(hypotheses), [prepared(reference)], tokenize="none", force=True)
    return float(found.score)


def curve(events: list[dict[str, Any]]) -> list[tuple[int, float, float]]:
    """Target tokens, training loss and validation BLEU (greedy) at each validation."""
    points = []
    tokens, loss = 0, float("nan")
    for event in events:
        if event["event"] == "train":
            tokens, loss = event["tokens"], event["loss"]
        elif event["event"] == "validation":
            points.append((tokens, round(loss, 3), round(event["bleu"], 2)))
    return points


def figures(seeds: Sequence[Seed], language: str) -> list[Figure]:
    """The mean over seeds of each figure; the note has each seed's value and their standard deviation."""

    def over(name: str, values: list[float], unit: str = "BLEU", target: Target | None = None, by: str = "") -> Figure:
        each = ", ".join(f"{value:,.2f}".removesuffix(".00") for value in values)
        spread = f"; standard deviation {stdev(values):.2f}" if len(values) > 1 else ""
        return Figure(name=name, unit=unit, value=mean(values), target=target, note=f"{each}{spread}{by}")

    where = f"en-{language}, test2016"
    signature = f"; {seeds[0].test['BLEU']['signature']}"
    goal = Target(bound=38, kind="at_least") if language == "de" else None
    return [
        over(f"{where}: sacreBLEU", [one.test["BLEU"]["score"] for one in seeds], target=goal, by=signature),
        over(f"{where}: chrF2", [one.test["chrF2"]["score"] for one in seeds], "chrF2"),
        over(f"{where}: tokenised, lower-cased BLEU", [one.lowercased for one in seeds]),
        over(f"en-{language}, val: sacreBLEU", [one.validation for one in seeds]),
        over("target tokens a run", [one.tokens for one in seeds], "", Target(bound=12e6, kind="at_most")),
        *(
            over(
                f"{where}: CTranslate2 {kind}, distance of its BLEU from torch's",
                [abs(one.exported[kind] - one.test["BLEU"]["score"]) for one in seeds],
                target=Target(bound=0.2, kind="at_most"),
            )
            for kind in ("float32", "int8")
        ),
        *(
            over(f"beam 5, {kind}, start included", [one.rates[kind] for one in seeds], "segments per CPU-second")
            for kind in ("torch", "float32", "int8")
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate, print and keep the figures."""
    parser = argparse.ArgumentParser(
        prog="benchmarks/multi30k.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    corpora = ROOT.parent / "shared" / "data" / "corpora"
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="text, runs and checkpoints; kept")
    parser.add_argument("--language", choices=("de", "fr", "cs"), default="de", help="target language (de)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], metavar="N", help="one run each (1 2 3)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at a time, a thread each (1)")
    parser.add_argument("--corpora", type=Path, default=corpora, metavar="DIR", help="where the corpus is")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="where the JSON line goes")
    options = parser.parse_args(arguments)
    load, work = os.getloadavg()[0], options.work / options.language
    try:
        prepare(options.corpora, work, options.language)
        with ThreadPoolExecutor(options.jobs) as pool:
            seeds = list(pool.map(lambda seed: train(work, options.language, seed), options.seeds))
    except (BenchmarkError, OSError) as error:
        print(f"multi30k could not run: {error}", file=sys.stderr)
        return 1
    found = figures(seeds, options.language)
    for figure in found:
        print(figure.line("multi30k"), flush=True)
    data = f"Multi30k en-{options.language}, 29,000 pairs"
    curves = {str(one.seed): one.curve for one in seeds}
    append(options.results, record("multi30k", found, data=data, load=load) | {"curves": curves})
    return 0


if __name__ == "__main__":
    sys.exit(main())
