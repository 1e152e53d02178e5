"""A read-out in groups for an integer network that has a plain one, while its layers stay what they are.

The words keep their weights, so that P(word | group) is what the plain read-out says. Only the rows that stand for
groups in the head are new. They are fitted to the plain read-out's own probability of each group, behind the last
layer's events of some of a text. What follows there is not looked at. A text that the network was not trained on gives
the events that it will have; behind the training text, which it knows too well, they are others.

With a codebook, all weights are rounded to values that suit the words as often as they occur in the text: those of the
rows while they are fitted, and those of a word with what its bias makes up for.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch

from egret.model.arithmetic import VALUE_FRACTION
from egret.model.errors import InputError
from egret.model.evaluate import stream_starts, stream_steps
from egret.model.groups import Groups
from egret.model.integer import IntegerNetwork
from egret.model.native import NativeEngine
from egret.model.quantise import dequantise, to_codebook
from egret.model.readout import LOG_FRACTION, IntegerGroups, ReadOut, nearest
from egret.model.training.grouping import with_groups

__all__ = ["Regrouped", "regroup"]

_STREAMS = 256
_LEAST_STEPS = 20  # of a stream
_HELD_OUT = 10  # one of so many steps
_SAMPLE = 4096  # words of the text that the codebook is chosen for
_EPOCHS, _BATCH, _RATE = 6, 256, 2e-3


@dataclass(frozen=True)
class Regrouped:
    """Result of `regroup`.

    Attributes
    ----------
    network : IntegerNetwork
    tokens : int
        Behind which the rows were fitted.
    held_out : int
        Other tokens, behind which the losses are measured.
    loss_plain, loss : float
        Mean negative log-likelihood of what follows these, in nats, with the plain read-out and with the new one.
    """

    network: IntegerNetwork
    tokens: int
    held_out: int
    loss_plain: float
    loss: float


def regroup(
    network: IntegerNetwork,
    ids: np.ndarray,
    *,
    head: int,
    groups: int,
    rows: int,
    tokens: int,
    codebook: bool,
    say: Callable[[str], object] = lambda line: None,
) -> Regrouped:
    """Give a network with a plain read-out one in groups.

    Parameters
    ----------
    network : IntegerNetwork
    ids : np.ndarray of int, shape [N]
        A text that the network was not trained on.
    head, groups, rows : int
        Words of the head, number of groups, and rows of each in the head.
    tokens : int
        Of the text, behind which the rows are fitted; at most so many and one more for each of the streams.
    codebook : bool
        Whether the read-out is to have 15 values, for a core with 4-bit weights.
    say : callable, optional
        Called with what is being done.

    Returns
    -------
    Regrouped

    Raises
    ------
    InputError
        The read-out is in groups already; there are too few words or tokens, or `rows` is not accepted; an accumulator
        of the read-out could overflow; or there is no C++ compiler.
    """
    if network.groups is not None:
        raise InputError("the network has a read-out in groups already")
    Groups(head, (1,) * groups, rows)
    streams = min(_STREAMS, max(1, (len(ids) - 1) // _LEAST_STEPS))
    steps = min(int(stream_starts(ids, streams)[1][-1]), -(-tokens // streams))
    if steps < 2:
        raise InputError(f"a read-out is fitted to at least {2 * streams} tokens of this text, not {steps * streams}")
    say("dividing the words")
    divided = with_groups(dequantise(network), ids, head, groups, rows)
    shape = divided.configuration.readout
    assert shape is not None
    order = divided.tensors["readout.order"].astype(np.int64)
    words = network.embedding if network.readout_weight is None else network.readout_weight
    values = _codebook(words, ids) if codebook else None

    y, targets = np.empty((steps, streams, network.hidden[-1]), np.uint8), np.empty((steps, streams), np.int64)
    engine = NativeEngine(network)
    engine.reset_state(streams)
    for step, (inputs, following) in enumerate(islice(stream_steps(ids, streams), steps)):
        say(f"events of the text: {step * streams:,} of {steps * streams:,} tokens")
        y[step], targets[step] = engine.step(inputs)[-1].y, following
    lost = (words.astype(np.float64) - nearest(words, values)) @ y.mean((0, 1))
    bias = network.readout_bias + np.rint(lost).astype(np.int64)
    unit = 2.0 ** (VALUE_FRACTION - network.readout_fraction)

    def made(weight: np.ndarray, group_bias: np.ndarray) -> IntegerNetwork:
        in_groups = IntegerGroups(
            order=order.astype(np.int32),
            head=head,
            sizes=shape.groups,
            rows=rows,
            weight=np.rint(weight / unit).clip(-127, 127).astype(np.int8),
            bias=np.rint(group_bias / 2.0**-network.readout_fraction).astype(np.int32),
        )
        return replace(network, groups=in_groups, readout_codebook=values, readout_bias=bias.astype(np.int32))

    begun = made(divided.tensors["readout.group_weight"], divided.tensors["readout.group_bias"])
    masses, rest, plain = _masses(begun, network, y, targets, say)
    held_out = max(1, steps // _HELD_OUT)
    fitted = made(*_fit(begun, y[:-held_out], masses[:-held_out], rest[:-held_out], say))
    last = y[-held_out:].reshape(-1, y.shape[-1]).astype(np.int32)
    found = ReadOut(fitted).log_probabilities(last, targets[-held_out:].ravel())
    return Regrouped(
        network=fitted,
        tokens=(steps - held_out) * streams,
        held_out=held_out * streams,
        loss_plain=-float(plain[-held_out:].mean()),
        loss=-float(found.mean()) * 2.0**-LOG_FRACTION,
    )


def _codebook(words, ids):
    """The values that the words' weights are rounded to, each word as often as it occurs in the text; None of zeros."""
    drawn = np.random.default_rng(1).choice(ids, min(_SAMPLE, len(ids)), replace=False)
    values = np.unique(to_codebook(words[drawn].astype(np.float32)))
    return values[values != 0] if values.any() else None


