"""Benchmark of the trainer: target tokens and segments per CPU-second, against JoeyNMT with the same model and data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from bench.data import SOURCE_LANG, TARGET_LANG, write_tsv
from bench.measure import BenchmarkError, Run, run
from bench.peers import JOEYNMT
from bench.results import ROOT, Figure, Target
from bench.workspace import Workspace

MULTI30K = ROOT.parent / "shared" / "data" / "corpora" / "multi30k-train.parquet"
BATCH_TOKENS = 4_096
JOEYNMT_BATCH = 8_192
"""JoeyNMT counts the longer side with its padding: this gives it about as many target tokens an update."""

SHORT, LONG = 4, 16
"""Updates of the two runs of which the difference counts, so that starting is in neither figure."""

SEGMENTS = {"bisift": (200, 1_000), "JoeyNMT": (20, 140)}
"""Segments of the two translations of which the difference counts: the faster one needs more to be measured well."""

PIECES = 16
"""Every hypothesis is this long at most: the models are hardly trained and would not end by themselves."""

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}

# The trained checkpoint as JoeyNMT has it: its vocabulary begins with four pieces of its own, and projects apart.
CONVERT = """
import sys, torch
from pathlib import Path
from bisift.trainer.checkpoint import Checkpoint
from bisift.trainer.model import sinusoids
from bisift.trainer.vocabulary import Vocabulary
held, folder = Checkpoint.load(sys.argv[1]), Path(sys.argv[2])
pieces = Vocabulary(held.vocabulary).pieces()
first = ["<unk>", "<pad>", "<s>", "</s>"]
order = first + [piece for piece in pieces if piece not in first]
(folder / "joey.vocab").write_text("".join(piece + "\\n" for piece in order), encoding="utf-8")
(folder / "joey.spm").write_bytes(held.vocabulary)
weights, state = held.weights, {}
embedding = weights["embedding.weight"][[pieces.index(piece) for piece in order]]
for name in ("src_embed.lut", "trg_embed.lut", "decoder.output_layer"):
    state[name + ".weight"] = embedding
width = embedding.shape[1]
for side in ("encoder", "decoder"):
    state[side + ".pe.pe"] = sinusoids(0, 5000, width, torch.device("cpu"))[None, :5000].clone()
def copy(target, source, rows=slice(None)):
    for kind in ("weight", "bias"):
        state[f"{target}.{kind}"] = weights[f"{source}.{kind}"][rows]
def attention(target, source, parts):
    for name, (weight, number) in parts.items():
        copy(f"{target}.{name}_layer", f"{source}.{weight}", slice(number * width, (number + 1) * width))
    copy(f"{target}.output_layer", f"{source}.out")
own = {name: ("query_key_value", number) for number, name in enumerate("qkv")}
for side, name in (("encoder", "src_src_att"), ("decoder", "trg_trg_att")):
    copy(f"{side}.layer_norm", f"norm_{side}")
    for layer in range(3):
        theirs, ours = f"{side}.layers.{layer}", f"{side}.{layer}"
        attention(f"{theirs}.{name}", f"{ours}.attention", own)
        copy(f"{theirs}.feed_forward.layer_norm", f"{ours}.norm_feed")
        copy(f"{theirs}.feed_forward.pwff_layer.0", f"{ours}.feed.up")
        copy(f"{theirs}.feed_forward.pwff_layer.3", f"{ours}.feed.down")
        copy(f"{theirs}.{'x_' * (side == 'decoder')}layer_norm", f"{ours}.norm_attention")
        if side == "decoder":
            parts = {"q": ("query", 0), "k": ("key_value", 0), "v": ("key_value", 1)}
            attention(f"{theirs}.src_trg_att", f"{ours}.cross", parts)
            copy(f"{theirs}.dec_layer_norm", f"{ours}.norm_cross")
