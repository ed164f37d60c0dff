"""What a run needs before its first update: data, vocabulary, model, precision, and the checkpoint it goes on from."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bisift.errors import ConfigError, ModelError
from bisift.manifest import write_json
from bisift.trainer.batches import Batches, Position
from bisift.trainer.checkpoint import Checkpoint, Folder, check_fit
from bisift.trainer.config import TrainConfig
from bisift.trainer.distributed import Group
from bisift.trainer.loader import Sources, cache_folder, make_view, tag_edges
from bisift.trainer.marks import F32
from bisift.trainer.model import Transformer
from bisift.trainer.precision import Precision, choose
from bisift.trainer.shards import Ranking
from bisift.trainer.tokens import Tokens
from bisift.trainer.vocabulary import Vocabulary, vocabulary_of

CONFIG_NAME = "config.json"


@dataclass(frozen=True)
class Prepared:
    """All that a trainer is made of. `lines` are what to tell a person first."""

    vocabulary: Vocabulary
    model: Transformer
    batches: Batches
    sources: Sources
    precision: Precision
    checkpoint: Checkpoint | None
    lines: tuple[str, ...]


def prepare(config: TrainConfig, where: Group, *, restart: bool) -> Prepared:
    """Get everything ready; rank 0 does what is done once, the others wait for it.

    Raises:
        ConfigError: `output` holds another run, or a value does not fit the data.
        InputError, ContractError, ModelError: data or a checkpoint cannot be used.
    """
    output = Path(config.output)
    folder = Folder(output, config.keep)
    if where.leads:
        folder.tidy()
        if restart:
            folder.clear()
    where.agree(None)
    latest = where.agree(folder.latest())
    checkpoint = Checkpoint.load(latest) if latest is not None else None
    if checkpoint is not None and checkpoint.state.get("identity") != config.identity:
        raise ConfigError(
            f"{config.output}: holds a run of another configuration; give another output, or --restart to replace it"
        )
    sources = _sources(config, checkpoint, where)
    initial = Checkpoint.load(config.init_from) if config.init_from and checkpoint is None else None
    vocabulary = _vocabulary(config, sources, checkpoint or initial, where)
    model = Transformer(config.model, len(vocabulary))
    model.initialise(config.seed)
    if initial is not None:
        check_fit(model, initial.weights, str(config.init_from))
        model.load_state_dict(initial.weights)
    precision = where.agree(choose(config.precision, where.device))
    if checkpoint is not None and config.precision == "auto" and checkpoint.state["precision"] != precision.name:
        precision = replace(precision, name=checkpoint.state["precision"], reason="as the run began")
    edges = where.agree(tag_edges(Ranking.open(sources.folders), config.tags) if where.leads else None)
    batches = make_batches(config, sources, vocabulary, edges)
    if checkpoint is not None and checkpoint.state["ranking"] != batches.tokens.ranking.digest:
        raise ConfigError(
            f"{config.data}: its pairs are not those that the run in {config.output} began with: give that ranking, "
            "another output, or --restart"
        )
    if where.leads:
        write_json(output / CONFIG_NAME, config.to_json())
    parameters = sum(parameter.numel() for parameter in model.parameters())
    lines = [
        f"{batches.view.rows:,} pairs, order {batches.tokens.ranking.order}; {config.curriculum.name} "
        f"({config.curriculum.paper}); {parameters:,} parameters, {len(vocabulary):,} pieces",
        f"{where.device.type}, ranks: {where.ranks}, precision {precision.name}: {precision.reason}",
    ]
    if checkpoint is not None:
        lines.append(f"goes on after update {checkpoint.state['update']:,} ({latest})")
    return Prepared(vocabulary, model, batches, sources, precision, checkpoint, tuple(lines))


def make_batches(config: TrainConfig, sources: Sources, vocabulary: Vocabulary, edges: F32 | None) -> Batches:
    """The stream of updates over some folders."""
    ranking = Ranking.open(sources.folders)
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
    return where.agree(Sources.of(config.data, follow=config.follow) if where.leads else Sources((), Position()))


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
    proto = b""
    if where.leads:
        proto = vocabulary_of(Ranking.open(sources.folders), config.vocabulary, seed=config.seed).proto
    return Vocabulary(where.agree(proto))


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
