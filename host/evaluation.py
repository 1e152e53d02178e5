"""A network over a text or sequences without a core: what the engines of ``egret evaluate`` but ``rtl`` do."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from egret.model.counts import checkpoint_columns, checkpoint_readout, integer_columns, integer_readout
from egret.model.errors import InputError
from egret.model.evaluate import Evaluation, evaluate
from egret.model.floating import FloatEngine
from egret.model.integer import IntegerEngine, IntegerNetwork
from egret.model.native import NativeEngine
from egret.model.sequences import Sequences, evaluate_sequences

if TYPE_CHECKING:
    from egret.model.checkpoint import Checkpoint

__all__ = ["evaluate_network"]


def evaluate_network(
    network: "Checkpoint | IntegerNetwork",
    inputs: np.ndarray | Sequences,
    *,
    native: bool = False,
    batch: int = 1,
    reset_every: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Evaluation:
    """Run a text, or sequences, through a network.

    Parameters
    ----------
    network : Checkpoint or IntegerNetwork
    inputs : np.ndarray of int, shape [N + 1], or Sequences
        As the network takes.
    native : bool
        Whether an integer network runs as machine code.
    batch : int
        Streams that a text is cut into.
    reset_every : int or None
        Of a text, steps behind which the carried state becomes zero again; not with ``native``.
    progress : callable, optional
        Called as ``progress(done, total)``, both in predictions, or in sequences.

    Returns
    -------
    Evaluation
        Of sequences a `SequenceEvaluation`.

    Raises
    ------
    InputError
        The text is too short for ``batch``, an option is for a text, or there is no C++ compiler, with ``native``.
    """
    if isinstance(inputs, Sequences) and (batch != 1 or reset_every is not None):
        raise InputError("--batch and --reset-every are for a text, not for sequences")
    if isinstance(network, IntegerNetwork):
        engine = NativeEngine(network) if native else IntegerEngine(network)
        columns, readout, integers = integer_columns(network), integer_readout(network), True
    else:
        engine, integers = FloatEngine(network), False
        columns, readout = checkpoint_columns(network), checkpoint_readout(network)
    if isinstance(inputs, Sequences):
        return evaluate_sequences(engine, columns, readout, inputs, integers=integers, progress=progress)
    if isinstance(engine, NativeEngine):
        return engine.evaluate(inputs, batch=batch, progress=progress)
    options = {"readout": readout, "batch": batch, "reset_every": reset_every}
    return evaluate(engine, columns, inputs, **options, progress=progress)
