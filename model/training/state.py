"""The training state: files from which a killed run goes on exactly where it last saved.

``training.json`` holds where the run is, its options and the names of the ``training-*`` files, which are pieces of one
safetensors file: parameters, optimiser, random numbers, carried state. New pieces are written before ``training.json``
is replaced to name them, so a kill at any moment leaves a whole state.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from egret.model.errors import InputError
from egret.model.files import json_text, write_aside
from egret.model.training.options import CHANGEABLE

__all__ = [
    "STATE", "Position", "carry_state", "optimiser_tensors", "put_tensors", "random_tensors", "read_state",
    "refuse_damage", "restore_optimiser", "restore_random", "write_state",
]  # fmt: skip

STATE = "training.json"
_VERSION = 2


@dataclass
class Position:
    """Where a run is, and how it came there.

    Parameters
    ----------
    epoch, segment, step : int
        Epochs done, segments done of the next one, segments done of all.
    summed : int
        Steps in the sums of loss and activity of this epoch.
    best_loss : float or None
        Validation loss of the network kept, nats a token; None where none is.
    best_activity : list of float or None
    best_accuracy : float or None
        Of the same validation; None of a text, too.
    seconds : float
        Wall time of all runs that led here.
    tokens_per_second : float
        Of the last epoch, training only.
    history : list of dict
        One an epoch.
    """

    epoch: int = 0
    segment: int = 0
    step: int = 0
    summed: int = 0
    best_loss: float | None = None
    best_activity: list[float] | None = None
    best_accuracy: float | None = None
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)


def _schedule(prune_at: Mapping[int, float]) -> dict[str, float]:
    return {str(epoch): sparsity for epoch, sparsity in prune_at.items()}


def write_state(
    directory: Path,
    position: Position,
    options: Mapping[str, Any],
    prune_at: Mapping[int, float],
    tensors: Mapping[str, torch.Tensor],
    *,
    averaged: int,
    shard_mib: int | None,
) -> None:
    """Write a training state, and remove the one before.

    Parameters
    ----------
    directory : Path
        Made where it lacks.
    position : Position
    options : dict
        By their unique names and by content, see `egret.model.training.options.by_content`.
    prune_at : dict of int to float
    tensors : dict of str to torch.Tensor
    averaged : int
        Updates of the averaged parameters, 0 where there are none.
    shard_mib : int or None
        Largest size of one file.

    Raises
    ------
    InputError
        If the directory cannot be written.
    """
    data = safetensors.torch.save({name: part.detach().cpu().contiguous().clone() for name, part in tensors.items()})
    size = len(data) if shard_mib is None else shard_mib << 20
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    names = [f"training-{position.step}-{number + 1:03}-of-{len(pieces):03}" for number in range(len(pieces))]
    content = {
        "version": _VERSION,
        "options": dict(options),
        "prune_at": _schedule(prune_at),
        **vars(position),
        "averaged": averaged,
        "files": names,
        "bytes": len(data),
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, piece in zip(names, pieces, strict=True):
            write_aside(directory / name, piece)
        write_aside(directory / STATE, json_text(content).encode())
        for path in (*directory.glob("training-*-of-*"), *directory.glob(".training*")):
            if path.name not in names:
                path.unlink()  # of the state before, or left half written by a kill
    except OSError as error:
        raise InputError(f"{directory}: cannot save the training state: {error.strerror or error}") from error


def read_state(
    directory: Path, options: Mapping[str, Any], prune_at: Mapping[int, float]
) -> tuple[Position, int, dict[str, torch.Tensor]] | None:
    """Read a training state.

    Parameters
    ----------
    directory : Path
    options : dict
        That the run goes on with, as for `write_state`; all but the `CHANGEABLE` ones must be those it began with.
    prune_at : dict of int to float
        Likewise.

    Returns
    -------
    position : Position
    averaged : int
    tensors : dict of str to torch.Tensor
        None instead of the three where there is no state.

    Raises
    ------
    InputError
        If the state is damaged or was made with other options.
    """
    path = directory / STATE
    if not path.exists():
        return None
    with refuse_damage(directory):
        content = {"best_accuracy": None} | json.loads(path.read_bytes())  # states had none at first
        data = b"".join((directory / name).read_bytes() for name in content["files"])
        if content["version"] != _VERSION:
            raise InputError(f"{path}: version {content['version']!r} is not supported; accepted is {_VERSION}")
        if len(data) != content["bytes"]:
            raise InputError(f"{path}: the state's files hold {len(data)} bytes, not {content['bytes']!r}")
        tensors = safetensors.torch.load(data)
        for name, value in options.items():
            if name not in CHANGEABLE and content["options"].get(name, value) != value:
                raise InputError(
                    f"{path}: training began with {name} = {content['options'].get(name)!r}, not {value!r}; "
                    "give the same options or another directory"
                )
        if content["prune_at"] != _schedule(prune_at):
            raise InputError(f"{path}: began with another pruning schedule; give the same one or another directory")
        position = Position(**{name: content[name] for name in vars(Position())})
        return position, content["averaged"], tensors
    return None


@contextlib.contextmanager
def refuse_damage(directory: Path) -> Iterator[None]:
    """Turn what a damaged state in `directory` brings about within into one line."""
    try:
        yield
    except InputError:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        safetensors.SafetensorError,
    ) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        message = f"{directory / STATE}: cannot resume from it ({reason}); remove it to start again"
        raise InputError(message) from error


def optimiser_tensors(model: torch.nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """What AdamW, the `optimiser` of a `model`, carries from step to step, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    tensors = {}
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            for key, value in optimiser.state.get(parameter, {}).items():
                if key == "exp_avg" and group["betas"][0] == 0:
                    continue  # it is the last gradient then, and never used again
                tensors[f"optimiser.{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
    return tensors


def restore_optimiser(
    model: torch.nn.Module, optimiser: torch.optim.Optimizer, tensors: Mapping[str, torch.Tensor]
) -> None:
    """Undo `optimiser_tensors`: give the `optimiser` of a `model` what `tensors` hold of it."""
    for name, parameter in model.named_parameters():
        state = {}
        for key in ("step", "exp_avg", "exp_avg_sq"):
            full = f"optimiser.{key}.{name}"
            if full in tensors:
                on = "cpu" if key == "step" and not parameter.is_cuda else parameter.device
                state[key] = tensors[full].to(on)
        if "step" in state:
            state.setdefault("exp_avg", torch.zeros_like(parameter))
            optimiser.state[parameter] = state


def random_tensors(device: torch.device) -> dict[str, torch.Tensor]:
    """State of PyTorch's generators, on the CPU and on a CUDA `device`."""
    tensors = {"random.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["random.cuda"] = torch.cuda.get_rng_state(device)
    return tensors


def restore_random(device: torch.device, tensors: Mapping[str, torch.Tensor]) -> None:
    """Undo `random_tensors` of a `device` with what `tensors` hold of it."""
    torch.set_rng_state(tensors["random.cpu"])
    if device.type == "cuda" and "random.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random.cuda"], device)


def carry_state(state: Sequence[Sequence[torch.Tensor]], after: Sequence[Sequence[torch.Tensor]]) -> None:
    """Copy the ``state`` ``after`` a segment into the tensors that the next one reads."""
    for old, new in zip(state, after, strict=True):
        for old_part, new_part in zip(old, new, strict=True):
            old_part.copy_(new_part)


def put_tensors(parameters: Mapping[str, torch.Tensor], into: Mapping[str, torch.Tensor]) -> None:
    """Copy ``parameters`` ``into`` the tensors of the same names."""
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(parameters[name])
