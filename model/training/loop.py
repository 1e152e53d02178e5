"""The training loop: segments, optimiser steps, epochs, validation.

On a CUDA device one optimiser step, from dropout to AdamW, is one CUDA graph for each length of a segment.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from egret.model.checkpoint import load_checkpoint, save_checkpoint
from egret.model.errors import InputError, TrainingError
from egret.model.sequences import Sequences
from egret.model.tokens import Vocabulary
from egret.model.training.averaging import Average, copy_parameters
from egret.model.training.bar import Bar
from egret.model.training.distillation import teach
from egret.model.training.feeds import SequenceFeed, TextFeed, Validation, feeds
from egret.model.training.graphs import Graphs
from egret.model.training.network import LanguageModel
from egret.model.training.options import TrainingOptions, by_content
from egret.model.training.rounding import Rounding
from egret.model.training.schedule import QUANTUM, learning_rate_factor
from egret.model.training.state import (
    Position,
    carry_state,
    optimiser_tensors,
    put_tensors,
    random_tensors,
    read_state,
    refuse_damage,
    restore_optimiser,
    restore_random,
    write_state,
)

__all__ = ["Trainer", "TrainingResult"]

_VALIDATION_STEPS = 70  # at once


@dataclass
class TrainingResult:
    """Outcome of a run.

    Parameters
    ----------
    valid_loss : float
        Of the saved network, nats a token.
    activity : list of float
        Of the saved network on the validation text, one a layer.
    valid_accuracy : float or None
        Of the saved network, the share of classes that are right; None of a text.
    epochs : int
        Epochs done.
    seconds : float
        Wall time of all runs that led here.
    tokens_per_second : float
        Of the last epoch, training only.
    sparsity : float
        Share of recurrent-layer weights that are zero.
    history : list of dict
        One an epoch.
    """

    valid_loss: float
    activity: list[float]
    valid_accuracy: float | None
    epochs: int
    seconds: float
    tokens_per_second: float
    sparsity: float
    history: list[dict[str, Any]] = field(repr=False)

    def summary(self) -> dict[str, Any]:
        """The result without its history, with the perplexity; a dict for JSON."""
        content = asdict(self)
        del content["history"]
        return {**content, "valid_perplexity": _perplexity(self.valid_loss)}


def _perplexity(loss: float) -> float:
    return math.exp(loss) if loss < 709 else math.inf


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not available here; use 'auto' or 'cpu'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


class Trainer:
    """A model in training, with everything that a resumed run needs.

    Parameters
    ----------
    options : TrainingOptions
    model : LanguageModel
        Moved to the device and trained in place.
    vocabulary : Vocabulary
    train_ids, valid_ids : np.ndarray of int32, shape [N], or Sequences
        As the model takes.
    prune_at : dict of int to float, optional
        Epochs before which the weights of the recurrent layers are pruned to a sparsity, by falling magnitude over
        all of them; pruned weights stay zero. The network kept is the best one since the last pruning.
    prune : callable, optional
        What prunes a model to a sparsity, needed with `prune_at`.

    Attributes
    ----------
    position : Position
    average : Average or None
    taught : tuple of torch.Tensor
        What `egret.model.training.distillation.teach` returns; empty without teachers.

    Raises
    ------
    InputError
        If a text is too short, a teacher or the device cannot be used.
    """

    def __init__(
        self,
        options: TrainingOptions,
        model: LanguageModel,
        vocabulary: Vocabulary,
        train_ids: np.ndarray | Sequences,
        valid_ids: np.ndarray | Sequences,
        *,
        prune_at: Mapping[int, float] | None = None,
        prune: Callable[[LanguageModel, float], None] | None = None,
    ):
        self.options, self.vocabulary = options, vocabulary
        self.device = _device(options.machine.device)
        self.model = model.to(self.device)
        self.prune_at, self._prune = dict(prune_at or {}), prune
        loop = options.training
        fed, self._valid = feeds(train_ids, valid_ids, options, self.device)
        self._train = fed
        paths, words = options.distillation.teachers, options.distillation.teacher_words
        self.taught = (
            teach(paths, vocabulary, fed.streams, self.model, words) if paths and isinstance(fed, TextFeed) else ()
        )
        self._known = by_content(options.flat())
        torch.manual_seed(loop.seed)
        self._thresholds_learn = options.events.train_thresholds and options.network.cell == "egru"
        if self._thresholds_learn:
            for layer in self.model.layers:
                layer.threshold.requires_grad_()
        self._make_optimiser()
        rounding = options.rounding
        self.rounding = Rounding(self.model, vocabulary, **vars(rounding)) if rounding.weight_bits else None
        self.masks: list[torch.Tensor] | None = None
        horizon = loop.averaging * len(self._train) / self._train.mean_length
        self.average = Average(self._learned().items(), horizon) if loop.averaging else None
        self.state = self.model.zero_state(loop.batch)
        shape, self._readout_rows = model.configuration.readout, 0.0
        if shape is not None and not isinstance(train_ids, Sequences):
            counts = np.bincount(train_ids, minlength=vocabulary.size)
            self._readout_rows = shape.entries + shape.expected_size(counts[model.order()])
        self._event_weights = torch.zeros(model.configuration.layers, device=self.device)
        self._weigh_events()
        self._sums = torch.zeros(1 + len(options.network.hidden_sizes), dtype=torch.float32, device=self.device)
        self._graphs = Graphs(self.device)
        self.position = Position()
        self._best: dict[str, torch.Tensor] | None = None
        self._best_is_saved = True

    def _weigh_events(self) -> None:
        self._event_weights.copy_(torch.tensor(self.model.event_weights(self._readout_rows)))

    def _learned(self) -> dict[str, torch.Tensor]:
        """What the optimiser changes: the parameters, exact where the model holds rounded ones."""
        return {**dict(self.model.named_parameters()), **({} if self.rounding is None else self.rounding.exact)}

    def _make_optimiser(self) -> None:
        loop = self.options.training
        groups = {"weights": [], "biases": [], "thresholds": []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                kind = name.rsplit(".", 1)[1]
                groups["biases" if "bias" in kind else "thresholds" if kind == "threshold" else "weights"].append(
                    parameter
                )
        decay = {"weights": loop.weight_decay, "biases": loop.weight_decay_bias, "thresholds": 0.0}
        on_gpu = self.device.type == "cuda"
        # A graph reads the rate from a tensor.
        self._rate = torch.tensor(loop.learning_rate, dtype=torch.float32, device=self.device) if on_gpu else None
        self.optimiser = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay[kind]} for kind, group in groups.items() if group],
            lr=loop.learning_rate if self._rate is None else self._rate,
            betas=(loop.beta1, loop.beta2),
            fused=on_gpu,
            capturable=on_gpu,
        )
        self._parameters = [parameter for group in groups.values() for parameter in group]

    # One optimiser step

    def _losses(
        self, hidden: torch.Tensor, activity: torch.Tensor, targets: torch.Tensor, taught: tuple[torch.Tensor, ...]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of the predictions, and the same with all that is penalised."""
        events, loop = self.options.events, self.options.training
        loss = self.model.loss(hidden, targets, *taught, share=self.options.distillation.distillation_weight)
        total = loss + events.activity_weight * activity.mean() if events.activity_weight else loss
        if events.mac_weight:
            total = total + events.mac_weight * (activity * self._event_weights).sum()
        if loop.activation_regularisation:
            total = total + loop.activation_regularisation * hidden.float().square().mean()
        if loop.temporal_activation_regularisation and len(hidden) > 1:
            total = total + loop.temporal_activation_regularisation * hidden.float().diff(dim=0).square().mean()
        return loss, total

    def _compute(self, tokens: torch.Tensor, targets: torch.Tensor, *taught: torch.Tensor) -> None:
        """Everything of one optimiser step; on a GPU this is what a graph captures."""
        loop, model = self.options.training, self.model
        self.optimiser.zero_grad(set_to_none=True)
        hidden, state, activity = model(tokens, self.state)
        loss, total = self._losses(hidden, activity, targets, taught)
        total.backward()
        with torch.no_grad():
            if self.masks is not None:
                for weight, mask in zip(model.prunable_weights, self.masks, strict=True):
                    assert weight.grad is not None
                    weight.grad.mul_(mask)
            if loop.clip:
                torch.nn.utils.clip_grad_norm_(self._parameters, loop.clip, foreach=True)
            if self.rounding is not None:
                self.rounding.restore()
            self.optimiser.step()
            if self.masks is not None:
                for weight, mask in zip(model.prunable_weights, self.masks, strict=True):
                    weight.mul_(mask)
            if self._thresholds_learn:
                for layer in model.layers:
                    layer.threshold.clamp_(min=0)
            if loop.embedding_limit:
                model.embedding.weight.clamp_(-loop.embedding_limit, loop.embedding_limit)
            if self.rounding is not None:
                self.rounding.take()
            carry_state(self.state, state)
            self._sums.add_(torch.cat([loss.detach().view(1), activity.detach()]), alpha=len(tokens))

    def _train_segment(self, start: int, length: int) -> None:
        loop, position = self.options.training, self.position
        rate = loop.learning_rate * length / self._train.mean_length
        rate *= learning_rate_factor(position.epoch + start / len(self._train), loop)
        inputs = self._train.part(position.epoch, start, length)
        inputs += [part[start : start + length] for part in self.taught]
        if self._rate is None:
            for group in self.optimiser.param_groups:
                group["lr"] = rate
        else:
            self._rate.fill_(rate)
        if start == 0 or not self._train.carries:
            for part in (part for parts in self.state for part in parts):
                part.zero_()
        self._graphs.run_step(length, self._compute, inputs)
        position.summed += length
        position.step += 1
        if self.average is not None:
            self.average.update(position.step)

    # Evaluation

    @torch.no_grad()
    def evaluate(self, streams: torch.Tensor | SequenceFeed | None = None) -> Validation:
        """Loss and activity on a text, or on sequences; state zero at the start of each stream and carried.

        Parameters
        ----------
        streams : torch.Tensor of int64, shape [N, B], or SequenceFeed, optional
            What is validated on when not given.

        Returns
        -------
        Validation
        """
        streams = self._valid if streams is None else streams
        if isinstance(streams, SequenceFeed):
            return streams.evaluate(self.model)
        batch, most = streams.shape[1], min(_VALIDATION_STEPS, len(streams) - 1)
        state = self.model.zero_state(batch)
        sums = torch.zeros_like(self._sums)
        kept = [*(part for parts in state for part in parts), sums]

        def compute(tokens: torch.Tensor, targets: torch.Tensor, *kept: torch.Tensor) -> None:
            state = [(first, second) for first, second in zip(kept[:-1:2], kept[1:-1:2], strict=True)]
            hidden, after, activity = self.model(tokens, state)
            loss = self.model.loss(hidden, targets)
            kept[-1].add_(torch.cat([loss.view(1), activity]), alpha=len(tokens))
            carry_state(state, after)

        self.model.eval()
        try:
            for start in range(0, len(streams) - 1, most):
                stop = min(start + most, len(streams) - 1)
                inputs = streams[start:stop], streams[start + 1 : stop + 1]
                if (stop - start) % QUANTUM:
                    compute(*inputs, *kept)
                else:
                    self._graphs.run((batch, stop - start), compute, inputs, kept)
        finally:
            self.model.train()
        loss, *activity = (sums.double() / (len(streams) - 1)).tolist()
        return Validation(loss, activity)

    def evaluate_other(self, parameters: Mapping[str, torch.Tensor]) -> Validation:
        """As `evaluate`, with other parameters.

        Parameters
        ----------
        parameters : dict of str to torch.Tensor
            Named as the model's, which are the same again afterwards.

        Returns
        -------
        Validation
        """
        own = dict(self.model.named_parameters())
        kept = copy_parameters(own)
        try:
            if self.rounding is None:
                put_tensors(parameters, own)
            else:
                self.rounding.put(parameters)
            return self.evaluate()
        finally:
            put_tensors(kept, own)
            if self.rounding is not None:
                self.rounding.round()

    # The run

    def run(
        self,
        directory: str | Path | None = None,
        *,
        progress: bool = False,
        limit_seconds: float | None = None,
        on_epoch: Callable[[dict[str, Any]], None] | None = None,
    ) -> TrainingResult:
        """Train to the last epoch, or until time is up.

        Parameters
        ----------
        directory : str or Path, optional
            Where the best network and the training state are saved; nothing is saved without it.
        progress : bool
            Show a progress bar.
        limit_seconds : float, optional
            Save and return once this wall time has passed.
        on_epoch : callable, optional
            Called with each epoch's entry of the history.

        Returns
        -------
        TrainingResult

        Raises
        ------
        TrainingError
            If the training diverges.
        InputError
            If the directory cannot be written.
        """
        position, loop = self.position, self.options.training
        begin = saved = time.monotonic()
        earlier = position.seconds
        self.model.train()
        with Bar(progress, loop.epochs, position.epoch) as bar:
            while position.epoch < loop.epochs:
                if position.segment == 0:
                    self._begin_epoch()
                lengths = self._train.lengths(position.epoch)
                start = sum(lengths[: position.segment])
                epoch_begin, epoch_tokens, overhead = time.monotonic(), 0, 0.0
                while position.segment < len(lengths):
                    self._train_segment(start, lengths[position.segment])
                    start += lengths[position.segment]
                    epoch_tokens += lengths[position.segment] * loop.batch
                    position.segment += 1
                    now = time.monotonic()
                    if bar.due(now):
                        loss = self._mean_sums()[0]
                        now = time.monotonic()
                        speed = epoch_tokens / (now - epoch_begin - overhead)
                        bar.show(position.epoch + start / len(self._train), loss, speed, self._last_validation())
                    position.seconds = earlier + now - begin
                    if directory is not None and now - saved > self.options.machine.save_seconds:
                        self.save(directory)
                        saved = time.monotonic()
                        overhead += saved - now
                    if limit_seconds is not None and now - begin > limit_seconds:
                        if directory is not None:
                            self.save(directory)
                        return self.result()
                train_loss, *train_activity = self._mean_sums()
                position.tokens_per_second = epoch_tokens / (time.monotonic() - epoch_begin - overhead)
                self._end_epoch(train_loss, train_activity)
                position.seconds = position.history[-1]["seconds"] = earlier + time.monotonic() - begin
                if on_epoch is not None:
                    on_epoch(position.history[-1])
                bar.show(position.epoch, train_loss, position.tokens_per_second, self._last_validation())
        if directory is not None:
            self.save(directory)
        return self.result()

    def _begin_epoch(self) -> None:
        self._sums.zero_()
        position = self.position
        position.summed = 0
        if position.epoch in self.prune_at:
            assert self._prune is not None
            if self.rounding is not None:
                self.rounding.restore()
            self._prune(self.model, self.prune_at[position.epoch])
            self.use_zeros_as_masks()
            self._weigh_events()
            if self.rounding is not None:
                self.rounding.take()
                self.rounding.fit()
            position.best_loss = position.best_activity = position.best_accuracy = self._best = None
            if self.average is not None:
                self.average.restart()

    def use_zeros_as_masks(self) -> None:
        """Keep every recurrent-layer weight at zero that is zero now."""
        masks = [(weight != 0).to(weight.dtype) for weight in self.model.prunable_weights]
        if self.masks is None:
            self.masks = masks
            self._graphs.clear()  # they were captured without masks
        else:
            for mask, new in zip(self.masks, masks, strict=True):
                mask.copy_(new)

    def _mean_sums(self) -> list[float]:
        return (self._sums.double() / max(1, self.position.summed)).tolist()

    def _last_validation(self) -> str:
        if not self.position.history:
            return "-"
        last = self.position.history[-1]
        accuracy = last.get("valid_accuracy")
        return f"perplexity {last['valid_perplexity']:.2f}" + ("" if accuracy is None else f", accuracy {accuracy:.2%}")

    def _end_epoch(self, train_loss: float, train_activity: list[float]) -> None:
        position, loop = self.position, self.options.training
        if not math.isfinite(train_loss):
            raise TrainingError(
                f"training diverged in epoch {position.epoch + 1}: the loss is {train_loss}; try a lower learning_rate"
            )
        own, averaged = self.evaluate(), None
        found: list[tuple[Validation, Mapping[str, torch.Tensor]]]
        found = [(own, dict(self.model.named_parameters()))]
        if self.average is not None and self.average.updates:
            other = self.evaluate_other(self.average.tensors)
            tensors = self.average.tensors
            found.append((other, tensors if self.rounding is None else self.rounding.rounded(tensors)))
            averaged = _perplexity(other.loss)
        position.epoch += 1
        position.segment = 0
        position.history.append(
            {
                "epoch": position.epoch,
                "train_loss": train_loss,
                "valid_loss": own.loss,
                "valid_perplexity": _perplexity(own.loss),
                "valid_accuracy": own.accuracy,
                "train_activity": train_activity,
                "averaged_perplexity": averaged,
                "activity": own.activity,
                "learning_rate": loop.learning_rate * learning_rate_factor(position.epoch, loop),
                "sparsity": self.sparsity(),
                "tokens_per_second": position.tokens_per_second,
            }
        )
        more_pruning = any(epoch >= position.epoch for epoch in self.prune_at)
        best, parameters = min(found, key=lambda candidate: candidate[0].loss)
        if best.loss < (math.inf if position.best_loss is None else position.best_loss) and not more_pruning:
            position.best_loss, position.best_activity, position.best_accuracy = best
            self._best = copy_parameters(parameters)
            self._best_is_saved = False

    def sparsity(self) -> float:
        """Share of recurrent-layer weights that are zero, and stay so."""
        return 0.0 if self.masks is None else self.model.sparsity()

    def result(self) -> TrainingResult:
        """The run so far."""
        position = self.position
        loss, activity, accuracy = position.best_loss, position.best_activity, position.best_accuracy
        if loss is None or activity is None:
            last = position.history[-1] if position.history else {"valid_loss": math.inf, "activity": []}
            loss, activity, accuracy = last["valid_loss"], last["activity"], last.get("valid_accuracy")
        return TrainingResult(
            valid_loss=loss,
            activity=activity,
            valid_accuracy=accuracy,
            epochs=position.epoch,
            seconds=position.seconds,
            tokens_per_second=position.tokens_per_second,
            sparsity=self.sparsity(),
            history=position.history,
        )

    # Saving and resuming

    def save(self, directory: str | Path) -> None:
        """Save the best network so far (if any), then the training state.

        Parameters
        ----------
        directory : str or Path

        Raises
        ------
        InputError
            If the directory cannot be written.
        """
        if self._best is not None and not self._best_is_saved:
            save_checkpoint(self.model.to_checkpoint(self.vocabulary, self._best), directory)
            self._best_is_saved = True
        tensors = {f"parameter.{name}": tensor for name, tensor in self._learned().items()}
        if self.model.configuration.readout is not None:
            tensors["order"] = torch.from_numpy(self.model.order())
        if self.rounding is not None:
            tensors |= {f"rounding.{name}": values for name, values in self.rounding.values.items()}
        tensors |= optimiser_tensors(self.model, self.optimiser)
        for index, parts in enumerate(self.state):
            for number, part in enumerate(parts):
                tensors[f"state.{index}.{number}"] = part
        averaged = 0 if self.average is None else self.average.updates
        if self.average is not None and averaged:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        tensors |= {"sums": self._sums, **random_tensors(self.device)}
        write_state(
            Path(directory),
            self.position,
            self._known,
            self.prune_at,
            tensors,
            averaged=averaged,
            shard_mib=self.options.machine.shard_mib,
        )

    def resume(self, directory: str | Path) -> bool:
        """Go on from a saved training state.

        Parameters
        ----------
        directory : str or Path

        Returns
        -------
        bool
            False if there is none.

        Raises
        ------
        InputError
            If the state is damaged or was made with other options.
        """
        directory = Path(directory)
        saved = read_state(directory, self._known, self.prune_at)
        if saved is None:
            return False
        position, averaged, tensors = saved
        with refuse_damage(directory), torch.no_grad():
            put_tensors({name: tensors[f"parameter.{name}"] for name in self._learned()}, self._learned())
            if self.model.configuration.readout is not None:
                self.model.put_order(tensors["order"])
            if self.rounding is not None:
                values = self.rounding.values
                put_tensors({name: tensors[f"rounding.{name}"] for name in values}, values)
                self.rounding.round()
            for index, parts in enumerate(self.state):
                for number, part in enumerate(parts):
                    part.copy_(tensors[f"state.{index}.{number}"])
            self._sums.copy_(tensors["sums"])
            restore_optimiser(self.model, self.optimiser, tensors)
            restore_random(self.device, tensors)
            if self.average is not None and averaged:
                self.average.updates = averaged
                put_tensors({name: tensors[f"average.{name}"] for name in self.average.tensors}, self.average.tensors)
            if any(epoch < position.epoch or (epoch == position.epoch and position.segment) for epoch in self.prune_at):
                self.use_zeros_as_masks()
                self._weigh_events()
        self.position = position
        if position.best_loss is not None:
            best = load_checkpoint(directory)
            self._best = {name: torch.from_numpy(best.tensors[name]).to(self.device) for name in best.tensors}
            self._best_is_saved = True
        return True
