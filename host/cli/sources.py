"""What a user names, a checkpoint, an integer network, an image or a text, as what a command needs."""

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from egret.host.cli.show import working
from egret.model.errors import InputError, needs

if TYPE_CHECKING:
    import numpy as np

    from egret.boards.definition import BoardDefinition
    from egret.model.checkpoint import Checkpoint
    from egret.model.compiler.configuration import Configuration
    from egret.model.compiler.image import Image
    from egret.model.integer import IntegerNetwork
    from egret.model.tokens import Vocabulary

__all__ = ["Source", "board_named"]


class Source:
    """A checkpoint directory, an integer network's file, or an image; read and compiled where that is needed.

    Parameters
    ----------
    name : str or Path
        Path of it.
    core : dict of str to Any
        Options of `egret.model.compiler.compile.configuration_for` for the core; a ``weight_bytes`` of 0 stands for a
        memory that is just large enough.
    board : BoardDefinition or None
        Board whose core it is for: a checkpoint is quantised as that board wants it, and the memories are its own.
    parts : bool
        Whether the image of a part of a network is accepted (`egret.model.integer.split`), which has no read-out.
    """

    def __init__(
        self,
        name: str | Path,
        core: dict[str, Any] | None = None,
        board: "BoardDefinition | None" = None,
        *,
        parts: bool = False,
    ) -> None:
        from egret.model.compiler.configuration import TARGETS

        self._path, self._core, self._board, self._parts = Path(name), core or {}, board, parts
        self.options: dict[str, Any] = (TARGETS[board.target] if board else {}) | self._core
        self.options["weight_bytes"] = self.options.get("weight_bytes") or None

    @cached_property
    def _compiled(self) -> "Image | None":
        """The image where that is what was named."""
        from egret.model.compiler.image import MAGIC, Image

        if self._path.is_dir():
            return None
        try:
            with open(self._path, "rb") as file:
                image = Image.load(self._path) if file.read(len(MAGIC)) == MAGIC else None
        except OSError as error:
            raise InputError(
                f"{self._path}: cannot read it: {error.strerror}; expected a checkpoint directory, an integer network "
                "or an image"
            ) from error
        if image is not None and not image.readout_bias and not self._parts:
            raise self._is_a_part("has no read-out")
        return image

    def _is_a_part(self, what):
        """The error of an image that lacks something."""
        return InputError(
            f"{self._path}: the image of a part of a network, which {what}; give the whole network: a checkpoint, an "
            "integer network, or the image of all its layers and the read-out"
        )

    @cached_property
    def checkpoint(self) -> "Checkpoint":
        """The float network; raises `InputError` where no checkpoint directory was named."""
        from egret.model.checkpoint import load_checkpoint

        return load_checkpoint(self._path)

    @cached_property
    def network(self) -> "IntegerNetwork":
        """The integer network, quantised now from a checkpoint."""
        if self._path.is_dir():
            from egret.model.quantise import quantise

            return quantise(self.checkpoint, **(self._board.quantised if self._board else {}))
        if self._compiled is not None:
            from egret.model.compiler.unpack import read_image

            return read_image(self._compiled)
        from egret.model.integer_file import load_integer

        return load_integer(self._path)

    @property
    def vocabulary(self) -> "Vocabulary":
        """Of the network; raises `InputError` where its input is events."""
        if self._path.is_dir():
            return self.checkpoint.vocabulary
        self.refuse_events()
        assert self.network.vocabulary is not None
        return self.network.vocabulary

    def refuse_events(self) -> None:
        """Raise `InputError` where a later part of a network was named, whose input is events."""
        if self._compiled is not None and self._compiled.configuration.takes_events:
            raise self._is_a_part("takes events, not tokens")

    @cached_property
    def image(self) -> "Image":
        """What was named, or the network compiled now; raises `InputError` where it is compiled for another core."""
        if self._compiled is None:
            return self.compile()
        if self._board is not None and self._core:
            raise InputError(
                f"{self._path}: an image is compiled already; give its checkpoint, or leave --lanes, --weight-bytes "
                "and --folded out"
            )
        for name, value in self._core.items():
            compiled = getattr(self._compiled.configuration, name)
            if name == "readout":
                compiled = compiled is not None
            if compiled != value:
                raise InputError(
                    f"{self._path}: the image is compiled for {name} {compiled}, not {value}; give its checkpoint"
                )
        return self._compiled

    @property
    def configuration(self) -> "Configuration":
        """Of the core: that of `image`, which is not compiled for it."""
        from egret.model.compiler.compile import configuration_for

        return configuration_for(self.network, **self.options) if self._compiled is None else self.image.configuration

    def compile(self) -> "Image":
        """Compile the network now, even where an image was named."""
        from egret.model.compiler.compile import compile_image, configuration_for

        with working("compiling the image"):
            return compile_image(self.network, configuration_for(self.network, **self.options))

    def ids(self, text: str | None, tokens: int | None) -> "np.ndarray":
        """Tokens to run.

        Parameters
        ----------
        text : str or None
            Path of a text; None stands for one that the integer network writes itself.
        tokens : int or None
            Predictions to make; all of a text where it is None.

        Returns
        -------
        np.ndarray of int32, shape [tokens + 1]
            The first one is not predicted.

        Raises
        ------
        InputError
            The text cannot be read, has other tokens than the network, or has too few; or there is none, and no
            read-out that could write one.
        """
        if text is None:
            if self.network.readout_bias is None:
                raise self._is_a_part("has no read-out to write a text with")
            from egret.host.measure import sample

            with working("writing a text"):
                return sample(self.network, (tokens or 0) + 1)
        from egret.model.tokens import read_text

        vocabulary, content = self.vocabulary, read_text(text)
        try:
            ids = vocabulary.encode(content)
        except InputError as error:
            raise InputError(f"{text}: {error}") from error
        if tokens is None:
            return ids
        if not 1 <= tokens < len(ids):
            raise InputError(f"{text}: --tokens must be from 1 to {len(ids) - 1}, the text's predictions, not {tokens}")
        return ids[: tokens + 1]


def board_named(name: str, core: Iterable[str], *more: str, what: str = "--board") -> "BoardDefinition":
    """Find the board of a name.

    Parameters
    ----------
    name : str
    core : iterable of str
        Names of the options of the core that are given beside it.
    *more : str
        Options that are accepted beside those that every command for a board accepts.
    what : str
        What needs the tables of boards, for the message where these are not installed.

    Returns
    -------
    BoardDefinition

    Raises
    ------
    InputError
        There is no such board, the tables are not installed, or the board decides what an option would.
    """
    accepted = ("lanes", *more, "folded_tokens", "readout")
    if not set(core) <= set(accepted):
        flags = [f"--{option.removesuffix('_tokens').replace('_', '-')}" for option in accepted]
        which = f"{', '.join(flags[:-1])} and {flags[-1]}"
        raise InputError(f"--board has a core of its own: of its options only {which} go with it")
    with needs("amaranth_boards", "'egret-fpga[build]'", what):
        from egret.boards.catalogue import board_named

        return board_named(name)
