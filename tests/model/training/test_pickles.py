"""What `torch.save` writes: tensors and nothing else."""

import os
import tracemalloc

import numpy as np
import pytest
import torch

from egret.model.errors import InputError
from egret.model.training.pickles import read_state_dict


class Code:
    """What runs when a pickle is loaded without care."""

    def __reduce__(self):
        return (os.mkdir, ("made",))


def test_tensors_as_they_are(tmp_path):
    module = torch.nn.GRU(3, 4)
    torch.save(
        module.state_dict() | {"every": torch.arange(8.0)[::2], "half": torch.ones(2).bfloat16()}, tmp_path / "a"
    )
    found = read_state_dict(tmp_path / "a")
    assert (found["weight_ih_l0"] == module.weight_ih_l0.detach().numpy()).all()
    assert found["every"].tolist() == [0, 2, 4, 6] and found["half"].dtype == np.float32


def test_nothing_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"a": torch.ones(2), "b": Code()}, "a")
    with pytest.raises(InputError, match=r"a: not a state dict as torch.save\(module.state_dict\(\), FILE\) writes"):
        read_state_dict("a")
    assert os.listdir() == ["a"]


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(1).half().expand(1 << 40, 9), "would hold 9895604649984 numbers; its [0-9]+ bytes have at most so"),
        (torch.ones(2, 2).to_sparse(), "tensor 'a' must be dense floats, not torch.float32 torch.sparse_coo"),
        (torch.ones(2, dtype=torch.complex64), "tensor 'a' must be dense floats, not torch.complex64 torch.strided"),
        (torch.ones(2).to("meta"), "tensor 'a' must be dense floats"),
    ],
)
def test_tensors_that_are_not_accepted(tensor, message, tmp_path):
    torch.save({"a": tensor}, tmp_path / "a")
    with pytest.raises(InputError, match=f"^{tmp_path}/a: {message}"):
        read_state_dict(tmp_path / "a")


def test_parameters_are_tensors(tmp_path):
    torch.save({"a": torch.nn.Parameter(torch.ones(2))}, tmp_path / "a")
    assert read_state_dict(tmp_path / "a")["a"].tolist() == [1, 1]


@pytest.mark.parametrize("content", [torch.ones(2), {"model": {"a": torch.ones(2)}}, [torch.ones(2)]])
def test_what_is_no_state_dict(content, tmp_path):
    torch.save(content, tmp_path / "a")
    with pytest.raises(InputError, match="a: must hold tensors by name, a state dict, not "):
        read_state_dict(tmp_path / "a")
    (tmp_path / "a").write_bytes((tmp_path / "a").read_bytes()[:-30])
    with pytest.raises(InputError, match="not a state dict"):
        read_state_dict(tmp_path / "a")
    with pytest.raises(InputError, match="cannot read it"):
        read_state_dict(tmp_path / "none")


def test_a_length_that_the_file_does_not_have(tmp_path):
    """No room is made for it."""
    path = tmp_path / "model.pt"
    torch.save({"a": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    data = path.read_bytes()
    told = b"X\x01\x00\x00\x00a"
    assert told in data
    path.write_bytes(data.replace(told, b"X\xff\xff\xff\x7fa"))
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="not a state dict as torch.save"):
            read_state_dict(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
