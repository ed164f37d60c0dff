"""What a run needs before its first update: data, vocabulary, model, precision, and the checkpoint it goes on from."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bisift.errors import ConfigError, ModelError
from bisift.manifest import write_json
from bisift.trainer.batches import Batches, Position
from bisift.trainer.checkpoint import Checkpoint, Folder, check_fit, check_same
from bisift.trainer.config import TrainConfig
from bisift.trainer.distributed import Group
from bisift.trainer.evaluation import check_parallel, read_lines
from bisift.trainer.loader import Sources, cache_folder, check_ranks, check_scores, make_view, tag_edges
from bisift.trainer.marks import F32
from bisift.trainer.model import Transformer
from bisift.trainer.precision import Precision, choose
from bisift.trainer.shards import Ranking
from bisift.trainer.tokens import Tokens
from bisift.trainer.vocabulary import Vocabulary, vocabulary_of

CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class Prepared:
    """All that a trainer is made of. `validation` are sources and references; `lines` what to tell a person first."""

    vocabulary: Vocabulary
    model: Transformer
    batches: Batches
    sources: Sources
    precision: Precision
    checkpoint: Checkpoint | None
    validation: tuple[list[str], list[str]] | None
    lines: tuple[str, ...]


def prepare(config: TrainConfig, where: Group, *, restart: bool) -> Prepared:
    """Get everything ready; rank 0 does what is done once, the others wait for it.

    With `restart`, what stands in `output` is removed at the very end: nothing can be found wrong any more by then.

    Raises:
        ConfigError: `output` holds another run, or a value does not fit the data.
        InputError, ContractError, ModelError: data or a checkpoint cannot be used.
    """
    output = Path(config.output)
    folder = Folder(output, config.keep)
    check_ranks(config.micro_batches, where.ranks)
    validation = where.lead(lambda: _validation(config))
    latest = where.lead(lambda: None if restart else folder.tidied())
    checkpoint = _resumed(config, latest, folder) if latest is not None else None
    sources = _sources(config, checkpoint, where)
    initial = Checkpoint.load(config.init_from) if config.init_from and checkpoint is None else None
    vocabulary = _vocabulary(config, sources, checkpoint or initial, where)
    try:
        model = Transformer(config.model, len(vocabulary))
    except RuntimeError as error:  # torch has no class of its own for it
        raise ConfigError("model: memory is too small for it: lower model.width, inner or layers") from error
    model.initialise(config.seed)
    if initial is not None:
        check_same(config.model, initial.train_config.model, str(config.init_from))
        check_fit(model, initial.weights, str(config.init_from))
        model.load_state_dict(initial.weights)
    precision = where.agree(choose(config.precision, where.device))
    if checkpoint is not None and config.precision == "auto" and checkpoint.state["precision"] != precision.name:
        precision = replace(precision, name=checkpoint.state["precision"], reason="as the run began")
    edges = where.lead(lambda: _edges(config, sources, checkpoint))
    batches = make_batches(config, sources, vocabulary, edges)
    if checkpoint is not None and checkpoint.state["ranking"] != batches.tokens.ranking.digest:
        raise ConfigError(
            f"{config.data}: its pairs are not those that the run in {config.output} began with: give that ranking, "
            "another output, or --restart"
        )
    if where.leads:
        if restart:
            folder.clear()
        best = checkpoint.state["best"] if checkpoint is not None else None
        if checkpoint is not None and latest is not None and best and best[1] == _update(checkpoint):
            folder.mark_best(latest)  # a kill may have come before the copy
        write_json(output / CONFIG_NAME, config.to_json())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        f"{batches.view.rows:,} pairs, order {batches.tokens.ranking.order}; {config.curriculum.name} "
        f"({config.curriculum.paper}); {parameters:,} parameters, {len(vocabulary):,} pieces",
        f"{where.device.type}, ranks: {where.ranks}, precision {precision.name}: {precision.reason}",
    ]
    if checkpoint is not None:
        lines.append(f"goes on after update {_update(checkpoint):,} ({latest})")
    return Prepared(vocabulary, model, batches, sources, precision, checkpoint, validation, tuple(lines))


def _resumed(config: TrainConfig, latest: Path, folder: Folder) -> Checkpoint:
    """Load the checkpoint that a run goes on from.

    Raises:
        ConfigError: it is of another run.
        ModelError: it is damaged.
    """
    try:
        found = Checkpoint.load(latest)
    except ModelError as error:
        others = [path for path in folder.all() if path != latest]
        back = f"remove it to go on from {others[-1].name}" if others else "remove it to begin anew"
        raise ModelError(f"{error}: {back}") from error
    if found.state.get("identity") != config.identity:
        changed = ", ".join(config.differing(found.config))
        raise ConfigError(
            f"{config.output}: holds a run of another configuration ({changed or 'of another version'}); "
            "give another output, or --restart to replace it"
        )
    return found


def _update(checkpoint: Checkpoint) -> int:
    return int(checkpoint.state["update"])


def _validation(config: TrainConfig) -> tuple[list[str], list[str]] | None:
    chosen = config.validation
    if chosen is None:
        return None
    sources, references = read_lines(chosen.source), read_lines(chosen.reference)
    check_parallel(sources, references, (chosen.source, chosen.reference))
    return sources[: chosen.limit], references[: chosen.limit]


def _edges(config: TrainConfig, sources: Sources, checkpoint: Checkpoint | None) -> F32 | None:
    """The bins of quality as the run began with them, also after its stream has grown."""
    if checkpoint is not None and checkpoint.state.get("edges") is not None:
        return np.asarray(checkpoint.state["edges"], dtype=np.float32)
    return tag_edges(Ranking.open(sources.folders), config.tags)


def make_batches(config: TrainConfig, sources: Sources, vocabulary: Vocabulary, edges: F32 | None) -> Batches:
    """The stream of updates over some folders.

    Raises:
        ConfigError: a row lacks what the curriculum, tags or weights read.
    """
    ranking = Ranking.open(sources.folders)
    check_scores(ranking, config.tags, config.weights)
    merged = len(sources.folders) > 1
    return Batches(
        tokens=Tokens(ranking, vocabulary, cache_folder(Path(config.output), config.cache)),
        order=config.curriculum,
        view=make_view(ranking, config.curriculum, keep_human=config.keep_human, merged=merged),
        seed=config.seed,
        batch_tokens=config.batch_tokens,
        micro_batches=config.micro_batches,
        pool=config.pool,
        max_length=config.max_length,
        tags=config.tags,
        weights=config.weights,
        edges=edges,
    )


def _sources(config: TrainConfig, checkpoint: Checkpoint | None, where: Group) -> Sources:
    """The folders that the run reads: those of its checkpoint, so that it goes on with the same pairs."""
    if checkpoint is not None and config.follow:
        state = checkpoint.state
        return Sources(tuple(state["folders"]), Position(**state["start"]))
    return where.lead(lambda: Sources.of(config.data, follow=config.follow))


def _vocabulary(config: TrainConfig, sources: Sources, known: Checkpoint | None, where: Group) -> Vocabulary:
    """The checkpoint's vocabulary, or one trained from the shards."""
    if known is not None:
        vocabulary = Vocabulary(known.vocabulary)
        if len(vocabulary) != config.vocabulary.size:
            raise ModelError(
                f"the checkpoint's vocabulary has {len(vocabulary):,} pieces and vocabulary.size is "
                f"{config.vocabulary.size:,}: set vocabulary.size={len(vocabulary)}"
            )
        return vocabulary

    def trained() -> bytes:
        return vocabulary_of(Ranking.open(sources.folders), config.vocabulary, seed=config.seed).proto

    return Vocabulary(where.lead(trained))


@contextlib.contextmanager
def claimed(output: Path) -> Iterator[None]:
    """Keep a run's folder for one run at a time.

    Raises:
        ConfigError: another run works there.
    """
    output.mkdir(parents=True, exist_ok=True)
    with open(output / ".lock", "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ConfigError(f"{output}: another run is training there; wait for it or stop it") from error
        yield
