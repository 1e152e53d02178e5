"""Training of language models, and of networks that sequences of numbers enter.

Called by ``egret train`` as::

    options = TrainingOptions.from_toml(path, **overrides)       # or TrainingOptions.of(train=..., valid=..., ...)
    result = train(options, directory, progress=True)            # a TrainingResult; result.summary() is a dict for JSON

`directory` becomes a checkpoint directory (`egret.model.checkpoint`) with the network that was best on the validation
text so far. Beside its three files lies the training state (`egret.model.training.state`), from which a killed run goes
on exactly where it last saved: call `train` again with the same options and directory.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from egret.model.errors import InputError
from egret.model.groups import Groups
from egret.model.sequences import Sequences
from egret.model.tokens import Vocabulary
from egret.model.training.grouping import group_words, neighbours
from egret.model.training.loop import Trainer, TrainingResult
from egret.model.training.network import LanguageModel, configuration_of
from egret.model.training.options import TrainingOptions

__all__ = ["read_texts", "train"]


def train(
    options: TrainingOptions,
    directory: str | Path,
    *,
    progress: bool = False,
    limit_seconds: float | None = None,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> TrainingResult:
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
    TrainingError
        If the training diverges.
    """
    vocabulary, train_ids, valid_ids = read_texts(options)
    network, events, readout = options.network, options.events, options.readout
    numbers = isinstance(train_ids, Sequences)
    order, groups = None, None
    if readout.groups and not numbers:
        counts = np.bincount(train_ids, minlength=vocabulary.size)
        vectors = neighbours(train_ids, vocabulary.size)
        order, sizes = group_words(vectors, counts, readout.head, readout.groups)
        groups = Groups(readout.head, sizes, readout.rows)
    configuration = configuration_of(
        vocabulary,
        cell=network.cell,
        embedding_size=train_ids.inputs if numbers else network.embedding_size,
        hidden_sizes=network.hidden_sizes,
        reset=network.reset,
        tied=network.tied and not numbers,
        readout=groups,
    )
    model = LanguageModel(configuration, options.dropout, slope=events.slope, width=events.width)
    model.initialise(
        options.training.seed,
        threshold_mean=events.threshold_mean,
        embedding_scale=options.training.embedding_scale,
        order=order,
    )
    trainer = Trainer(options, model, vocabulary, train_ids, valid_ids)
    trainer.resume(directory)
    return trainer.run(directory, progress=progress, limit_seconds=limit_seconds, on_epoch=on_epoch)


def read_texts(options: TrainingOptions, vocabulary: Vocabulary | None = None) -> tuple[Vocabulary, Any, Any]:
    """Read and encode the texts of a run, or read its sequences.

    Parameters
    ----------
    options : TrainingOptions
    vocabulary : Vocabulary, optional
        Used instead of what the options say.

    Returns
    -------
    vocabulary : Vocabulary
    train_ids, valid_ids : np.ndarray of int32, shape [N], or Sequences

    Raises
    ------
    InputError
        If a file cannot be read, or holds what the vocabulary lacks, naming the file; or an option is for texts alone.
    """
    texts, kind = options.text, options.network.tokens
    if kind == "number":
        return _read_sequences(options, vocabulary)
    if vocabulary is None:
        own = texts.vocabulary
        vocabulary = Vocabulary.of_text(texts.train, kind) if own is None else Vocabulary.from_file(own, kind)
    return vocabulary, vocabulary.read(texts.train), vocabulary.read(texts.valid)


def _read_sequences(options, vocabulary):
    texts, fields = options.text, options.flat()
    for name in ("teachers", "groups", "weight_bits", "embedding_limit", "dropout_words"):
        if fields[name]:
            raise InputError(f"{name} is for texts; training on numbers takes none, not {fields[name]!r}")
    found = {path: Sequences.load(path) for path in (texts.train, texts.valid)}
    train = found[texts.train]
    inputs = train.inputs if vocabulary is None else options.network.embedding_size
    if vocabulary is None and texts.vocabulary is not None:
        vocabulary = Vocabulary.from_file(texts.vocabulary, "number")
    elif vocabulary is None:
        vocabulary = Vocabulary([str(number) for number in range(int(train.classes.max()) + 1)], "number")
    for path, sequences in found.items():
        try:
            sequences.check(inputs, vocabulary.size)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    return vocabulary, train, found[texts.valid]
