"""Training of language models.

Called by ``egret train`` as::

    options = TrainingOptions.from_toml(path, **overrides)       # or TrainingOptions(train=..., valid=..., ...)
    result = train(options, directory, progress=True)            # a TrainingResult; result.summary() is a dict for JSON

`directory` becomes a checkpoint directory (`egret.model.checkpoint`) with the network that was best on the validation
text so far. Beside its three files lie ``training.json`` (options, place, history) and ``training-*`` (parameters,
optimiser, random state, carried state), from which a killed run goes on exactly where it last saved: call `train`
again with the same options and directory. New state is written aside before ``training.json`` is replaced to name it,
so a kill at any moment leaves a whole state; ``shard_mib`` cuts it into pieces.

`Trainer` does the work for `train` and for `egret.model.training.prune`. On a CUDA device one optimiser step, from
dropout to
AdamW, is one CUDA graph for each segment length; lengths are drawn as multiples of `QUANTUM` so that there are few.
"""

import json
import math
import os
import time
import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from egret.model.checkpoint import CELLS, RESETS, load_checkpoint, model_file, save_checkpoint
from egret.model.errors import InputError
from egret.model.files import digest
from egret.model.integer_file import load_integer
from egret.model.quantise import dequantise
from egret.model.tokens import KINDS, Vocabulary, read_text
from egret.model.training.network import Dropout, LanguageModel, configuration_of

__all__ = [
    "CHANGEABLE", "PATHS", "Trainer", "TrainingOptions", "TrainingResult", "by_content", "cut_streams", "event_weights",
    "learning_rate_factor", "load_network", "load_teacher", "relative_paths", "train",
]  # fmt: skip

