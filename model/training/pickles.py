"""Tensors from what ``torch.save`` writes. Only tensors are loaded: no code of the file is run."""

import io
from pathlib import Path

import numpy as np
import torch

from egret.model.errors import InputError

__all__ = ["read_state_dict"]


def read_state_dict(path: str | Path) -> dict[str, np.ndarray]:
    """The state dict in a file of PyTorch.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict of str to np.ndarray of float32

    Raises
    ------
    InputError
        The file cannot be read, or holds anything but tensors by name.
    """
    try:
        # Its bytes, since a file makes room for whatever length a pickle tells.
        data = Path(path).read_bytes()
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error
    except Exception as error:  # what a damaged file, or one that wants code to be run, brings about
        reason = " ".join(str(error).split()).partition(". ")[0]
        raise InputError(
            f"{path}: not a state dict as torch.save(module.state_dict(), FILE) writes it: {reason}"
        ) from error
    if not isinstance(content, dict) or not all(torch.is_tensor(one) for one in content.values()):
        raise InputError(
            f"{path}: must hold tensors by name, a state dict, not {type(content).__name__}"
            + (f" of {', '.join(map(str, content))}" if isinstance(content, dict) else "")
        )
    size, numbers = len(data), 0
    for name, tensor in content.items():
        if tensor.layout != torch.strided or not tensor.is_floating_point() or tensor.is_quantized or tensor.is_meta:
            raise InputError(f"{path}: tensor {str(name)!r} must be dense floats, not {tensor.dtype} {tensor.layout}")
        numbers += tensor.numel()
    if numbers > size:  # a tensor may show one number of the file many times; half of a file of float16 is shown twice
        raise InputError(f"{path}: would hold {numbers} numbers; its {size} bytes have at most so many")
    return {str(name): tensor.detach().to(torch.float32).numpy() for name, tensor in content.items()}