torch.save({"model_state": state}, folder / "joey.ckpt")
"""
TRANSLATE = f"""
import sys, torch
from bisift.trainer.checkpoint import Checkpoint
from bisift.trainer.decoding import DecodeConfig, Translator
from bisift.trainer.vocabulary import Vocabulary
held = Checkpoint.load(sys.argv[1])
lines = open(sys.argv[2], encoding="utf-8").read().splitlines()
config = DecodeConfig(beam=5, max_ratio=0.0, max_extra={PIECES})
print("\\n".join(Translator(held.model(), Vocabulary(held.vocabulary)).translate(lines, config)))
"""
# What JoeyNMT counted itself, from the checkpoint that it wrote last.
COUNT = """
import sys, torch
print(torch.load(sys.argv[1], map_location="cpu", weights_only=False)["stats_state"]["total_tokens"])
"""


def training(space: Workspace) -> list[Figure]:
    """Train and translate with one thread, in fp32 and, where the machine has it, in bf16; JoeyNMT in fp32."""
    pairs = _pairs(space)
    _rank(space, pairs)
    python = JOEYNMT.bin() / "python"
    ours = {precision: _ours(space, precision) for precision in ("fp32", "bf16")}
    checkpoint = space.folder / "fp32" / "checkpoints" / f"update-{LONG:08d}.pt"
    space.script(CONVERT, checkpoint, space.folder)
    for side, name in enumerate(("src", "trg")):
        (space.folder / f"joey.{name}").write_text("".join(f"{pair[side]}\n" for pair in pairs), encoding="utf-8")
    peer_rate, peer_runs = _joeynmt(space, python)
    figures = []
    for precision, bound in (("fp32", 3.0), ("bf16", 5.0)):
        rate, runs = ours[precision]
        note = ""
        if precision == "bf16" and not _has_bf16():
            figures.append(_times("bf16", None, bound, "this CPU has neither AMX nor AVX512-BF16", {}))
            continue
        measured = {"bisift": runs, "JoeyNMT": peer_runs}
        note = f"{rate:,.0f} against {peer_rate:,.0f} target tokens per CPU-second, one thread, small (3+3 layers, 256)"
        figures.append(_times(precision, rate / peer_rate, bound, note, measured))
    return [*figures, _decoding(space, checkpoint, python, pairs)]


def _times(precision: str, value: float | None, bound: float, note: str, runs: dict[str, Run]) -> Figure:
    return Figure(
        name=f"training in {precision}, times {JOEYNMT.title} in fp32",
        unit="×",
        value=value,
        target=Target(bound=bound, kind="at_least"),
        note=note,
        measured={name: one.measured for name, one in runs.items()},
    )


def _pairs(space: Workspace) -> list[tuple[str, str]]:
    """Multi30k where the development data lies beside the checkout, else the other benchmarks' text."""
    if not MULTI30K.exists():
        return space.sample.pairs
    table = pq.read_table(MULTI30K, columns=["en", "de"])
    sides = ([" ".join(text.split()) for text in table.column(name).to_pylist()] for name in ("en", "de"))
    return list(zip(*sides, strict=True))


def _rank(space: Workspace, pairs: list[tuple[str, str]]) -> None:
    tsv, scored = space.folder / "training.tsv", space.folder / "training.parquet"
    write_tsv(tsv, pairs)
    languages = ("--source-lang", SOURCE_LANG, "--target-lang", TARGET_LANG)
    run([space.cli, "score", tsv, *languages, "--no-models", "--restart", "-o", scored])
    run([space.cli, "rank", scored, "--order", "random", "--keep-dropped", "-o", space.folder / "ranked"])


def _ours(space: Workspace, precision: str) -> tuple[float, Run]:
    """Target tokens per CPU-second, and the longer run."""
    if precision == "bf16" and not _has_bf16():
        return 0.0, run([sys.executable, "-c", ""])
    config = space.folder / "training.yaml"
    config.write_text(json.dumps({"model": {"size": "small", "dropout": 0.1}, "vocabulary": {"size": 8000}}))

    def train(updates: int) -> Run:
        places = (f"data={space.folder / 'ranked'}", f"output={space.folder / precision}", f"updates={updates}")
        settings = (
            f"batch_tokens={BATCH_TOKENS}",
            f"precision={precision}",
            "threads=1",
            "log_every=1",
            "save_every=100",
        )
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "bisift.trainer",
            "train",
            config,
            *places,
            *settings,
            "device=cpu",
        ]
        return run([*command, "--restart"], env=ONE_THREAD)

    train(1)  # encodes the text once, as JoeyNMT does while it loads
    short = train(SHORT)
    long = train(LONG)
    events = [json.loads(line) for line in (space.folder / precision / "log.jsonl").read_text().splitlines()]
    tokens = events[LONG - 1]["tokens"] - events[SHORT - 1]["tokens"]
    return tokens / (long.measured.cpu_s - short.measured.cpu_s), long


def _joeynmt(space: Workspace, python: Path) -> tuple[float, Run]:
    done: dict[int, tuple[Run, int]] = {}
    for updates in (SHORT, LONG):
        config = space.folder / f"joey-{updates}.yaml"
        config.write_text(json.dumps(_joeynmt_config(space, updates)))
        measured = run([python, "-m", "joeynmt", "train", config, "--skip-test"], env=ONE_THREAD)
        counted = space.script(COUNT, space.folder / f"joey-{updates}" / f"{updates}.ckpt")
        done[updates] = measured, int(counted.stdout)
    (short, before), (long, after) = done[SHORT], done[LONG]
    return (after - before) / (long.measured.cpu_s - short.measured.cpu_s), long


