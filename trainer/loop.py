"""The training loop: updates from the loader, their gradients over all ranks, and everything that happens between."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bisift.errors import BisiftError
from bisift.manifest import value_digest
from bisift.trainer.batches import Batches, MicroBatch, Update
from bisift.trainer.checkpoint import Checkpoint, Folder
from bisift.trainer.config import TrainConfig
from bisift.trainer.decoding import DecodeConfig, Translator
from bisift.trainer.distributed import (
    Group,
    accumulating,
    group,
    load_optimizer,
    load_weights,
    optimizer_of,
    parallel,
    weights_of,
)
from bisift.trainer.evaluation import bleu
from bisift.trainer.loader import Sources, load
from bisift.trainer.logs import Logs, progress_line
from bisift.trainer.marks import best_tag
from bisift.trainer.model import Transformer
from bisift.trainer.optimizer import Average
from bisift.trainer.precision import Precision
from bisift.trainer.setup import Prepared, claimed, make_batches, prepare
from bisift.trainer.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a run ended. `stopped`: early, by BLEU. `best_bleu` is on the validation set.

    `loss` is that of the last line of the log (None: nothing was left to do).
    """

    output: str
    updates: int
    target_tokens: int
    skipped: int
    loss: float | None
    best_bleu: float | None
    best_update: int | None
    stopped: bool
    resumed_at: int
    seconds: float
    precision: str
    checkpoint: str


@dataclass
class _Meter:
    """Sums since the last log line."""

    values: Tensor
    tokens: int = 0
    real: int = 0
    padded: int = 0
    flops: float = 0.0
    updates: int = 0
    started: float = dataclasses.field(default_factory=time.perf_counter)


