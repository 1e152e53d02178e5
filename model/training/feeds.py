"""What a training reads, segment by segment: a text in streams, or sequences in batches; and what validation finds."""

from typing import NamedTuple

import numpy as np
import torch

from egret.model.arithmetic import VALUE_FRACTION
from egret.model.errors import InputError
from egret.model.sequences import BATCH, NO_CLASS, Sequences
from egret.model.training.network import LanguageModel
from egret.model.training.options import LoopOptions, TrainingOptions
from egret.model.training.schedule import equal_streams, segment_lengths

__all__ = ["SequenceFeed", "TextFeed", "Validation", "feeds"]


class Validation(NamedTuple):
    """What a network does on what it is validated on.

    Attributes
    ----------
    loss : float
        Nats a token, or a class that is asked for.
    activity : list of float
        One a layer.
    accuracy : float or None
        Share of the classes that are right, 0 to 1; None of a text.
    """

    loss: float
    activity: list[float]
    accuracy: float | None = None


class TextFeed:
    """A text that is cut into streams; the state is carried from segment to segment.

    Parameters
    ----------
    ids : np.ndarray of int32, shape [N]
    loop : LoopOptions
    device : torch.device

    Attributes
    ----------
    carries : bool
        Whether a segment begins with the state behind the one before.
    streams : torch.Tensor of int64, shape [T, B]
    mean_length : int
        Steps of a segment that the learning rate is for.
    """

    carries = True

    def __init__(self, ids: np.ndarray, loop: LoopOptions, device: torch.device):
        self.streams = torch.from_numpy(equal_streams(ids, loop.batch)).to(device)
        self.mean_length, self._loop = loop.bptt, loop

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self.streams)

    def lengths(self, epoch: int) -> list[int]:
        """Steps of each segment of an ``epoch``."""
        return segment_lengths(len(self.streams), self._loop, epoch)

    def part(self, epoch: int, start: int, length: int) -> list[torch.Tensor]:
        """Inputs and targets, each [length, B], of the segment of an ``epoch`` that begins at the step ``start``."""
        return [self.streams[start : start + length], self.streams[start + 1 : start + length + 1]]


class SequenceFeed:
    """Sequences in batches, in another order in each epoch; each is one segment, from zero state.

    Parameters
    ----------
    sequences : Sequences
    loop : LoopOptions
        Those of the last batch that would not fill it are left out of an epoch.
    device : torch.device

    Attributes
    ----------
    carries : bool
    mean_length : int
        As for `TextFeed`: the steps of a sequence.
    """

    carries = False

    def __init__(self, sequences: Sequences, loop: LoopOptions, device: torch.device):
        self._sequences, self._loop, self._device = sequences, loop, device
        self.mean_length = sequences.steps

    def __len__(self) -> int:
        """Steps of an epoch."""
        return len(self._sequences) // self._loop.batch * self.mean_length

    def lengths(self, epoch: int) -> list[int]:
        """Steps of each segment of an ``epoch``."""
        return [self.mean_length] * (len(self._sequences) // self._loop.batch)

    def part(self, epoch: int, start: int, length: int) -> list[torch.Tensor]:
        """What enters [length, B, I] and classes [length, B] of the batch of an ``epoch`` that begins at ``start``."""
        order = np.random.default_rng((self._loop.seed, epoch)).permutation(len(self._sequences))
        first = start // length * self._loop.batch
        return self._batch(order[first : first + self._loop.batch])

    def _batch(self, some):
        values = self._sequences.values[some].swapaxes(0, 1).astype(np.float32) * np.float32(2.0**-VALUE_FRACTION)
        classes = self._sequences.classes[some].T.astype(np.int64)
        return [torch.from_numpy(array).to(self._device) for array in (values, classes)]

    @torch.no_grad()
    def evaluate(self, model: LanguageModel) -> Validation:
        """Loss, activity and accuracy of a ``model`` on all sequences."""
        loss, asked, right, activity = 0.0, 0, 0, torch.zeros(model.configuration.layers, device=self._device)
        model.eval()
        try:
            for first in range(0, len(self._sequences), BATCH):
                x, targets = self._batch(slice(first, first + BATCH))
                hidden, _, share = model(x, model.zero_state(x.shape[1]))
                count = int((targets != NO_CLASS).sum())
                loss += float(model.loss(hidden, targets)) * count
                asked += count
                right += int((model.logits(hidden).argmax(dim=-1) == targets).sum())
                activity += share * x.shape[1]
        finally:
            model.train()
        return Validation(loss / asked, (activity / len(self._sequences)).tolist(), right / asked)


def feeds(
    train: np.ndarray | Sequences, valid: np.ndarray | Sequences, options: TrainingOptions, device: torch.device
) -> tuple[TextFeed | SequenceFeed, torch.Tensor | SequenceFeed]:
    """What a run trains on, and what it validates on.

    Parameters
    ----------
    train, valid : np.ndarray of int32, shape [N], or Sequences
        Both of one kind.
    options : TrainingOptions
    device : torch.device

    Returns
    -------
    TextFeed or SequenceFeed
    torch.Tensor of int64, shape [T, B], or SequenceFeed
        Of a text the streams.

    Raises
    ------
    InputError
        There is too little for a batch, naming the file.
    """
    text, loop = options.text, options.training
    if isinstance(train, Sequences) and isinstance(valid, Sequences):
        if len(train) < loop.batch:
            raise InputError(f"{text.train}: {len(train)} sequences are too few; batch {loop.batch} needs as many")
        return SequenceFeed(train, loop, device), SequenceFeed(valid, loop, device)
    assert isinstance(train, np.ndarray) and isinstance(valid, np.ndarray), "texts, or sequences"
    needed = 2 * loop.batch
    if len(train) < needed:
        raise InputError(f"{text.train}: {len(train)} tokens are too few; batch {loop.batch} needs {needed}")
    if len(valid) < 2:
        raise InputError(f"{text.valid}: the validation text needs at least 2 tokens")
    streams = equal_streams(valid, max(1, min(loop.eval_batch, len(valid) // 2)))
    return TextFeed(train, loop, device), torch.from_numpy(streams).to(device)
