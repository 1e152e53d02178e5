"""The progress bar of a training."""

from typing import Self

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["Bar"]


class Bar:
    """Epoch, tokens a second, loss, what the last validation found, and the time left.

    Parameters
    ----------
    shown : bool
    epochs : int
    done : int
        Epochs done before.
    """

    def __init__(self, shown: bool, epochs: int, done: int):
        self._next = 0.0
        self._progress = None
        if shown:
            text = "epoch {task.completed:.1f}/{task.total:.0f}  {task.fields[speed]:>9} tokens/s  loss "
            text += "{task.fields[loss]}  valid {task.fields[valid]}"
            self._progress = Progress(BarColumn(), TextColumn(text), TimeRemainingColumn())
            self._task = self._progress.add_task("", total=epochs, completed=done, speed="-", loss="-", valid="-")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def due(self, now: float) -> bool:
        """Whether it is time, `now`, to show something; reading the loss waits for the GPU, so this is seldom."""
        if now < self._next:
            return False
        self._next = now + 1.0
        return True

    def show(self, epoch: float, loss: float, speed: float, valid: str) -> None:
        """Show how far it is: `epoch`, training `loss`, `speed` in tokens a second, what the `valid` text gave."""
        if self._progress is not None:
            self._progress.update(self._task, completed=epoch, speed=f"{speed:,.0f}", loss=f"{loss:.4f}", valid=valid)
