"""What all tests of training share: one thread, texts, and kernels that are interpreted where there is no GPU."""

import os

import pytest
import torch

from tests.support.training import texts

__all__ = ["texts"]

if not torch.cuda.is_available():
    # Before Triton is imported: it then runs kernels on the CPU, step by step.
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
