"""Teachers: networks whose prediction of the training text a network learns beside the text itself."""

from collections.abc import Sequence
from pathlib import Path

import torch

from egret.model.checkpoint import Checkpoint, load_checkpoint
from egret.model.errors import InputError
from egret.model.integer_file import load_integer
from egret.model.quantise import dequantise
from egret.model.tokens import Vocabulary
from egret.model.training.network import LanguageModel

__all__ = ["load_network", "load_teacher", "teach"]

_STEPS = 70  # that teachers predict at once


def load_network(path: str | Path) -> Checkpoint:
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


def load_teacher(path: str | Path, vocabulary: Vocabulary) -> Checkpoint:
    """`load_network`, for a network that teaches.

    Parameters
    ----------
    path : str or Path
    vocabulary : Vocabulary
        Of the network in training.

    Returns
    -------
    Checkpoint

    Raises
    ------
    InputError
        As for `load_network`, and if the teacher's vocabulary is another.
    """
    teacher = load_network(path)
    if teacher.vocabulary.tokens != vocabulary.tokens:
        raise InputError(f"{path}: a teacher needs the vocabulary of the network in training, not another")
    return teacher


@torch.no_grad()
def teach(
    paths: Sequence[str], vocabulary: Vocabulary, streams: torch.Tensor, pupil: LanguageModel, kept: int = 0
) -> tuple[torch.Tensor, ...]:
    """Mean of the teachers' probabilities for what follows each token, with their states carried.

    Parameters
    ----------
    paths : sequence of str
        At least one.
    vocabulary : Vocabulary
    streams : torch.Tensor of int64, shape [N, B]
        On the device that the teachers run on.
    pupil : LanguageModel
        The network in training, on that device.
    kept : int
        Words whose probabilities are kept for each token, the likeliest ones; 0 for all.

    Returns
    -------
    probabilities : torch.Tensor of float16, shape [N - 1, B, V or kept]
        As `LanguageModel.arrange` of the pupil gives them, which may be a few more than V.
    words : torch.Tensor of int32, shape [N - 1, B, kept]
        Only with `kept`: whose probabilities they are.

    Raises
    ------
    InputError
        As for `load_teacher`, and if words are to be kept but the pupil's read-out is in groups.
    """
    if kept and pupil.configuration.readout is not None:
        raise InputError(f"teacher_words must be 0 for a read-out in groups, not {kept}")
    teachers = [LanguageModel.from_checkpoint(load_teacher(path, vocabulary)).to(streams.device) for path in paths]
    for teacher in teachers:
        teacher.eval()
    steps, batch = streams.shape
    kept = min(kept, vocabulary.size)
    width = kept or pupil.arrange(torch.zeros(vocabulary.size, device=streams.device)).numel()
    taught = torch.empty(steps - 1, batch, width, dtype=torch.float16, device=streams.device)
    words = torch.empty(*taught.shape, dtype=torch.int32, device=streams.device) if kept else None
    states = [teacher.zero_state(batch) for teacher in teachers]
    for start in range(0, steps - 1, _STEPS):
        tokens = streams[start : min(start + _STEPS, steps - 1)]
        total = torch.zeros((), device=streams.device)
        for number, teacher in enumerate(teachers):
            hidden, states[number], _ = teacher(tokens, states[number])
            total = total + teacher.logits(hidden).softmax(-1)
        mean, span = total / len(teachers), slice(start, start + len(tokens))
        if words is None:
            taught[span] = pupil.arrange(mean)
        else:
            taught[span], words[span] = mean.topk(kept, sorted=False)
    return (taught,) if words is None else (taught, words)
