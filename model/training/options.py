"""Options of a training, in groups that are the tables of a configuration file.

A configuration file (TOML; those in ``model/configs`` but for ``study-*.toml``) has the tables ``[text]``,
``[network]``, ``[readout]``, ``[training]``, ``[dropout]``, ``[events]``, ``[distillation]``, ``[rounding]`` and
``[machine]``, one for each group of `TrainingOptions`. Names are unique, so that ``--set`` and a study's
``set`` need no group: ``epochs`` or ``training.epochs``, ``dropout_words`` or ``dropout.words``. Tables are for the
reader: a field is accepted in any.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

from egret.model.checkpoint import CELLS, RESETS, model_file
from egret.model.errors import InputError
from egret.model.files import digest, read_toml
from egret.model.groups import MOST_ROWS
from egret.model.tokens import KINDS
from egret.model.training.cells import SLOPE, WIDTH
from egret.model.training.dropout import Dropout

__all__ = [
    "CHANGEABLE", "PATHS", "DistillationOptions", "EventOptions", "LoopOptions", "MachineOptions", "NetworkOptions",
    "ReadoutOptions", "RoundingOptions", "TextOptions", "TrainingOptions", "by_content", "flat_name", "relative_paths",
]  # fmt: skip

PATHS = ("train", "valid", "vocabulary", "teachers")
"""Fields that are paths, in a file relative to it."""
CHANGEABLE = ("device", "shard_mib", "save_seconds", "train", "valid", "vocabulary")
"""Fields that may be others when a run goes on."""
_LARGEST_SEED = (1 << 64) - 1  # that PyTorch takes
_RENAMED = {
    "output_weight": "activation_regularisation",
    "change_weight": "temporal_activation_regularisation",
    "teaching": "distillation_weight",
}


def _check_choices(group: Any, choices: Mapping[str, Collection[Any]]) -> None:
    for name, accepted in choices.items():
        value = getattr(group, name)
        if value not in accepted or not isinstance(value, type(next(iter(accepted)))) or isinstance(value, bool):
            raise InputError(f"{name} must be {' or '.join(map(repr, accepted))}, not {value!r}")


def _check_counts(group: Any, names: Collection[str], least: int = 1) -> None:
    for name in names:
        _check_count(name, getattr(group, name), least)


def _check_count(name: str, value: Any, least: int = 1) -> None:
    if type(value) is not int or value < least:
        raise InputError(f"{name} must be an integer of at least {least}, not {value!r}")


def _check_ranges(group: Any, ranges: Mapping[str, tuple[float, float]]) -> None:
    for name, (least, most) in ranges.items():
        value = getattr(group, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise InputError(f"{name} must be a number from {least} to {most}, not {value!r}")


def _check_flag(group: Any, name: str) -> None:
    if type(getattr(group, name)) is not bool:
        raise InputError(f"{name} must be true or false, not {getattr(group, name)!r}")


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """The texts, or sequences: table ``[text]``.

    Parameters
    ----------
    train, valid : str
        Text files, or ``.npy`` of ids; where the tokens are ``"number"``, sequences (`egret.model.sequences`).
    vocabulary : str, optional
        A ``vocab.txt``, made from the training text when not given; with the tokens ``"bpe"`` a ``tokenizer.json``,
        with ``"number"`` the names of the classes, ``0``, ``1`` and so on when not given.
    """

    train: str
    valid: str
    vocabulary: str | None = None

    def __post_init__(self) -> None:
        for name, path in vars(self).items():
            if name == "vocabulary" and path is None:
                continue
            if not isinstance(path, str | os.PathLike):
                raise InputError(f"{name} must be the path of a text file, not {path!r}")
            object.__setattr__(self, name, str(path))


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """The network's shape: table ``[network]``.

    Parameters
    ----------
    tokens : str
        ``"word"``, ``"char"``, ``"id"`` or ``"bpe"`` (`egret.model.tokens`); ``"number"`` for sequences.
    cell, reset, embedding_size, hidden_sizes, tied
        As in `egret.model.checkpoint.NetworkConfiguration`. Where the tokens are ``"number"``, the data say how many
        enter, and nothing is tied.
    """

    tokens: str = "word"
    cell: str = "egru"
    reset: str = "before"
    embedding_size: int = 128
    hidden_sizes: tuple[int, ...] = (256, 128)
    tied: bool = True

    def __post_init__(self) -> None:
        _check_choices(self, {"tokens": KINDS, "cell": CELLS, "reset": RESETS})
        if not isinstance(self.hidden_sizes, list | tuple) or not self.hidden_sizes:
            raise InputError(f"hidden_sizes must be a list of at least one size, not {self.hidden_sizes!r}")
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        for name, size in (("embedding_size", self.embedding_size), *(("hidden_sizes", n) for n in self.hidden_sizes)):
            _check_count(name, size)
        _check_flag(self, "tied")
        if self.tokens != "number" and self.tied and self.embedding_size != self.hidden_sizes[-1]:
            raise InputError(
                "a tied read-out needs embedding_size equal to the last hidden size, "
                f"not {self.embedding_size} and {self.hidden_sizes[-1]}"
            )


@dataclass(frozen=True, kw_only=True)
class LoopOptions:
    """Truncated backpropagation through time, AdamW, regularisation and averaging: table ``[training]``.

    Parameters
    ----------
    epochs : int
        Passes over the training text.
    batch : int
        Streams B that the training text is cut into.
    bptt : int
        Mean steps of a segment; lengths are drawn from a normal distribution, now and then around half of it.
    bptt_deviation : float
        Standard deviation in steps; 0 for equal lengths.
    learning_rate : float
        For a segment of `bptt` steps; shorter ones have proportionally less.
    warmup : float
        Epochs of linear rise from zero.
    decay_from : float
        Epoch at which the cosine decay begins, which ends with the last epoch.
    decay_to : float
        Share of the learning rate left at the end.
    beta1, beta2 : float
        Of AdamW.
    weight_decay, weight_decay_bias : float
        Of weights (the embedding's too) and of biases.
    clip : float
        Largest gradient norm; 0 for no clipping.
    averaging : float
        Epochs over which an average of the parameters looks back: their mean at first, exponential once it is this
        old, anew after each pruning. Validation looks at both and keeps the better. 0 for no averaging.
    activation_regularisation : float
        The loss has this times the mean square of the last layer's outputs, after dropout, added (AR of AWD-LSTM).
    temporal_activation_regularisation : float
        The loss has this times the mean square of their changes from step to step added (TAR of AWD-LSTM).
    embedding_scale : float
        The embedding starts uniform within +- this.
    embedding_limit : float
        The embedding is kept within +- this, for an integer network without coarse steps; 0 for no limit.
    seed : int
    eval_batch : int
        Streams that the validation text is cut into.
    """

    epochs: int = 20
    batch: int = 64
    bptt: int = 70
    bptt_deviation: float = 5.0
    learning_rate: float = 1.2e-3
    warmup: float = 0.0
    decay_from: float = 0.0
    decay_to: float = 0.0
    beta1: float = 0.0
    beta2: float = 0.999
    weight_decay: float = 0.1
    weight_decay_bias: float = 0.0
    clip: float = 0.1
    averaging: float = 0.0
    activation_regularisation: float = 0.0
    temporal_activation_regularisation: float = 0.0
    embedding_scale: float = 0.1
    embedding_limit: float = 0.0
    seed: int = 1
    eval_batch: int = 64

    def __post_init__(self) -> None:
        _check_counts(self, ("epochs", "batch", "bptt", "eval_batch"))
        _check_counts(self, ("seed",), least=0)
        if self.seed > _LARGEST_SEED:
            raise InputError(f"seed must be an integer of at most {_LARGEST_SEED}, not {self.seed}")
        ranges = {
            "bptt_deviation": (0, 1e6), "learning_rate": (1e-12, 10), "warmup": (0, self.epochs),
            "decay_from": (0, self.epochs), "decay_to": (0, 1), "beta1": (0, 0.99999), "beta2": (0, 0.9999999),
            "weight_decay": (0, 1e3), "weight_decay_bias": (0, 1e3), "clip": (0, 1e9), "averaging": (0, 1e6),
            "activation_regularisation": (0, 1e6), "temporal_activation_regularisation": (0, 1e6),
            "embedding_scale": (0, 1), "embedding_limit": (0, 1e6),
        }  # fmt: skip
        _check_ranges(self, ranges)


@dataclass(frozen=True, kw_only=True)
class EventOptions:
    """Thresholds, and what events cost: table ``[events]``.

    Parameters
    ----------
    threshold_mean : float
        Mean of the Beta distribution that thresholds are drawn from.
    train_thresholds : bool
        Whether thresholds are trained (kept at zero or above).
    slope, width : float
        Of the surrogate gradient.
    activity_weight : float
        The loss has this times the mean activity of the layers added.
    mac_weight : float
        The loss has this times the share of weights behind events that a step needs added: the mean activity of the
        layers, each weighted by the weights behind it, zeros included. Where the read-out is in groups, the last
        layer's events have its rows behind them, too, and zeros do not count.
    """

    threshold_mean: float = 0.01
    train_thresholds: bool = False
    slope: float = SLOPE
    width: float = WIDTH
    activity_weight: float = 0.0
    mac_weight: float = 0.0

    def __post_init__(self) -> None:
        ranges = {"threshold_mean": (0, 0.99), "slope": (0, 1e6), "width": (1e-6, 1e6)}
        _check_ranges(self, {**ranges, "activity_weight": (0, 1e6), "mac_weight": (0, 1e6)})
        _check_flag(self, "train_thresholds")


@dataclass(frozen=True, kw_only=True)
class DistillationOptions:
    """Networks that teach: table ``[distillation]``.

    Parameters
    ----------
    teachers : tuple of str
        Networks of the same vocabulary, as checkpoint directories or integer networks' files, whose mean prediction
        of the training text is to be predicted beside the text itself. Their probabilities take two bytes for each
        token of the text and word of the vocabulary of the device's memory, or six for each word kept.
    distillation_weight : float
        Share of the loss that is the cross-entropy with the teachers' prediction, 0 to 1; unused without teachers.
    teacher_words : int
        Words whose probabilities are kept for each token, the likeliest ones, for a large vocabulary; the others are
        then predicted as one event, that it is none of these. 0 keeps all, as a read-out in groups needs it.
    """

    teachers: tuple[str, ...] = ()
    distillation_weight: float = 0.7
    teacher_words: int = 0

    def __post_init__(self) -> None:
        teachers = [self.teachers] if isinstance(self.teachers, str | os.PathLike) else self.teachers
        if not isinstance(teachers, list | tuple) or not all(isinstance(path, str | os.PathLike) for path in teachers):
            raise InputError(f"teachers must be paths of networks, not {self.teachers!r}")
        object.__setattr__(self, "teachers", tuple(map(str, teachers)))
        _check_ranges(self, {"distillation_weight": (0, 1)})
        _check_counts(self, ("teacher_words",), least=0)


@dataclass(frozen=True, kw_only=True)
class MachineOptions:
    """Where a training runs, and how it saves; no result depends on it but by rounding: table ``[machine]``.

    Parameters
    ----------
    device : str
        ``"auto"`` (CUDA where there is one), ``"cpu"`` or ``"cuda"``.
    save_seconds : float
        Time between saves of the training state.
    shard_mib : int, optional
        Largest size of one file of the training state.
    """

    device: str = "auto"
    save_seconds: float = 120.0
    shard_mib: int | None = None

    def __post_init__(self) -> None:
        _check_choices(self, {"device": ("auto", "cpu", "cuda")})
        _check_ranges(self, {"save_seconds": (0, 1e9)})
        if self.shard_mib is not None:
            _check_counts(self, ("shard_mib",))


@dataclass(frozen=True, kw_only=True)
class ReadoutOptions:
    """A read-out in groups (`egret.model.groups`): table ``[readout]``.

    Parameters
    ----------
    head : int
        Frequent words in the head.
    groups : int
        Number of groups of the other words; 0 for a plain read-out.
    rows : int
        Rows of a group in the head: 1, 2, 4, 8 or 16.
    """

    head: int = 50
    groups: int = 0
    rows: int = 8

    def __post_init__(self) -> None:
        _check_counts(self, ("head", "groups"), least=0)
        _check_choices(self, {"rows": tuple(1 << power for power in range(MOST_ROWS.bit_length()))})


@dataclass(frozen=True, kw_only=True)
class RoundingOptions:
    """Weights that are rounded in training as quantisation rounds them: table ``[rounding]``.

    Parameters
    ----------
    weight_bits : int
        4, or 0 for weights that are not rounded. Only for an EGRU with reset "before".
    embedding_bits : int
        4 to 8.
    """

    weight_bits: int = 0
    embedding_bits: int = 6

    def __post_init__(self) -> None:
        _check_choices(self, {"weight_bits": (0, 4), "embedding_bits": range(4, 9)})


_GROUPS = {
    "text": TextOptions,
    "network": NetworkOptions,
    "readout": ReadoutOptions,
    "training": LoopOptions,
    "dropout": Dropout,
    "events": EventOptions,
    "distillation": DistillationOptions,
    "rounding": RoundingOptions,
    "machine": MachineOptions,
}
# Names that need no group: the fields' own, but for those of `Dropout`, which get ``dropout_``.
_PLACES = {
    f"dropout_{item.name}" if group == "dropout" else item.name: (group, item.name)
    for group, kind in _GROUPS.items()
    for item in fields(kind)
}


def flat_name(name: str, table: str | None = None) -> str:
    """The unique name of a field.

    Parameters
    ----------
    name : str
        That name, or the field's place in a configuration file, ``table.name``.
    table : str, optional
        In which `name` stands.

    Returns
    -------
    str

    Raises
    ------
    InputError
        If there is no such field; if it has another name now, which one.
    """
    where = "" if table is None else f" in [{table}]"
    group, _, own = ("", "", name) if table is not None else name.rpartition(".")
    flat = f"dropout_{own}" if "dropout" in (table, group) else own
    if flat in _RENAMED:
        raise InputError(f"{name!r}{where} is called {_RENAMED[flat]!r} now")
    if flat not in _PLACES or group not in ("", _PLACES[flat][0]):
        raise InputError(f"unknown field {name!r}{where}; accepted are {', '.join(_PLACES)}")
    return flat


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Everything that determines a training run, validated at construction.

    Parameters
    ----------
    text : TextOptions
    network : NetworkOptions
    readout : ReadoutOptions
    training : LoopOptions
    dropout : Dropout
    events : EventOptions
    distillation : DistillationOptions
    rounding : RoundingOptions
    machine : MachineOptions
    """

    text: TextOptions
    network: NetworkOptions = field(default_factory=NetworkOptions)
    readout: ReadoutOptions = field(default_factory=ReadoutOptions)
    training: LoopOptions = field(default_factory=LoopOptions)
    dropout: Dropout = field(default_factory=Dropout)
    events: EventOptions = field(default_factory=EventOptions)
    distillation: DistillationOptions = field(default_factory=DistillationOptions)
    rounding: RoundingOptions = field(default_factory=RoundingOptions)
    machine: MachineOptions = field(default_factory=MachineOptions)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Options by their unique names.

        Parameters
        ----------
        **values
            As ``epochs=10`` or ``dropout_words=0.1``; ``train`` and ``valid`` are needed.

        Returns
        -------
        TrainingOptions

        Raises
        ------
        InputError
            If a field is unknown or has a value that is not accepted, naming the field.
        """
        groups = _by_group(values)
        return cls(**{group: kind(**groups.get(group, {})) for group, kind in _GROUPS.items()})

    def with_values(self, **values: Any) -> Self:
        """A copy in which some fields differ.

        Parameters
        ----------
        **values
            As for `of`.

        Returns
        -------
        TrainingOptions

        Raises
        ------
        InputError
            As for `of`.
        """
        groups = _by_group(values)
        return replace(self, **{group: replace(getattr(self, group), **own) for group, own in groups.items()})

    def flat(self) -> dict[str, Any]:
        """All fields by their unique names."""
        return {name: getattr(getattr(self, group), own) for name, (group, own) in _PLACES.items()}

    @classmethod
    def from_toml(cls, path: str | Path, **overrides: Any) -> Self:
        """Options from a configuration file; see the module's description. Paths are relative to the file.

        Parameters
        ----------
        path : str or Path
        **overrides
            Fields that differ from the file's, as for `of`; None is ignored.

        Returns
        -------
        TrainingOptions

        Raises
        ------
        InputError
            If the file cannot be read, is no TOML, or holds an unknown or unacceptable field.
        """
        content = read_toml(path)
        values = {}
        for section, table in content.items():
            if section not in _GROUPS or not isinstance(table, dict):
                raise InputError(f"{path}: unknown table {section!r}; accepted are {', '.join(_GROUPS)}")
            for key, value in table.items():
                try:
                    name = flat_name(key, section)
                except InputError as error:
                    raise InputError(f"{path}: {error}") from error
                values[name] = relative_paths(value, Path(path).parent) if name in PATHS else value
        values |= {name: value for name, value in overrides.items() if value is not None}
        for name in ("train", "valid"):
            if name not in values:
                raise InputError(f"{path}: lacks {name!r}; give the path of a text in [text] or as an option")
        try:
            return cls.of(**values)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error


def _by_group(values: dict[str, Any]) -> dict[str, dict[str, Any]]:
    groups: dict[str, dict[str, Any]] = {}
    for name, value in values.items():
        group, own = _PLACES[flat_name(name)]
        groups.setdefault(group, {})[own] = value
    return groups


def relative_paths(value: Any, folder: Path) -> Any:
    """A string `value`, or the strings of a list, as paths relative to a `folder`; all else stays as it is."""
    if isinstance(value, list):
        return [str(folder / item) if isinstance(item, str) else item for item in value]
    return str(folder / value) if isinstance(value, str) else value


def by_content(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `TrainingOptions` for JSON: lists for tuples, and for teachers the SHA-256 of their files.

    Parameters
    ----------
    values : dict
        By their unique names.

    Returns
    -------
    dict

    Raises
    ------
    InputError
        If a teacher cannot be read.
    """
    known = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
    if known.get("teachers"):
        known["teachers"] = [digest(model_file(path) if Path(path).is_dir() else path) for path in known["teachers"]]
    return known