class Trainer:
    """One run in one process; the same in all that torchrun starts."""

    def __init__(self, config: TrainConfig, where: Group, prepared: Prepared, logs: Logs) -> None:
        self.config = config
        self.where = where
        self.logs = logs
        self.vocabulary: Vocabulary = prepared.vocabulary
        self.precision: Precision = prepared.precision
        self.sources: Sources = prepared.sources
        self.batches: Batches = prepared.batches
        self.folder = Folder(Path(config.output), config.keep)
        self.plain: Transformer = prepared.model.to(where.device)
        if where.device.type == "cuda" and config.compile is not False:
            for layer in (*self.plain.encoder, *self.plain.decoder):
                layer.compile(dynamic=True)
        self.model = parallel(self.plain, where, config.sharding)
        self.optimizer = config.optimizer.build(self.model)
        self.update = self.tokens = 0
        self.position = self.sources.start
        self.best: tuple[float, int] | None = None
        self.since_best = 0
        self.average: Average | None = None
        self._validation = prepared.validation
        self._validation_digest = value_digest({"validation": prepared.validation})
        if prepared.checkpoint is not None:
            self._restore(prepared.checkpoint)
        elif config.optimizer.ema:
            self.average = Average(self.plain.parameters(), config.optimizer.ema)

    def run(self) -> TrainResult:
        """Train to the end.

        Raises:
            BisiftError: the loss is no number, memory or disk is full, or an input is bad.
        """
        started, resumed_at, loss = time.perf_counter(), self.update, None
        stopped = self._is_over()
        updates = self._updates()
        recent: deque[tuple[int, tuple[MicroBatch, ...]]] = deque(maxlen=self.config.log_every)
        meter = self._meter()
        while self.update < self.config.updates and not stopped:
            one = next(updates)
            number = self.update + 1
            recent.append((number, one.batches))
            with _memory(number, one):
                norm = self._step(one, number, meter)
            self.update, self.position, self.tokens = number, one.after, self.tokens + one.tokens
            logged = self._due(number, self.config.log_every)
            saves = self._due(number, self.config.save_every)
            validates = self._due(number, self.config.validation.every if self.config.validation else 0)
            looks = self.where.device.type == "cpu" or logged or saves or validates
            if looks and not math.isfinite(norm.item()):
                raise self._not_a_number(number, recent)
            if logged:
                loss, meter = self._log(meter, norm), self._meter()
            paused = time.perf_counter()
            if saves and self.config.follow and self._grown():  # before saving: a run resumed here must know it
                updates = self._updates()
            if validates:
                stopped = self._validate()  # which saves, too
            elif saves:
                self.save()
            meter.started += time.perf_counter() - paused
            if stopped and not logged:
                loss = self._log(meter, norm)
        path = self.folder.latest()
        return TrainResult(
            output=self.config.output,
            updates=self.update,
            target_tokens=self.tokens,
            skipped=self.position.skipped,
            loss=loss,
            best_bleu=self.best[0] if self.best else None,
            best_update=self.best[1] if self.best else None,
            stopped=stopped,
            resumed_at=resumed_at,
            seconds=time.perf_counter() - started,
            precision=self.precision.name,
            checkpoint=str(path),
        )

    def _updates(self) -> Iterator[Update]:
        where = self.where
        return load(self.batches, self.position, rank=where.rank, ranks=where.ranks, workers=self.config.workers)

    def _step(self, one: Update, number: int, meter: _Meter) -> Tensor:
        """One update; return the gradient's norm, which is the same in all ranks."""
        device, ranks = self.where.device, self.where.ranks
        rate = self.config.optimizer.rate(number, self.config.updates)
        for part in self.optimizer.param_groups:
            part["lr"] = rate
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        for index, batch in enumerate(one.batches):
            self.plain.masks.begin(self.config.seed, number, index * ranks + self.where.rank, device)
            meter.flops += self.plain.flops(batch) * (2 if self.config.loss.rdrop else 1)
            batch = batch.to(device)
            with accumulating(self.model, last=index == len(one.batches) - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.precision.autocast):
                    loss, likelihood = self.model(batch, self.config.loss)
                # Ranks average their gradients: times their number it is the sum, over all ranks' tokens.
                (loss * (ranks / one.weight)).backward()
            meter.values[0] += loss.detach().double() / one.weight
            meter.values[1] += likelihood.detach().double() / one.tokens
        bound = self.config.optimizer.clip or math.inf
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), bound)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(number)
        meter.tokens, meter.updates = meter.tokens + one.tokens, meter.updates + 1
        meter.real, meter.padded = meter.real + one.real, meter.padded + one.padded
        whole = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        return whole.detach()

    def _meter(self) -> _Meter:
        return _Meter(torch.zeros(2, dtype=torch.float64, device=self.where.device))

    def _log(self, meter: _Meter, norm: Tensor) -> float:
        """Write one event of the updates since the last; return the loss a target token."""
        loss, likelihood = (self.where.sum(meter.values) / meter.updates).tolist()
        (flops,) = self.where.sum(torch.tensor([meter.flops], dtype=torch.float64, device=self.where.device)).tolist()
        seconds = time.perf_counter() - meter.started
        values = {
            "loss": loss,
            "nll": likelihood,
            "gradient_norm": norm.item(),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "tokens": self.tokens,
            "skipped": self.position.skipped,
            "epoch": self.position.drawn / self.batches.view.rows,
            "padding": 1 - meter.real / meter.padded,
            "tokens_per_second": meter.tokens / seconds,
            "mfu": flops / seconds / self.precision.peak / self.where.ranks,
            "seconds_per_update": seconds / meter.updates,
        }
        self.logs.write(self.update, event="train", **values)
        self.logs.say(progress_line({"update": self.update, **values}, self.config.updates))
        return float(loss)

    def _due(self, number: int, every: int) -> bool:
        return bool(every) and (number % every == 0 or number == self.config.updates)

    def _is_over(self) -> bool:
        patience = self.config.validation.patience if self.config.validation else 0
        return bool(patience) and self.since_best >= patience

    def _validate(self) -> bool:
        """Translate the validation set in rank 0, keep the best checkpoint, and say whether to stop."""
        assert self._validation is not None
        assert self.config.validation is not None
        weights = self._translating()
        score = 0.0
        if self.where.leads:
            model = Transformer(self.config.model, len(self.vocabulary)).to(self.where.device).eval()
            model.load_state_dict(weights)
            sources, references = self._validation
            translator = Translator(model, self.vocabulary, best_tag(self.config.tags))
            score = bleu(translator.translate(sources, DecodeConfig(beam=self.config.validation.beam)), references)
        score = self.where.agree(score)
        is_best = self.best is None or score > self.best[0]
        self.since_best = 0 if is_best else self.since_best + 1
        if is_best:
            self.best = (score, self.update)
        self.logs.write(self.update, event="validation", bleu=score)
        self.logs.say(f"update {self.update:>7,}  validation BLEU {score:.2f}{' (best)' if is_best else ''}")
        path = self.save(weights)
        if is_best and self.where.leads:
            self.folder.mark_best(path)
        return self._is_over()

    def _translating(self) -> dict[str, Tensor]:
        """The weights to translate with, whole: the moving average where there is one (a collective call)."""
        if self.average is None:
            return weights_of(self.model)
        self.average.swap()
        found = {name: tensor.clone() for name, tensor in weights_of(self.model).items()}
        self.average.swap()
        return found

    def save(self, weights: dict[str, Tensor] | None = None) -> Path:
        """Write a checkpoint of this update (a collective call); return its path.

        Raises:
            BisiftError: the disk refuses.
        """
        weights = self._translating() if weights is None else weights
        trained = weights_of(self.model) if self.average is not None else None
        optimizer = optimizer_of(self.model, self.optimizer)
        path = self.folder.path / f"update-{self.update:08d}.pt"
        failed: str | None = None
        if self.where.leads:
            made = Checkpoint(
                config=self.config.to_json(),
                vocabulary=self.vocabulary.proto,
                weights=weights,
                trained=trained,
                optimizer=optimizer,
                state=self._state(),
            )
            try:
                path = self.folder.save(made, self.update)
            except BisiftError as error:
                failed = str(error)
        if failed := self.where.agree(failed):  # a rank that failed alone would leave the others waiting
            raise BisiftError(failed)
        return path

    def _state(self) -> dict[str, Any]:
        return {
            "update": self.update,
            "tokens": self.tokens,
            "position": self.position.to_json(),
            "folders": list(self.sources.folders),
            "start": self.sources.start.to_json(),
            "best": list(self.best) if self.best else None,
            "since_best": self.since_best,
            "validation": self._validation_digest,
            "edges": None if self.batches.edges is None else self.batches.edges.tolist(),
            "precision": self.precision.name,
            "identity": self.config.identity,
            "ranking": self.batches.tokens.ranking.digest,
            "tag": best_tag(self.config.tags),
        }

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint of this run stopped."""
        assert checkpoint.optimizer is not None
        state = checkpoint.state
        if self.config.optimizer.ema:
            load_weights(self.model, checkpoint.weights)
            self.average = Average(self.plain.parameters(), self.config.optimizer.ema)
        load_weights(self.model, checkpoint.trained or checkpoint.weights)
        load_optimizer(self.model, self.optimizer, checkpoint.optimizer)
        self.update, self.tokens = state["update"], state["tokens"]
        self.position = dataclasses.replace(self.position, **state["position"])
        if state["best"] and state.get("validation") == self._validation_digest:  # else it says nothing
            self.best = (state["best"][0], state["best"][1])
            self.since_best = state["since_best"]

    def _grown(self) -> bool:
        """Whether a stream has published more since; if so, its rows are taken in from here on."""
        found = self.where.agree(Sources.of(self.config.data, follow=True).folders if self.where.leads else ())
        if found == self.sources.folders:
            return False
        # Draws begin anew over the larger set, in pools of other numbers than before.
        start = dataclasses.replace(self.position, pool=self.position.pool + 1, draw=0, batch=0, drawn=0)
        self.sources = Sources(found, start)
        self.position = start
        self.batches = self.reopen(self.sources)
        self.logs.say(f"update {self.update:>7,}  {len(found)} windows, {self.batches.view.rows:,} pairs")
        return True

    def reopen(self, sources: Sources) -> Batches:
        """The batches of other folders; everything else stays."""
        return make_batches(self.config, sources, self.vocabulary, self.batches.edges)

    def _not_a_number(self, number: int, recent: deque[tuple[int, tuple[MicroBatch, ...]]]) -> BisiftError:
        rows = [int(row) for at, batches in recent if at == number for one in batches for row in one.row_B[:3]]
        places = sorted(row for held in self.where.gather(rows) for row in held)
        shown = ", ".join(f"{row:,}" for row in places[:6])
        last = self.folder.latest()
        return BisiftError(
            f"the loss or its gradient is no number in update {number:,} (batch with the rows of rank {shown}, ...): "
            f"lower optimizer.learning_rate, raise optimizer.warmup or use precision=fp32; "
            + (f"the last checkpoint is {last}" if last else "there is no checkpoint yet")
        )


@contextlib.contextmanager
def _memory(number: int, one: Update) -> Iterator[None]:
    """Turn an allocation that fails into a line that says what to lower."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError | MemoryError) and "allocate memory" not in str(error):
            raise
        shapes = ", ".join(
            f"{len(batch.row_B)} pairs of up to {batch.source_BS.shape[1]} and {batch.target_BT.shape[1]} pieces"
            for batch in one.batches
        )
        raise BisiftError(
            f"out of memory in update {number:,} ({shapes}): raise micro_batches, or lower batch_tokens, max_length or "
            "the model's size"
        ) from error


def train(config: TrainConfig, *, restart: bool = False) -> TrainResult:
    """Train a model, or go on with a run that was stopped. Under torchrun all ranks call this.

    Raises:
        ConfigError: a value is wrong, or `output` holds another run.
        InputError, ContractError, ModelError: data or a checkpoint cannot be used.
        BisiftError: the loss is no number, or memory or disk is full.
    """
    config.check()
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with group(config.device) as where, contextlib.ExitStack() as alone:
        if where.leads:
            alone.enter_context(claimed(Path(config.output)))
        return _run(config, where, restart)  # what it holds must be gone before the group ends


def _run(config: TrainConfig, where: Group, restart: bool) -> TrainResult:
    prepared = prepare(config, where, restart=restart)
    update = prepared.checkpoint.state["update"] if prepared.checkpoint is not None else 0
    logs = Logs(Path(config.output), update=update, tensorboard=config.tensorboard, active=where.leads)
    try:
        trainer = Trainer(config, where, prepared, logs)
        for line in prepared.lines:
            logs.say(line)
        return trainer.run()
    finally:
        logs.close()