def _floats(integers, scale):
    return torch.from_numpy(integers.astype(np.float32) * np.float32(scale))


@torch.no_grad()
def _masses(begun, network, y, targets, say):
    """What the rows are fitted to behind the events y [S, B, H], and the plain read-out's log-likelihoods [S, B].

    The first two are the plain read-out's probabilities of the head's words together and of each group [S, B, 1 + G],
    and the logarithm of the sum of the exponentials of the new head's words [S, B].
    """
    groups, scale = begun.groups, 2.0**-network.readout_fraction
    weights = network.embedding if network.readout_weight is None else network.readout_weight
    readout, head = ReadOut(begun), slice(groups.head)
    words, bias = _floats(weights[groups.order], scale), _floats(network.readout_bias[groups.order], scale)
    head_words = _floats(readout.weights[0][head], scale)
    head_bias = _floats(begun.readout_bias[groups.order[head]], scale)
    places = torch.from_numpy(readout.place[targets])
    masses = torch.empty(*y.shape[:2], 1 + len(groups.sizes))
    rest, plain = torch.empty(y.shape[:2]), torch.empty(y.shape[:2])
    for step, events in enumerate(y):
        say(f"the plain read-out: {step * y.shape[1]:,} of {y.shape[0] * y.shape[1]:,} tokens")
        events = torch.from_numpy(events).float()
        predicted = torch.addmm(bias, events, words.T).log_softmax(-1)
        plain[step] = predicted.gather(1, places[step][:, None])[:, 0]
        parts = predicted.exp_().split([groups.head, *groups.sizes], dim=1)
        masses[step] = torch.stack([part.sum(1) for part in parts], dim=1)
        rest[step] = torch.addmm(head_bias, events, head_words.T).logsumexp(-1)
    return masses, rest, plain


def _fit(begun, y, masses, rest, say):
    """Weights [G * R, H] and biases [G * R] of the rows, the weights being multiples of what an LSB stands for."""
    groups, fraction = begun.groups, begun.readout_fraction
    unit = 2.0 ** (VALUE_FRACTION - fraction)
    weight = _floats(groups.weight, unit).requires_grad_()
    bias = _floats(groups.bias, 2.0**-fraction).requires_grad_()
    accepted = range(-127, 128) if begun.readout_codebook is None else sorted([0, *begun.readout_codebook.tolist()])
    accepted = torch.tensor(accepted, dtype=torch.float32) * unit
    middles = (accepted[1:] + accepted[:-1]) / 2
    events = torch.from_numpy(y.reshape(-1, y.shape[-1]))
    masses, rest = masses.reshape(len(events), -1), rest.reshape(-1, 1)
    batches = -(-len(events) // _BATCH)
    optimiser = torch.optim.Adam([weight, bias], _RATE)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _EPOCHS * batches)
    random = torch.Generator().manual_seed(1)
    for epoch in range(_EPOCHS):
        say(f"the rows of the groups: epoch {epoch + 1} of {_EPOCHS}")
        for some in torch.randperm(len(events), generator=random).chunk(batches):
            # Straight through: gradients of the rounded weights go to exact ones.
            rounded = weight + (accepted[torch.bucketize(weight, middles)] - weight).detach()
            scores = torch.addmm(bias, events[some] / 2.0**VALUE_FRACTION, rounded.T)
            of_groups = scores.unflatten(1, (-1, groups.rows)).logsumexp(-1)
            predicted = torch.cat([rest[some], of_groups], dim=1).log_softmax(-1)
            optimiser.zero_grad()
            (-(masses[some] * predicted).sum(1).mean()).backward()
            optimiser.step()
            falling.step()
    return accepted[torch.bucketize(weight.detach(), middles)].numpy(), bias.detach().numpy()