def _joeynmt_config(space: Workspace, updates: int) -> dict[str, Any]:
    side = {
        "max_length": 256,
        "lowercase": False,
        "level": "bpe",
        "voc_file": str(space.folder / "joey.vocab"),
        "tokenizer_type": "sentencepiece",
        "tokenizer_cfg": {"model_file": str(space.folder / "joey.spm")},
    }
    stack = {
        "type": "transformer",
        "num_layers": 3,
        "num_heads": 4,
        "embeddings": {"embedding_dim": 256, "scale": True, "dropout": 0.0},
        "hidden_size": 256,
        "ff_size": 1024,
        "dropout": 0.1,
        "layer_norm": "pre",
    }
    return {
        "name": "benchmark",
        "joeynmt_version": "2.3.0",
        "model_dir": str(space.folder / f"joey-{updates}"),
        "use_cuda": False,
        "random_seed": 1,
        "data": {
            "train": str(space.folder / "joey"),
            "dev": str(space.folder / "joey"),
            "dataset_type": "plain",
            "src": side | {"lang": "src"},
            "trg": side | {"lang": "trg"},
        },
        "testing": {
            "load_model": str(space.folder / "joey.ckpt"),
            "beam_size": 5,
            "beam_alpha": 1.0,
            "batch_size": 64,
            "batch_type": "sentence",
            "max_output_length": PIECES,
        },
        "training": {
            "load_model": str(space.folder / "joey.ckpt"),
            "optimizer": "adamw",
            "adam_betas": [0.9, 0.98],
            "normalization": "tokens",
            "learning_rate": 0.001,
            "scheduling": "warmupinversesquareroot",
            "learning_rate_warmup": 100,
            "batch_size": JOEYNMT_BATCH,
            "batch_type": "token",
            "label_smoothing": 0.1,
            "clip_grad_norm": 1.0,
            "updates": updates,
            "epochs": 9,
            "validation_freq": 1_000_000,
            "logging_freq": 1_000,
            "reset_optimizer": True,
            "reset_scheduler": True,
            "reset_best_ckpt": True,
            "reset_iter_state": True,
        },
        "model": {
            "initializer": "xavier_uniform",
            "tied_embeddings": True,
            "tied_softmax": True,
            "encoder": stack,
            "decoder": stack,
        },
    }


def _decoding(space: Workspace, checkpoint: Path, python: Path, pairs: list[tuple[str, str]]) -> Figure:
    """Beam 5 with the very same weights and a bound on length; both write nearly the same."""
    config = space.folder / f"joey-{SHORT}.yaml"
    rates: dict[str, float] = {}
    outputs: dict[str, list[str]] = {}
    runs: dict[str, Run] = {}
    for name, counts in SEGMENTS.items():
        cost = []
        for count in counts:
            source = space.folder / f"source-{count}"
            source.write_text("".join(f"{pair[0]}\n" for pair in pairs[:count]), encoding="utf-8")
            ours: list[str | Path] = [sys.executable, "-c", TRANSLATE, checkpoint, source]
            theirs: list[str | Path] = ["sh", "-c", f"exec {python} -m joeynmt translate {config} < $0", source]
            runs[name] = run(ours if name == "bisift" else theirs, env=ONE_THREAD)
            cost.append(runs[name].measured.cpu_s)
        outputs[name] = runs[name].stdout.splitlines()[-counts[1] :]
        rates[name] = (counts[1] - counts[0]) / (cost[1] - cost[0])
    few = SEGMENTS["JoeyNMT"][1]
    if len(outputs["JoeyNMT"]) != few:
        raise BenchmarkError(f"{JOEYNMT.title} translated {len(outputs['JoeyNMT'])} of {few} segments")
    same = sum(one == other for one, other in zip(outputs["bisift"][:few], outputs["JoeyNMT"], strict=True)) / few
    return Figure(
        name=f"beam-5 decoding, times {JOEYNMT.title}",
        unit="×",
        value=rates["bisift"] / rates["JoeyNMT"],
        target=Target(bound=4, kind="at_least"),
        note=f"{rates['bisift']:.1f} against {rates['JoeyNMT']:.1f} segments per CPU-second, one thread, same weights, "
        f"at most {PIECES} pieces; {same:.0%} of the translations are equal",
        measured={name: one.measured for name, one in runs.items()},
    )


def _has_bf16() -> bool:
    words = Path("/proc/cpuinfo").read_text()
    return "amx_bf16" in words or "avx512_bf16" in words
