"""A network and its core, from Python: float, integer, simulated, on a board. The commands are made of this.

>>> network = Network("model/demo/network", lanes=8)
>>> network.evaluate("model/demo/valid.txt", tokens=1000).perplexity
>>> network.measure("model/demo/valid.txt", tokens=100).cycles_per_token
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from egret.host.opening import board_named, open_board
from egret.host.progress import progress_bar, working
from egret.model.errors import InputError, needs
from egret.model.files import json_text

if TYPE_CHECKING:
    import numpy as np

    from egret.boards.design import Design
    from egret.host.measure import Measurement
    from egret.host.native import NativeSession
    from egret.host.session import Session
    from egret.host.speed import Speed
    from egret.host.streaming import SequenceStream, Stream
    from egret.model.checkpoint import Checkpoint
    from egret.model.compiler.configuration import Configuration
    from egret.model.compiler.image import Image
    from egret.model.evaluate import Evaluation
    from egret.model.integer import IntegerNetwork
    from egret.model.sequences import Sequences
    from egret.model.tokens import Vocabulary
    from egret.sim.lockstep import Result

    Inputs = str | Path | Sequence[int] | np.ndarray | Sequences

__all__ = ["Network"]


class Network:
    """A network in every form that it takes, and the core that runs it; each is made when it is first asked for.

    Long, as all that a user can ask of a network is found here; what does it is elsewhere.

    Parameters
    ----------
    source : str, Path, Checkpoint, IntegerNetwork or Image
        The network, or the path of a checkpoint directory, of an integer network's file, or of an image.
    board : str or None
        Name of the board whose core it is for: a checkpoint is quantised as that board wants it, and the memories are
        its own.
    line : str or None
        What carries the bytes of the board's link, ``"uart"`` or ``"usb"``; as the board has it by default.
    parts : bool
        Whether the image of a part of a network is accepted (`egret.model.integer.split`), which has no read-out.
    **core : Any
        Options of `egret.model.compiler.compile.configuration_for` for the core, such as ``lanes=8`` or
        ``store="sdram"``; a ``weight_bytes`` of 0 stands for a memory that is just large enough.

    Attributes
    ----------
    options : dict of str to Any
        Of the core: the board's and ``core``.

    Raises
    ------
    InputError
        There is no such board or line, or the board decides one of the options. What cannot be read, quantised or
        compiled is refused where it is first asked for.
    """

    def __init__(
        self,
        source: "str | Path | Checkpoint | IntegerNetwork | Image",
        *,
        board: str | None = None,
        line: str | None = None,
        parts: bool = False,
        **core: Any,
    ) -> None:
        from egret.model.checkpoint import Checkpoint
        from egret.model.compiler.configuration import TARGETS
        from egret.model.integer import IntegerNetwork

        self._path = Path(source) if isinstance(source, str | Path) else Path("network")
        self._is_checkpoint, self._parts = isinstance(source, Checkpoint), parts
        if isinstance(source, Checkpoint):
            self.checkpoint = source
        elif isinstance(source, IntegerNetwork):
            self.integer, self._compiled = source, None
        elif not isinstance(source, str | Path):
            self._compiled = self._whole(source)
        else:
            self._is_checkpoint = self._path.is_dir()
        self._core, self._name = core, board
        if board is None and line is not None:
            raise InputError("--line is the line of a board: give --board, too")
        self._board = None if board is None else board_named(board, core, "weight_bytes", line=line)
        self.options: dict[str, Any] = (TARGETS[self._board.target] if self._board else {}) | core
        self.options["weight_bytes"] = self.options.get("weight_bytes") or None

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Any], vocabulary: "Vocabulary", *, reset: str = "before", **options: Any
    ) -> Self:
        """A network from the state dict of an EGRU.

        Parameters
        ----------
        tensors : mapping of str to tensor
            Of PyTorch or numpy, with the names and shapes of a checkpoint (docs/checkpoint.md), from which the sizes
            follow.
        vocabulary : Vocabulary
        reset : str
            See `egret.model.checkpoint.NetworkConfiguration`.
        **options : Any
            As for the class.

        Returns
        -------
        Network

        Raises
        ------
        InputError
            A tensor is missing, superfluous, of another shape, or not finite.
        """
        from egret.model.checkpoint import Checkpoint

        arrays = {name: _array(tensor) for name, tensor in tensors.items()}
        return cls(Checkpoint.from_tensors(arrays, vocabulary, reset=reset), **options)

    @cached_property
    def _compiled(self) -> "Image | None":
        """The image where that is what was named."""
        from egret.model.compiler.image import MAGIC, Image

        if self._is_checkpoint:
            return None
        try:
            with open(self._path, "rb") as file:
                return self._whole(Image.load(self._path)) if file.read(len(MAGIC)) == MAGIC else None
        except OSError as error:
            raise InputError(
                f"{self._path}: cannot read it: {error.strerror}; expected a checkpoint directory, an integer network "
                "or an image"
            ) from error

    def _whole(self, image):
        """An image, unless it is a part that nobody wants."""
        if not image.readout_bias and not self._parts:
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
    def integer(self) -> "IntegerNetwork":
        """The integer network, quantised now from a checkpoint."""
        if self._is_checkpoint:
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
        if self._is_checkpoint:
            return self.checkpoint.vocabulary
        if self.integer.vocabulary is None:
            raise self._is_a_part("takes events, not tokens")
        return self.integer.vocabulary

    def refuse_numbers(self) -> None:
        """Raise `InputError` where the network's input is numbers, not tokens."""
        if self.vocabulary.kind == "number":
            raise InputError(
                f"{self._path}: takes numbers, not a text; sequences of them (.npz) are for --data of egret evaluate, "
                "simulate, bench, run, estimate and explain"
            )

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

        return configuration_for(self.integer, **self._shape()) if self._compiled is None else self.image.configuration

    def compile(self) -> "Image":
        """Compile the network now, even where an image was named."""
        from egret.model.compiler.compile import compile_image, configuration_for

        with working("compiling the image"):
            return compile_image(self.integer, configuration_for(self.integer, **self._shape()))

    def _shape(self):
        """Options of the core. One whose input is numbers makes no read-out, though a board's does by default."""
        boards_own = self.integer.takes_events and "readout" not in self._core
        return {name: value for name, value in self.options.items() if not (boards_own and name == "readout")}

    def ids(
        self, text: "str | Path | Sequence[int] | np.ndarray | None" = None, tokens: int | None = None
    ) -> "np.ndarray":
        """Tokens to run.

        Parameters
        ----------
        text : str, Path, sequence of int or None
            Path of a text, or its tokens; None stands for a text that the integer network writes itself.
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
            if self.integer.readout_bias is None:
                raise self._is_a_part("has no read-out to write a text with")
            self.refuse_numbers()
            from egret.host.measure import sample

            with working("writing a text"):
                return sample(self.integer, (tokens or 0) + 1)
        import numpy as np

        if not isinstance(text, str | Path):
            ids, text = np.asarray(text), "text"
        else:
            ids = self.vocabulary.read(text)
        if tokens is None:
            return ids
        if not 1 <= tokens < len(ids):
            raise InputError(f"{text}: --tokens must be from 1 to {len(ids) - 1}, the text's predictions, not {tokens}")
        return ids[: tokens + 1]

    def inputs(
        self,
        text: "str | Path | Sequence[int] | np.ndarray | None" = None,
        data: "str | Path | Sequences | None" = None,
        count: int | None = None,
    ) -> "np.ndarray | Sequences":
        """What is to enter, of either kind.

        Parameters
        ----------
        text : str, Path, sequence of int or None
            As for `ids`.
        data : str, Path, Sequences or None
            Path of a ``.npz`` (`egret.model.sequences`), or what it holds.
        count : int or None
            Predictions to make, or sequences to run, from the first on; all where it is None.

        Returns
        -------
        np.ndarray of int32, shape [count + 1], or Sequences

        Raises
        ------
        InputError
            Both are given, what `ids` refuses, or the sequences are not for the network, or not so many.
        """
        if data is None:
            return self.ids(text, count)
        if text is not None:
            raise InputError("--text and --data: give one of them, a text or sequences of numbers (.npz)")
        return self._sequences(data, count)

    def _given(self, source, count):
        """`inputs` whose kind is the network's; without a source a text of its own, or numbers that are drawn."""
        from egret.model.sequences import Sequences

        if not isinstance(source, Sequences):
            vocabulary = self.checkpoint.vocabulary if self._is_checkpoint else self.integer.vocabulary
            if vocabulary is None or vocabulary.kind != "number":
                return self.ids(source, count)
        return self._sequences(source, count)

    def _sequences(self, data, count=None):
        """Of a file, or given; without either one of ``count`` steps, drawn: half of its numbers are zeros."""
        from egret.model.sequences import Sequences

        if self.vocabulary.kind != "number":
            raise InputError(f"{self._path}: takes a text, not sequences of numbers; give a text (--text)")
        shape = self.checkpoint.configuration if self._is_checkpoint else None
        inputs = self.integer.embedding.shape[1] if shape is None else shape.embedding_size
        if data is None:
            return _drawn(count or 1, inputs)
        found = data if isinstance(data, Sequences) else Sequences.load(data)
        try:
            found = found.first(count)
            found.check(inputs, self.vocabulary.size)
        except InputError as error:
            raise InputError(f"{'data' if isinstance(data, Sequences) else data}: {error}") from error
        return found

    def evaluate(
        self,
        inputs: "Inputs | None" = None,
        *,
        tokens: int | None = None,
        engine: str = "integer",
        batch: int = 1,
        reset_every: int | None = None,
    ) -> "Evaluation":
        """Perplexity, activity and operations over a text, or accuracy over sequences, without a core.

        Parameters
        ----------
        inputs : str, Path, sequence of int, Sequences or None
            As the network takes: a text as for `ids`; or sequences, as ``data`` of `inputs`, or numbers that are drawn.
        tokens : int or None
            Predictions to make, or sequences to run; all of them by default.
        engine : str
            ``"float"``, ``"integer"``, or ``"native"``, which gives the same integers sooner.
        batch : int
            Streams that the text is cut into; the state is zero at the start of each.
        reset_every : int or None
            Steps behind which the carried state, not the events, becomes zero again, as EvNN evaluates every 70; not
            for the engine ``native``.

        Returns
        -------
        egret.model.evaluate.Evaluation
            Of sequences an `egret.model.sequences.SequenceEvaluation`.

        Raises
        ------
        InputError
            No such engine, no checkpoint for the engine ``float``, no compiler for ``native``, or bad inputs or batch.
        """
        from egret.host.evaluation import evaluate_network

        if engine not in ("float", "integer", "native"):
            raise InputError(f"engine must be 'float', 'integer' or 'native', not {engine!r}")
        if engine == "native" and reset_every is not None:
            raise InputError("--reset-every is for the engines float and integer, not for native")
        network, found = self.checkpoint if engine == "float" else self.integer, self._given(inputs, tokens)
        with progress_bar(f"{engine} network") as progress:
            options: dict[str, Any] = {"native": engine == "native", "batch": batch, "reset_every": reset_every}
            return evaluate_network(network, found, **options, progress=progress)

    def measure(
        self,
        inputs: "Inputs | None" = None,
        *,
        tokens: int | None = None,
        batch: int = 1,
        simulator: str = "verilator",
        **where: Any,
    ) -> "Measurement":
        """Run a text or sequences on the core: cycles, and each answer compared with the integer network.

        Parameters
        ----------
        inputs, tokens
            As for `evaluate`.
        batch : int
            Streams that the text is cut into, each for a virtual board of its own; all run at the same time.
        simulator : str
            ``"verilator"``, for the virtual board; or ``"icarus"``, which compares every stream inside the core, too,
            and is slow; not for sequences, which `simulate` takes.
        **where : Any
            Arguments of `open_board`; ``trace="core.vcd"`` keeps a waveform.

        Returns
        -------
        egret.host.measure.Measurement

        Raises
        ------
        InputError
            Bad inputs or batch, or a tool that is missing.
        egret.sim.lockstep.LockstepError
            The core differs, under Icarus.
        """
        from egret.host.measure import measure
        from egret.model.evaluate import stream_starts
        from egret.model.sequences import Sequences

        found = self._given(inputs, tokens)
        if isinstance(found, Sequences):
            if batch != 1 or simulator == "icarus":
                raise InputError("--batch and --simulator icarus are for a text, not for sequences")
        elif simulator == "icarus":
            if batch != 1:
                raise InputError(f"under Icarus Verilog one core runs: --batch must be 1 there, not {batch}")
            return self._measure_under_icarus(found)
        else:
            stream_starts(found, batch)  # before boards are built
        with ExitStack() as opened:
            boards = [opened.enter_context(self._loaded(**where)) for _ in range(batch)]
            with progress_bar("simulated core" if where.get("port") is None else "board") as progress:
                return measure(boards, self.image, self.integer, found, progress=progress)

    @contextmanager
    def _loaded(self, **where):
        """A board that has the image, until the context ends."""
        with open_board(self.image.configuration, **where) as board:
            with progress_bar("loading") as progress:
                board.load(self.image, progress=progress)
            yield board

    def _measure_under_icarus(self, ids):
        from egret.host.measure import Measurement

        evaluation = self.evaluate(ids)
        begin = time.perf_counter()
        counters = self.simulate(ids, tokens=len(ids) - 1, simulator="icarus").counters
        seconds = time.perf_counter() - begin
        c = self.image.configuration
        return Measurement(
            evaluation, 0, 0, None, counters, c.lanes, c.multipliers, bytes_sent=0, bytes_received=0, seconds=seconds
        )

    def stream(
        self, inputs: "Inputs | None" = None, *, tokens: int | None = None, **where: Any
    ) -> "Stream | SequenceStream":
        """Stream a text, or sequences, through the core without a comparison, as fast as the board is.

        Parameters
        ----------
        inputs, tokens
            As for `evaluate`.
        **where : Any
            Arguments of `open_board`.

        Returns
        -------
        egret.host.streaming.Stream or egret.host.streaming.SequenceStream

        Raises
        ------
        InputError
            Bad inputs, or a tool that is missing.
        """
        from egret.host.streaming import stream
        from egret.model.readout import ReadOut

        found = self._given(inputs, tokens)
        with self._loaded(**where) as board:
            with progress_bar("streaming") as progress:
                return stream(board, ReadOut(self.integer), found, progress=progress)

    def simulate(
        self,
        inputs: "Inputs | None" = None,
        *,
        tokens: int = 20,
        simulator: str = "verilator",
        seed: int = 0,
        idle: float = 0.0,
        backpressure: float = 0.0,
        waves: str | Path | None = None,
    ) -> "Result":
        """Run a text or sequences through the core alone, and compare every stream inside it with the integer network.

        Parameters
        ----------
        inputs
            As for `evaluate`; without them what enters a later part of a network is drawn, too. The state is not zeroed
            between sequences.
        tokens : int
            Steps to run.
        simulator : str
            ``"verilator"`` or ``"icarus"``.
        seed : int
            Of idle cycles and backpressure.
        idle, backpressure : float
            Probability, each cycle, that no token is offered, or that the output is not taken.
        waves : str, Path or None
            Waveform to write: VCD from Verilator, FST from Icarus. Save files of GTKWave and Surfer come beside it.

        Returns
        -------
        egret.sim.lockstep.Result

        Raises
        ------
        InputError
            A bad text, or a tool that is missing.
        egret.sim.lockstep.LockstepError
            The first divergence: stream, step, layer and place.
        """
        with needs("cocotb_tools", "cocotb==2.1.*", "this simulation"):
            from egret.sim.lockstep import run
        from egret.model.sequences import Sequences

        if inputs is None and not self._is_checkpoint and self.integer.vocabulary is None:
            found = _drawn(tokens, self.integer.embedding.shape[1])
        else:
            found = self._given(inputs, tokens if inputs is None else None)
        steps = found.values.reshape(-1, found.inputs) if isinstance(found, Sequences) else found[:-1]
        if not 1 <= tokens <= len(steps):
            name = inputs if isinstance(inputs, str | Path) else "inputs"
            raise InputError(f"{name}: --tokens must be from 1 to {len(steps)}, the steps there are, not {tokens}")
        options = {"simulator": simulator, "seed": seed, "idle": idle, "backpressure": backpressure, "waves": waves}
        return run(self.image, steps[:tokens], **options)

    def generate(
        self,
        prompt: str | None = None,
        tokens: int = 400,
        *,
        temperature: float = 0.8,
        top_k: int | None = None,
        by_factors: bool = False,
        seed: int = 1,
        stop: str | None = None,
        engine: str = "rtl",
        check: bool = True,
        write: Callable[[str], Any] | None = None,
        **where: Any,
    ) -> "Session | NativeSession":
        """Generate text on the core, or in its integers on this processor.

        Parameters
        ----------
        prompt : str or None
            Text to begin with; the end of a line by default.
        tokens : int
            To generate.
        temperature : float
            0 takes the most probable token.
        top_k : int or None
            Draw from so many tokens, the most probable ones; 1 to 64.
        by_factors : bool
            Apply the temperature to a word's group and to the word in it.
        seed : int
            The same seed gives the same text.
        stop : str or None
            End behind this token, if it comes.
        engine : str
            ``"rtl"``, for the core on the board that `open_board` opens; or ``"native"``.
        check : bool
            Compare with the integer network.
        write : callable or None
            Called with each piece of text as it comes.
        **where : Any
            Arguments of `open_board`.

        Returns
        -------
        egret.host.session.Session or egret.host.native.NativeSession
            Its ``text`` begins with the prompt.

        Raises
        ------
        InputError
            A parameter is out of range, or a tool is missing.
        """
        from egret.host.native import generate_natively
        from egret.host.session import generate_text, prompt_ids, prompt_text, stop_token
        from egret.model.readout import ReadOut, Sampler

        if engine not in ("rtl", "native"):
            raise InputError(f"engine must be 'rtl' or 'native', not {engine!r}")
        self.refuse_numbers()
        image = self.image if engine == "rtl" else None
        ids = prompt_ids(self.vocabulary, prompt)
        end = None if stop is None else stop_token(self.vocabulary, stop)
        readout = ReadOut(self.integer)
        sampler = Sampler(readout, temperature=temperature, top_k=top_k, by_factors=by_factors, seed=seed)
        pieces = []

        def keep(piece):
            pieces.append(piece)
            if write is not None:
                write(piece)

        if prompt is not None:
            keep(prompt_text(self.vocabulary, prompt))
        if image is None:
            session = generate_natively(self.integer, ids, tokens, sampler, keep, check=check, stop=end)
        else:
            with self._loaded(**where) as board:
                network = self.integer if check else None
                session = generate_text(board, image, network, ids, tokens, sampler, keep, stop=end)
        session.text = "".join(pieces)
        return session

    def design(self, *, hertz: float | None = None, seed: int = 1, sdram: str | None = None) -> "Design":
        """The design of the board, for `build`.

        Parameters
        ----------
        hertz : float or None
            Clock of the core instead of the board's.
        seed : int
            Of the placement.
        sdram : str or None
            The SDRAM that the board carries, such as ``"is42s16160g-7"``; any of those known by default.

        Returns
        -------
        egret.boards.design.Design

        Raises
        ------
        InputError
            The network has no ``board``, or what the board cannot do was asked for.
        """
        from egret.boards.design import generate

        if self._board is None:
            raise InputError("a design is for a board: give one, such as board='ulx3s-85f'")
        with working("generating the design"):
            return generate(self._board, self.image.configuration, hertz=hertz, seed=seed, sdram=sdram)

    def build(
        self, directory: str | Path, *, design: "Design | None" = None, speed: "Speed | None" = None
    ) -> dict[str, Any]:
        """Build the bitstream of the board: minutes.

        Parameters
        ----------
        directory : str or Path
            Gets bitstream, image and report.
        design : egret.boards.design.Design or None
            What `design` made, of this very network; made with its defaults by default.
        speed : egret.host.speed.Speed or None
            To write into the report.

        Returns
        -------
        dict of str to Any
            What ``egret build --json`` prints: ``megahertz``, ``met``, ``used``, ``files`` and more. No bitstream is
            written where the clock is missed.

        Raises
        ------
        InputError
            It does not fit, a tool is missing or failed, or the directory cannot be written.
        """
        from egret.boards.build import publish, run, working_directory
        from egret.boards.estimate import estimate
        from egret.boards.tools import Tools

        design = design or self.design()
        board, target, name = design.board, Path(directory), self._name or ""
        tools, estimated = Tools.find(board.device.family), estimate(design)
        with working_directory(target) as aside, working("synthesis") as tell:
            result = run(design, tools, aside, progress=tell)
            summary = {
                "board": name,
                "source": str(self._path),
                "configuration": json.loads(self.image.configuration.to_json()),
                "digest": self.image.configuration.digest.hex(),
                "seed": design.seed,
                "megahertz": result.megahertz,
                "wanted_megahertz": result.wanted_megahertz,
                "met": result.met,
                "line": board.line,
                "baud": board.baud,
                "used": result.used,
                "available": {key: board.device.capacity[key] for key in result.used},
                "critical_path": result.critical_path,
                "seconds": {key: round(value, 1) for key, value in result.seconds.items()},
                "estimate": {"used": estimated.used, "seconds": round(estimated.seconds)},
                "tools": tools.paths,
                "speed": speed and speed.summary(),
            }
            (aside / "report.json").write_text(json_text(summary, indent=1) + "\n")
            self.image.save(aside / "image")
            files = publish(result, aside, target, name + board.suffix)
        return summary | {"files": {key: str(path) for key, path in files.items()}}


def _drawn(steps, inputs):
    """A sequence of so many ``steps``, which asks for class 0: half of its numbers are zeros."""
    import numpy as np

    from egret.model.sequences import Sequences

    numbers = np.random.default_rng(0).integers(-255, 256, (1, steps, inputs))
    return Sequences.of(numbers.clip(0).astype(np.uint8), np.zeros(1, np.int32))


def _array(tensor):
    """PyTorch's or numpy's tensor as float32, laid out row by row."""
    import numpy as np

    plain = tensor.detach().cpu().float().numpy() if hasattr(tensor, "detach") else tensor
    return np.array(plain, dtype=np.float32, order="C")