QUANTUM = 5  # steps; segment lengths are multiples of it
_SHORT_SHARE = 0.05  # of segments that are drawn around half the length
_AVERAGE_EVERY = 10  # steps between two updates of the averaged parameters, which cost 2 % of a step
_ASKED = 70  # steps that teachers predict at once
_GRAPH_AFTER = 2  # steps that run before any is captured, so that lazily made things exist
_STATE = "training.json"
_STATE_VERSION = 1
CHANGEABLE = ("device", "shard_mib", "save_seconds", "train", "valid", "vocabulary")
_SECTIONS = ("network", "text", "training", "dropout", "events")
PATHS = ("train", "valid", "vocabulary", "teachers")
"""Fields that are paths, in a file relative to it."""


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Everything that determines a training run, validated at construction.

    Parameters
    ----------
    train, valid : str
        Text files.
    tokens : str
        ``"word"`` or ``"char"``.
    vocabulary : str, optional
        A ``vocab.txt``; made from the training text when not given.
    cell, reset, embedding_size, hidden_sizes, tied
        As in `egret.model.checkpoint.NetworkConfiguration`.
    epochs : int
        Passes over the training text.
    batch : int
        Streams B that the training text is cut into.
    bptt : int
        Mean steps of a segment; lengths are drawn from a normal distribution, now and then around half of it.
    bptt_deviation : float
        Standard deviation in steps; 0 for equal lengths.
    learning_rate : float
        For a segment of `bptt` steps; shorter ones have proportionally less.
    warmup : float
        Epochs of linear rise from zero.
    decay_from : float
        Epoch at which the cosine decay begins, which ends with the last epoch.
    decay_to : float
        Share of the learning rate left at the end.
    beta1, beta2 : float
        Of AdamW.
    weight_decay, weight_decay_bias : float
        Of weights (the embedding's too) and of biases.
    clip : float
        Largest gradient norm; 0 for no clipping.
    averaging : float
        Epochs over which an average of the parameters looks back: their mean at first, exponential once it is this
        old, anew after each pruning. Validation looks at both and keeps the better. 0 for no averaging.
    dropout_words, dropout_embedding, dropout_between, dropout_output, dropout_recurrent : float
        As in `egret.model.training.network.Dropout`.
    threshold_mean : float
        Mean of the Beta distribution that thresholds are drawn from.
    train_thresholds : bool
        Whether thresholds are trained (kept at zero or above).
    slope, width : float
        Of the surrogate gradient.
    activity_weight : float
        The loss has this times the mean activity of the layers added.
    mac_weight : float
        The loss has this times the share of weights behind events that a step needs added: the mean activity of the
        layers, each weighted by the weights behind it, zeros included. That is what a core's cycles go by.
    output_weight, change_weight : float
        The loss has these times the mean square of the last layer's outputs, after dropout, and of their changes from
        step to step added.
    teachers : tuple of str
        Networks of the same vocabulary, as checkpoint directories or integer networks' files, whose mean prediction
        of the training text is to be predicted beside the text itself (distillation). Their probabilities take two
        bytes for each token of the text and word of the vocabulary of the device's memory.
    teaching : float
        Share of the loss that is the cross-entropy with the teachers' prediction, 0 to 1; unused without teachers.
    embedding_scale : float
        The embedding starts uniform within +- this.
    embedding_limit : float
        The embedding is kept within +- this, for an integer network without coarse steps; 0 for no limit.
    seed : int
    eval_batch : int
        Streams that the validation text is cut into.
    device : str
        ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.
    save_seconds : float
        Time between saves of the training state.
    shard_mib : int, optional
        Largest size of one file of the training state.

    Raises
    ------
    InputError
        If a field has a value that is not accepted, naming the field.
    """

    train: str
    valid: str
    tokens: str = "word"
    vocabulary: str | None = None
    cell: str = "egru"
    reset: str = "before"
    embedding_size: int = 128
    hidden_sizes: tuple[int, ...] = (256, 128)
    tied: bool = True
    epochs: int = 20
    batch: int = 64
    bptt: int = 70
    bptt_deviation: float = 5.0
    learning_rate: float = 1.2e-3
    warmup: float = 0.0
    decay_from: float = 0.0
    decay_to: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.999
    weight_decay: float = 0.1
    weight_decay_bias: float = 0.0
    clip: float = 0.1
    averaging: float = 0.0
    dropout_words: float = 0.0
    dropout_embedding: float = 0.0
    dropout_between: float = 0.0
    dropout_output: float = 0.0
    dropout_recurrent: float = 0.0
    threshold_mean: float = 0.01
    train_thresholds: bool = False
    slope: float = 3.6
    width: float = 1 / 3.6
    activity_weight: float = 0.0
    mac_weight: float = 0.0
    output_weight: float = 0.0
    change_weight: float = 0.0
    teachers: tuple[str, ...] = ()
    teaching: float = 0.7
    embedding_scale: float = 0.1
    embedding_limit: float = 0.0
    seed: int = 1
    eval_batch: int = 64
    device: str = "auto"
    save_seconds: float = 120.0
    shard_mib: int | None = None

    def __post_init__(self):
        for name in ("train", "valid", "vocabulary"):
            path = getattr(self, name)
            if name == "vocabulary" and path is None:
                continue
            if not isinstance(path, str | os.PathLike):
                raise InputError(f"{name} must be the path of a text file, not {path!r}")
            object.__setattr__(self, name, str(path))
        choices = {"tokens": KINDS, "cell": CELLS, "reset": RESETS, "device": ("auto", "cpu", "cuda")}
        for name, accepted in choices.items():
            if getattr(self, name) not in accepted:
                raise InputError(f"{name} must be {' or '.join(map(repr, accepted))}, not {getattr(self, name)!r}")
        if not isinstance(self.hidden_sizes, list | tuple) or not self.hidden_sizes:
            raise InputError(f"hidden_sizes must be a list of at least one size, not {self.hidden_sizes!r}")
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        teachers = [self.teachers] if isinstance(self.teachers, str | os.PathLike) else self.teachers
        if not isinstance(teachers, list | tuple) or not all(isinstance(path, str | os.PathLike) for path in teachers):
            raise InputError(f"teachers must be paths of networks, not {self.teachers!r}")
        object.__setattr__(self, "teachers", tuple(map(str, teachers)))
        names = ("embedding_size", "epochs", "batch", "bptt", "eval_batch")
        counts = [(name, getattr(self, name), 1) for name in names]
        counts += [("hidden_sizes", size, 1) for size in self.hidden_sizes]
        counts += [("seed", self.seed, 0), ("shard_mib", 1 if self.shard_mib is None else self.shard_mib, 1)]
        for name, value, least in counts:
            if type(value) is not int or value < least:
                raise InputError(f"{name} must be an integer of at least {least}, not {value!r}")
        ranges = {
            "bptt_deviation": (0, 1e6), "learning_rate": (1e-12, 10), "warmup": (0, self.epochs),
            "decay_from": (0, self.epochs), "decay_to": (0, 1), "beta1": (0, 0.99999), "beta2": (0, 0.9999999),
            "weight_decay": (0, 1e3), "weight_decay_bias": (0, 1e3), "clip": (0, 1e9), "threshold_mean": (0, 0.99),
            "slope": (0, 1e6), "width": (1e-6, 1e6), "activity_weight": (0, 1e6), "embedding_scale": (0, 1),
            "mac_weight": (0, 1e6), "output_weight": (0, 1e6), "change_weight": (0, 1e6),
            "averaging": (0, 1e6), "embedding_limit": (0, 1e6), "teaching": (0, 1),
            "save_seconds": (0, 1e9),
        }  # fmt: skip
        for name, (least, most) in ranges.items():
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
                raise InputError(f"{name} must be a number from {least} to {most}, not {value!r}")
        for name in ("tied", "train_thresholds"):
            if type(getattr(self, name)) is not bool:
                raise InputError(f"{name} must be true or false, not {getattr(self, name)!r}")
        if self.tied and self.embedding_size != self.hidden_sizes[-1]:
            raise InputError(
                "a tied read-out needs embedding_size equal to the last hidden size, "
                f"not {self.embedding_size} and {self.hidden_sizes[-1]}"
            )
        _ = self.dropout  # validated by its own class

    @property
    def dropout(self):
        """The rates as an `egret.model.training.network.Dropout`."""
        return Dropout(**{
            name: getattr(self, f"dropout_{name}") for name in ("words", "embedding", "between", "output", "recurrent")
        })  # fmt: skip

    @classmethod
    def from_toml(cls, path, **overrides):
        """Options from a configuration file.

        The file's tables (``[network]``, ``[text]``, ``[training]``, ``[dropout]``, ``[events]``) group the fields for
        the reader; in ``[dropout]`` the names lack their ``dropout_``. Paths are relative to the file.

        Parameters
        ----------
        path : str or Path
        **overrides
            Fields that differ from the file's; None is ignored.

        Returns
        -------
        TrainingOptions

        Raises
        ------
        InputError
            If the file cannot be read, is no TOML, or holds an unknown or unacceptable field.
        """
        path = Path(path)
        try:
            content = tomllib.loads(path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot read the configuration: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{path}: not a TOML file: {' '.join(str(error).split())}") from error
        names = {item.name for item in fields(cls)}
        values = {}
        for section, table in content.items():
            if section not in _SECTIONS or not isinstance(table, dict):
                raise InputError(f"{path}: unknown table {section!r}; accepted are {', '.join(_SECTIONS)}")
            for key, value in table.items():
                name = f"dropout_{key}" if section == "dropout" else key
                if name not in names:
                    raise InputError(f"{path}: unknown field {key!r} in [{section}]")
                values[name] = relative_paths(value, path.parent) if name in PATHS else value
        values |= {name: value for name, value in overrides.items() if value is not None}
        for name in ("train", "valid"):
            if name not in values:
                raise InputError(f"{path}: lacks {name!r}; give the path of a text in [text] or as an option")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except TypeError as error:
            raise InputError(f"{path}: {' '.join(str(error).split())}") from error


def relative_paths(value, folder):
    """A string, or the strings of a list, as paths relative to a folder; all else stays as it is."""
    if isinstance(value, list):
        return [str(folder / item) if isinstance(item, str) else item for item in value]
    return str(folder / value) if isinstance(value, str) else value


@dataclass
class TrainingResult:
    """Outcome of a run.

    Parameters
    ----------
    valid_loss : float
        Of the saved network, nats a token.
    activity : list of float
        Of the saved network on the validation text, one a layer.
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
    activity: list
    epochs: int
    seconds: float
    tokens_per_second: float
    sparsity: float
    history: list = field(repr=False)

    def summary(self):
        """The result without its history, with the perplexity; a dict for JSON."""
        content = asdict(self)
        del content["history"]
        return {**content, "valid_perplexity": math.exp(min(self.valid_loss, 700))}


def cut_streams(ids, batch):
    """Cut a text into streams of equal length; the rest is left out.

    Parameters
    ----------
    ids : np.ndarray of int, shape [N]
    batch : int

    Returns
    -------
    np.ndarray of int64, shape [N // batch, batch]
    """
    steps = len(ids) // batch
    return np.ascontiguousarray(np.asarray(ids[: steps * batch], np.int64).reshape(batch, steps).T)


def learning_rate_factor(epoch, options):
    """Share of the learning rate that applies at a (fractional) epoch."""
    factor = min(1.0, epoch / options.warmup) if options.warmup else 1.0
    if epoch > options.decay_from:
        done = min(1.0, (epoch - options.decay_from) / (options.epochs - options.decay_from))
        factor *= options.decay_to + (1 - options.decay_to) * 0.5 * (1 + math.cos(math.pi * done))
    return factor


def segment_lengths(steps, options, epoch):
    """Lengths of an epoch's segments.

    Parameters
    ----------
    steps : int
        Steps of the streams, of which the last one is only a target.
    options : TrainingOptions
    epoch : int
        The lengths depend on it and on the seed alone.

    Returns
    -------
    list of int
        Positive; their sum is at most ``steps - 1``.
    """
    quantum = QUANTUM if options.bptt >= 4 * QUANTUM else 1
    random = np.random.default_rng((options.seed, epoch))
    left, lengths = steps - 1, []
    while left >= quantum:
        mean = options.bptt if random.random() >= _SHORT_SHARE or not options.bptt_deviation else options.bptt / 2
        length = quantum * max(1, round(random.normal(mean, options.bptt_deviation) / quantum))
        length = min(length, 2 * options.bptt, left // quantum * quantum)
        lengths.append(length)
        left -= length
    return lengths or [left]


def event_weights(layers):
    """Share of the weights behind events that is behind each layer's, zeros included.

    Parameters
    ----------
    layers : sequence
        With `weight_x` [.., I] and `weight_y` [.., H].

    Returns
    -------
    list of float
        Their sum is 1. A layer's events drive its own `weight_y` and the next layer's `weight_x`; the read-out is
        left out, as in all counts of MACs.
    """
    behind = [layer.weight_y.numel() for layer in layers]
    for index, layer in enumerate(layers[1:]):
        behind[index] += layer.weight_x.numel()
    return [weights / sum(behind) for weights in behind]


class Trainer:
    """A model in training, with everything that a resumed run needs.

    Parameters
    ----------
    options : TrainingOptions
    model : LanguageModel
        Moved to the device and trained in place.
    vocabulary : Vocabulary
    train_ids, valid_ids : np.ndarray of int32, shape [N]
    prune_at : dict of int to float, optional
        Epochs before which the weights of the recurrent layers are pruned to a sparsity, by falling magnitude over
        all of them; pruned weights stay zero. The network kept is the best one since the last pruning.
    prune : callable, optional
        What prunes a model to a sparsity, needed with `prune_at`.
    """

    def __init__(self, options, model, vocabulary, train_ids, valid_ids, *, prune_at=None, prune=None):
        self.options, self.vocabulary = options, vocabulary
        self.device = _device(options.device)
        self.model = model.to(self.device)
        self.prune_at, self._prune = dict(prune_at or {}), prune
        needed = 2 * options.batch
        if len(train_ids) < needed:
            raise InputError(
                f"{options.train}: {len(train_ids)} tokens are too few; batch {options.batch} needs {needed}"
            )
        if len(valid_ids) < 2:
            raise InputError(f"{options.valid}: the validation text needs at least 2 tokens")
        self._train = torch.from_numpy(cut_streams(train_ids, options.batch)).to(self.device)
        self._taught = self._ask(options.teachers) if options.teachers else None
        self._known = by_content(asdict(options))
        streams = max(1, min(options.eval_batch, len(valid_ids) // 2))
        self._valid = torch.from_numpy(cut_streams(valid_ids, streams)).to(self.device)
        torch.manual_seed(options.seed)
        if options.train_thresholds and options.cell == "egru":
            for layer in self.model.layers:
                layer.threshold.requires_grad_()
        self._make_optimiser()
        self.masks = None
        self._average = _clone(dict(self.model.named_parameters())) if options.averaging else None
        self._averaged = 0  # updates since the average began
        self.state = self.model.zero_state(options.batch)
        self._event_weights = torch.tensor(event_weights(self.model.layers), dtype=torch.float32, device=self.device)
        self._sums = torch.zeros(1 + len(options.hidden_sizes), dtype=torch.float32, device=self.device)
        self._graphs = {}
        self._eager_steps = 0
        self._pool = None
        self.epoch = self.segment = self.step = 0
        self._sums_steps = 0
        self.history = []
        self.best_loss, self.best_activity, self._best, self._best_is_saved = math.inf, None, None, True
        self.seconds = 0.0
        self._tokens_per_second = 0.0

    def _make_optimiser(self):
        options = self.options
        groups = {"weights": [], "biases": [], "thresholds": []}
        for name, parameter in self.model.named_parameters():
            if parameter.requires_grad:
                kind = name.rsplit(".", 1)[1]
                groups["biases" if kind == "bias" else "thresholds" if kind == "threshold" else "weights"].append(
                    parameter
                )
        decay = {"weights": options.weight_decay, "biases": options.weight_decay_bias, "thresholds": 0.0}
        on_gpu = self.device.type == "cuda"
        self._rate = torch.tensor(options.learning_rate, dtype=torch.float32, device=self.device) if on_gpu else None
        self.optimiser = torch.optim.AdamW(
            [{"params": group, "weight_decay": decay[kind]} for kind, group in groups.items() if group],
            lr=self._rate if on_gpu else options.learning_rate,
            betas=(options.beta1, options.beta2),
            fused=on_gpu,
            capturable=on_gpu,
        )
        self._parameters = [parameter for group in groups.values() for parameter in group]

    def _ask(self, paths):
        """Mean of the teachers' probabilities for what follows each training token, float16 [N - 1, B, V]."""
        teachers = []
        for path in paths:
            checkpoint = load_teacher(path, self.vocabulary)
            teachers.append(LanguageModel.from_checkpoint(checkpoint).to(self.device).eval())
        steps, streams = self._train.shape
        taught = torch.empty(steps - 1, streams, self.vocabulary.size, dtype=torch.float16, device=self.device)
        states = [teacher.zero_state(streams) for teacher in teachers]
        with torch.no_grad():
            for start in range(0, steps - 1, _ASKED):
                tokens = self._train[start : min(start + _ASKED, steps - 1)]
                total = 0
                for number, teacher in enumerate(teachers):
                    hidden, states[number], _ = teacher(tokens, states[number])
                    total = total + teacher.logits(hidden).softmax(-1)
                taught[start : start + len(tokens)] = total / len(teachers)
        return taught

    # One optimiser step

    def _compute(self, tokens, targets, taught=None):
        """Everything of one optimiser step; on a GPU this is what a graph captures."""
        options, model = self.options, self.model
        self.optimiser.zero_grad(set_to_none=True)
        hidden, state, activity = model(tokens, self.state)
        loss = model.loss(hidden, targets, taught, options.teaching)
        total = loss + options.activity_weight * activity.mean() if options.activity_weight else loss
        if options.mac_weight:
            total = total + options.mac_weight * (activity * self._event_weights).sum()
        if options.output_weight:
            total = total + options.output_weight * hidden.float().square().mean()
        if options.change_weight and len(hidden) > 1:
            total = total + options.change_weight * hidden.float().diff(dim=0).square().mean()
        total.backward()
        with torch.no_grad():
            if self.masks is not None:
                for weight, mask in zip(_pruned_parameters(model), self.masks, strict=True):
                    weight.grad.mul_(mask)
            if options.clip:
                torch.nn.utils.clip_grad_norm_(self._parameters, options.clip, foreach=True)
            self.optimiser.step()
            if self.masks is not None:
                for weight, mask in zip(_pruned_parameters(model), self.masks, strict=True):
                    weight.mul_(mask)
            if options.train_thresholds and options.cell == "egru":
                for layer in model.layers:
                    layer.threshold.clamp_(min=0)
            if options.embedding_limit:
                model.embedding.weight.clamp_(-options.embedding_limit, options.embedding_limit)
            for old, new in zip(self.state, state, strict=True):
                for old_part, new_part in zip(old, new, strict=True):
                    old_part.copy_(new_part)
            self._sums.add_(torch.cat([loss.detach().view(1), activity.detach()]), alpha=len(tokens))

    def _train_segment(self, start, length):
        rate = self.options.learning_rate * length / self.options.bptt
        rate *= learning_rate_factor(self.epoch + start / len(self._train), self.options)
        inputs = [self._train[start : start + length], self._train[start + 1 : start + length + 1]]
        if self._taught is not None:
            inputs.append(self._taught[start : start + length])
        if self.device.type != "cuda":
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            self._compute(*inputs)
        else:
            self._rate.fill_(rate)
            self._run_graph(length, inputs)
        self._sums_steps += length
        self.step += 1
        if self._average is not None and self.step % _AVERAGE_EVERY == 0:
            self._update_average()

    def _update_average(self):
        self._averaged += 1
        horizon = self.options.averaging * len(self._train) / self.options.bptt / _AVERAGE_EVERY
        share = 1 / max(1.0, min(self._averaged, horizon))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                self._average[name].lerp_(parameter, share)

    def _run_graph(self, length, inputs):
        if self._eager_steps < _GRAPH_AFTER:
            self._eager_steps += 1
            self._compute(*inputs)
            return
        if length not in self._graphs:
            kept = [torch.empty_like(part) for part in inputs]
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, pool=self._pool):
                self._compute(*kept)
            self._pool = self._pool or graph.pool()
            self._graphs[length] = graph, kept
        graph, kept = self._graphs[length]
        for own, given in zip(kept, inputs, strict=True):
            own.copy_(given)
        graph.replay()

    # Evaluation

    def evaluate(self, streams=None):
        """Loss and activity on a text, state zero at the start of each stream and carried.

        Parameters
        ----------
        streams : torch.Tensor of int64, shape [N, B], optional
            The validation text when not given.

        Returns
        -------
        loss : float
            Nats a token.
        activity : list of float
            One a layer.
        """
        streams = self._valid if streams is None else streams
        length = min(70, len(streams) - 1)
        state = self.model.zero_state(streams.shape[1])
        sums = torch.zeros_like(self._sums)
        self.model.eval()
        try:
            with torch.no_grad():
                for start in range(0, len(streams) - 1, length):
                    stop = min(start + length, len(streams) - 1)
                    key = (streams.shape[1], stop - start)
                    tokens, targets = streams[start:stop], streams[start + 1 : stop + 1]
                    self._evaluate_segment(key, tokens, targets, state, sums)
        finally:
            self.model.train()
        loss, *activity = (sums.double() / (len(streams) - 1)).tolist()
        return loss, activity

    def evaluate_other(self, parameters):
        """Loss and activity of the validation text with other parameters.

        Parameters
        ----------
        parameters : dict of str to torch.Tensor
            Named as the model's, which are the same again afterwards.

        Returns
        -------
        loss, activity
            As for `evaluate`.
        """
        own = dict(self.model.named_parameters())
        kept = _clone(own)
        try:
            _put(parameters, own)
            return self.evaluate()
        finally:
            _put(kept, own)

    def _evaluate_segment(self, key, tokens, targets, state, sums):
        def compute(tokens, targets, state, sums):
            hidden, after, activity = self.model(tokens, state)
            loss = self.model.loss(hidden, targets)
            sums.add_(torch.cat([loss.view(1), activity]), alpha=len(tokens))
            for old, new in zip(state, after, strict=True):
                for old_part, new_part in zip(old, new, strict=True):
                    old_part.copy_(new_part)

        if self.device.type != "cuda" or self._eager_steps < _GRAPH_AFTER or key[1] % QUANTUM:
            compute(tokens, targets, state, sums)
            return
        if key not in self._graphs:
            inputs = tokens.clone(), targets.clone(), self.model.zero_state(key[0]), torch.zeros_like(sums)
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.no_grad(), torch.cuda.graph(graph, pool=self._pool):
                compute(*inputs)
            self._pool = self._pool or graph.pool()
            self._graphs[key] = graph, inputs
        graph, inputs = self._graphs[key]
        inputs[0].copy_(tokens)
        inputs[1].copy_(targets)
        kept_parts = [*(part for parts in inputs[2] for part in parts), inputs[3]]
        pairs = list(zip(kept_parts, [*(part for parts in state for part in parts), sums], strict=True))
        for kept, own in pairs:
            kept.copy_(own)
        graph.replay()
        for kept, own in pairs:
            own.copy_(kept)

    # The run

    def run(self, directory=None, *, progress=False, limit_seconds=None, on_epoch=None):
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
        """
        begin = saved = time.monotonic()
        earlier = self.seconds
        self.model.train()
        with _Bar(progress, self.options.epochs, self.epoch) as bar:
            while self.epoch < self.options.epochs:
                if self.segment == 0:
                    self._begin_epoch()
                lengths = segment_lengths(len(self._train), self.options, self.epoch)
                start = sum(lengths[: self.segment])
                epoch_begin, epoch_tokens, overhead = time.monotonic(), 0, 0.0
                while self.segment < len(lengths):
                    self._train_segment(start, lengths[self.segment])
                    start += lengths[self.segment]
                    epoch_tokens += lengths[self.segment] * self.options.batch
                    self.segment += 1
                    now = time.monotonic()
                    if bar.due(now):
                        loss = self._mean_sums()[0]
                        now = time.monotonic()
                        speed = epoch_tokens / (now - epoch_begin - overhead)
                        bar.show(self.epoch + start / len(self._train), loss, speed, self._last_perplexity())
                    self.seconds = earlier + now - begin
                    if directory is not None and now - saved > self.options.save_seconds:
                        self.save(directory)
                        saved = time.monotonic()
                        overhead += saved - now
                    if limit_seconds is not None and now - begin > limit_seconds:
                        if directory is not None:
                            self.save(directory)
                        return self.result()
                train_loss, *train_activity = self._mean_sums()
                self._tokens_per_second = epoch_tokens / (time.monotonic() - epoch_begin - overhead)
                self._end_epoch(train_loss, train_activity)
                self.seconds = self.history[-1]["seconds"] = earlier + time.monotonic() - begin
                if on_epoch is not None:
                    on_epoch(self.history[-1])
                bar.show(self.epoch, train_loss, self._tokens_per_second, self._last_perplexity())
        if directory is not None:
            self.save(directory)
        return self.result()

    def _begin_epoch(self):
        with torch.no_grad():
            for parts in self.state:
                for part in parts:
                    part.zero_()
            self._sums.zero_()
        self._sums_steps = 0
        if self.epoch in self.prune_at:
            self._prune(self.model, self.prune_at[self.epoch])
            self.use_zeros_as_masks()
            self.best_loss, self.best_activity, self._best = math.inf, None, None
            self._averaged = 0

    def use_zeros_as_masks(self):
        """Keep every recurrent-layer weight at zero that is zero now."""
        masks = [(weight != 0).to(weight.dtype) for weight in _pruned_parameters(self.model)]
        if self.masks is None:
            self.masks = masks
            self._graphs.clear()  # they were captured without masks
        else:
            for mask, new in zip(self.masks, masks, strict=True):
                mask.copy_(new)

    def _mean_sums(self):
        return (self._sums.double() / max(1, self._sums_steps)).tolist()

    def _last_perplexity(self):
        return self.history[-1]["valid_perplexity"] if self.history else None

    def _end_epoch(self, train_loss, train_activity):
        if not math.isfinite(train_loss):
            raise InputError(
                f"training diverged in epoch {self.epoch + 1}: the loss is {train_loss}; try a lower learning_rate"
            )
        loss, activity = self.evaluate()
        found = [(loss, activity, dict(self.model.named_parameters()))]
        if self._averaged:
            found.append((*self.evaluate_other(self._average), self._average))
        self.epoch += 1
        self.segment = 0
        self.history.append(
            {
                "epoch": self.epoch,
                "train_loss": train_loss,
                "valid_loss": loss,
                "valid_perplexity": math.exp(min(loss, 700)),
                "train_activity": train_activity,
                "averaged_perplexity": math.exp(min(found[1][0], 700)) if self._averaged else None,
                "activity": activity,
                "learning_rate": self.options.learning_rate * learning_rate_factor(self.epoch, self.options),
                "sparsity": self.sparsity(),
                "tokens_per_second": self._tokens_per_second,
            }
        )
        more_pruning = any(epoch >= self.epoch for epoch in self.prune_at)
        loss, activity, parameters = min(found, key=lambda candidate: candidate[0])
        if loss < self.best_loss and not more_pruning:
            self.best_loss, self.best_activity = loss, activity
            self._best = _clone(parameters)
            self._best_is_saved = False

    def sparsity(self):
        """Share of recurrent-layer weights that are zero."""
        weights = _pruned_parameters(self.model)
        zeros = sum(int((weight == 0).sum()) for weight in weights) if self.masks is not None else 0
        return zeros / sum(weight.numel() for weight in weights)

    def result(self):
        """The run so far as a `TrainingResult`."""
        last = self.history[-1] if self.history else {"valid_loss": math.inf, "activity": []}
        kept = self.best_activity is not None
        return TrainingResult(
            valid_loss=self.best_loss if kept else last["valid_loss"],
            activity=self.best_activity if kept else last["activity"],
            epochs=self.epoch,
            seconds=self.seconds,
            tokens_per_second=self._tokens_per_second,
            sparsity=self.sparsity(),
            history=self.history,
        )

    # Saving and resuming

    def save(self, directory):
        """Save the best network so far (if any), then the training state.

        Parameters
        ----------
        directory : str or Path

        Raises
        ------
        InputError
            If the directory cannot be written.
        """
        directory = Path(directory)
        if self._best is not None and not self._best_is_saved:
            kept = LanguageModel(self.model.configuration)
            kept.load_state_dict({name: tensor.cpu() for name, tensor in self._best.items()})
            save_checkpoint(kept.to_checkpoint(self.vocabulary), directory)
            self._best_is_saved = True
        content = {
            "version": _STATE_VERSION,
            "options": self._known,
            "prune_at": {str(epoch): sparsity for epoch, sparsity in self.prune_at.items()},
            "epoch": self.epoch,
            "segment": self.segment,
            "step": self.step,
            "sums_steps": self._sums_steps,
            "averaged": self._averaged,
            "best_loss": self.best_loss if self.best_activity is not None else None,
            "best_activity": self.best_activity,
            "seconds": self.seconds,
            "tokens_per_second": self._tokens_per_second,
            "history": self.history,
        }
        data = safetensors.torch.save(self._state_tensors())
        size = len(data) if self.options.shard_mib is None else self.options.shard_mib << 20
        pieces = [data[start : start + size] for start in range(0, len(data), size)]
        content["files"] = [f"training-{self.step}-{index + 1:03}-of-{len(pieces):03}" for index in range(len(pieces))]
        content["bytes"] = len(data)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            for name, piece in zip(content["files"], pieces, strict=True):
                _write(directory / name, piece)
            _write(directory / _STATE, json.dumps(content).encode())
            for path in directory.glob("training-*-of-*"):
                if path.name not in content["files"]:
                    path.unlink()
        except OSError as error:
            raise InputError(f"{directory}: cannot save the training state: {error.strerror or error}") from error

    def _state_tensors(self):
        tensors = {f"parameter.{name}": tensor for name, tensor in self.model.named_parameters()}
        names = {id(parameter): name for name, parameter in self.model.named_parameters()}
        for parameter, state in self.optimiser.state.items():
            for key, value in state.items():
                if key == "exp_avg" and self.options.beta1 == 0:
                    continue  # with beta1 = 0 it is the last gradient and never used again
                tensors[f"optimiser.{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
        for index, parts in enumerate(self.state):
            for number, part in enumerate(parts):
                tensors[f"state.{index}.{number}"] = part
        if self._averaged:
            tensors |= {f"average.{name}": tensor for name, tensor in self._average.items()}
        tensors["sums"] = self._sums
        tensors["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}

    def resume(self, directory):
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
        path = directory / _STATE
        if not path.exists():
            return False
        try:
            content = json.loads(path.read_bytes())
            data = b"".join((directory / name).read_bytes() for name in content["files"])
            if content["version"] != _STATE_VERSION:
                raise InputError(f"{path}: version {content['version']} is not supported; accepted is {_STATE_VERSION}")
            if len(data) != content["bytes"]:
                raise InputError(f"{path}: the state's files hold {len(data)} bytes, not {content['bytes']}")
            tensors = safetensors.torch.load(data)
            self._check_options(content, path)
            self._load(content, tensors)
        except InputError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, safetensors.SafetensorError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise InputError(f"{path}: cannot resume from it ({reason}); remove it to start again") from error
        if content["best_loss"] is not None:
            best = load_checkpoint(directory)
            self._best = {name: torch.from_numpy(best.tensors[name]).to(self.device) for name in best.tensors}
            self._best_is_saved = True
        return True

    def _check_options(self, content, path):
        for name, value in self._known.items():
            if name not in CHANGEABLE and content["options"].get(name, value) != value:
                raise InputError(
                    f"{path}: training began with {name} = {content['options'].get(name)!r}, not {value!r}; "
                    "give the same options or another directory"
                )
        if content["prune_at"] != {str(epoch): sparsity for epoch, sparsity in self.prune_at.items()}:
            raise InputError(f"{path}: began with another pruning schedule; give the same one or another directory")

    def _load(self, content, tensors):
        names = {name: parameter for name, parameter in self.model.named_parameters()}
        with torch.no_grad():
            for name, parameter in names.items():
                parameter.copy_(tensors[f"parameter.{name}"])
            for index, parts in enumerate(self.state):
                for number, part in enumerate(parts):
                    part.copy_(tensors[f"state.{index}.{number}"])
            self._sums.copy_(tensors["sums"])
        for parameter in self._parameters:
            name = next(key for key, value in names.items() if value is parameter)
            state = {}
            for key in ("step", "exp_avg", "exp_avg_sq"):
                full = f"optimiser.{key}.{name}"
                if full in tensors:
                    on = self.device if key != "step" or self.device.type == "cuda" else "cpu"
                    state[key] = tensors[full].to(on)
            if "step" in state:
                state.setdefault("exp_avg", torch.zeros_like(parameter))
                self.optimiser.state[parameter] = state
        torch.set_rng_state(tensors["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["random.cuda"], self.device)
        self.epoch, self.segment, self.step = content["epoch"], content["segment"], content["step"]
        self._sums_steps = content["sums_steps"]
        self._averaged = content.get("averaged", 0)  # states of before averaging lack it
        if self._averaged:
            self._average = {name: tensors[f"average.{name}"].to(self.device) for name in names}
        self.best_loss = math.inf if content["best_loss"] is None else content["best_loss"]
        self.best_activity = content["best_activity"]
        self.seconds, self._tokens_per_second = content["seconds"], content["tokens_per_second"]
        self.history = content["history"]
        if any(epoch < self.epoch or (epoch == self.epoch and self.segment) for epoch in self.prune_at):
            self.use_zeros_as_masks()


def load_network(path):
    """The network of a checkpoint directory, or the float network that an integer network's file stands for.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        If there is none, or it is damaged.
    """
    return dequantise(load_integer(path)) if Path(path).is_file() else load_checkpoint(path)


def by_content(options):
    """Fields of `TrainingOptions` for JSON: lists for tuples, and for teachers the SHA-256 of their files.

    Parameters
    ----------
    options : dict

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If a teacher cannot be read.
    """
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    if values.get("teachers"):
        values["teachers"] = [digest(model_file(path) if Path(path).is_dir() else path) for path in values["teachers"]]
    return values


def load_teacher(path, vocabulary):
    """`load_network`, for a network with this vocabulary that is to learn from it; refuses another vocabulary."""
    teacher = load_network(path)
    if teacher.vocabulary.tokens != vocabulary.tokens:
        raise InputError(f"{path}: a teacher needs the vocabulary of the network in training, not another")
    return teacher


def _clone(parameters):
    return {name: parameter.detach().clone() for name, parameter in parameters.items()}


def _put(parameters, into):
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(parameters[name])


def _pruned_parameters(model):
    """Weights that pruning acts on: all recurrent layers' weight_x and weight_y."""
    return [weight for layer in model.layers for weight in (layer.weight_x, layer.weight_y)]


def _device(name):
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda' is not available here; use 'auto' or 'cpu'")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _write(path, data):
    """Write a file aside, then rename it."""
    aside = path.with_name(f".{path.name}.new")
    with open(aside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


class _Bar:
    """Progress bar: epoch, tokens a second, loss, validation perplexity, time left."""

    def __init__(self, shown, epochs, done):
        self._next = 0.0
        self._progress = self._task = None
        if shown:
            text = "epoch {task.completed:.1f}/{task.total:.0f}  {task.fields[speed]:>9} tokens/s  loss "
            text += "{task.fields[loss]}  valid perplexity {task.fields[perplexity]}"
            self._progress = Progress(BarColumn(), TextColumn(text), TimeRemainingColumn())
            self._task = self._progress.add_task("", total=epochs, completed=done, speed="-", loss="-", perplexity="-")

    def __enter__(self):
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_):
        if self._progress is not None:
            self._progress.stop()

    def due(self, now):
        """Whether it is time to show something; reading the loss waits for the GPU, so this is seldom."""
        if now < self._next:
            return False
        self._next = now + 1.0
        return True

    def show(self, epoch, loss, speed, perplexity):
        if self._progress is not None:
            shown = "-" if perplexity is None else f"{perplexity:.2f}"
            self._progress.update(
                self._task, completed=epoch, speed=f"{speed:,.0f}", loss=f"{loss:.4f}", perplexity=shown
            )


def train(options, directory, *, progress=False, limit_seconds=None, on_epoch=None):
    """Train a network, going on from the directory's own training state where there is one.

    Parameters
    ----------
    options : TrainingOptions
    directory : str or Path
        Output; see the module's description.
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
    InputError
        If a text or an option is not accepted, or the directory holds a training with other options.
    """
    vocabulary, train_ids, valid_ids = read_texts(options)
    configuration = configuration_of(
        vocabulary,
        cell=options.cell,
        embedding_size=options.embedding_size,
        hidden_sizes=options.hidden_sizes,
        reset=options.reset,
        tied=options.tied,
    )
    model = LanguageModel(configuration, options.dropout, slope=options.slope, width=options.width)
    model.initialise(options.seed, threshold_mean=options.threshold_mean, embedding_scale=options.embedding_scale)
    trainer = Trainer(options, model, vocabulary, train_ids, valid_ids)
    trainer.resume(directory)
    return trainer.run(directory, progress=progress, limit_seconds=limit_seconds, on_epoch=on_epoch)


def read_texts(options, vocabulary=None):
    """Read and encode the texts of a run.

    Parameters
    ----------
    options : TrainingOptions
    vocabulary : Vocabulary, optional
        Used instead of what the options say.

    Returns
    -------
    vocabulary : Vocabulary
    train_ids, valid_ids : np.ndarray of int32, shape [N]

    Raises
    ------
    InputError
        If a text cannot be read or holds a token that the vocabulary lacks, naming the file.
    """
    text = read_text(options.train)
    if vocabulary is None:
        if options.vocabulary is None:
            vocabulary = Vocabulary.from_text(text, options.tokens)
        else:
            vocabulary = Vocabulary.from_file(options.vocabulary, options.tokens)
    ids = []
    for path, content in ((options.train, text), (options.valid, read_text(options.valid))):
        try:
            ids.append(vocabulary.encode(content))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return vocabulary, *ids
