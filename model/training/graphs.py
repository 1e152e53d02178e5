"""Steps of a training as CUDA graphs, which spare the launches of their many small kernels."""

from collections.abc import Callable, Hashable, Sequence

import torch

__all__ = ["Graphs"]

_GRAPH_AFTER = 2  # steps that run before any is captured, so that lazily made things exist


class Graphs:
    """Computations that are captured at their first run and replayed from then on; on a CPU each just runs.

    Parameters
    ----------
    device : torch.device
    """

    def __init__(self, device: torch.device):
        self._on_gpu = device.type == "cuda"
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, list[torch.Tensor]]] = {}
        self._pool = None
        self._steps = 0

    def clear(self) -> None:
        """Forget all graphs, because what they computed has changed."""
        self._graphs.clear()
        self._pool = None  # it went with the last of them

    def run_step(self, key: Hashable, compute: Callable[..., None], inputs: Sequence[torch.Tensor]) -> None:
        """Run an optimiser step.

        Parameters
        ----------
        key : hashable
            Equal for computations that are equal but for the values of `inputs`.
        compute : callable
            Called as ``compute(*inputs)``; what it changes lies in tensors that stay where they are.
        inputs : sequence of torch.Tensor
            Copied for the graph, which reads its copies.
        """
        ready = self._steps >= _GRAPH_AFTER
        self._steps += 1
        if ready and self._on_gpu:
            self._replay(key, compute, inputs)
        else:
            compute(*inputs)

    def run(
        self, key: Hashable, compute: Callable[..., None], inputs: Sequence[torch.Tensor], kept: Sequence[torch.Tensor]
    ) -> None:
        """Run something else, as a graph too once there has been an optimiser step or two.

        Parameters
        ----------
        key, compute, inputs
            As for `run_step`; called as ``compute(*inputs, *kept)``.
        kept : sequence of torch.Tensor
            What it changes.
        """
        if self._on_gpu and self._steps >= _GRAPH_AFTER:
            own = self._replay(key, compute, [*inputs, *kept])[len(inputs) :]
            for ours, theirs in zip(kept, own, strict=True):
                ours.copy_(theirs)
        else:
            compute(*inputs, *kept)

    def _replay(
        self, key: Hashable, compute: Callable[..., None], inputs: Sequence[torch.Tensor]
    ) -> list[torch.Tensor]:
        if key not in self._graphs:
            own = [torch.empty_like(part) for part in inputs]
            graph = torch.cuda.CUDAGraph()
            torch.cuda.synchronize()
            with torch.cuda.graph(graph, pool=self._pool):
                compute(*own)
            self._pool = self._pool or graph.pool()
            self._graphs[key] = graph, own
        graph, own = self._graphs[key]
        for ours, theirs in zip(own, inputs, strict=True):
            ours.copy_(theirs)
        graph.replay()
        return own
