"""Studies: what a study file defines, a grid of training runs and prunings.

A study file (those in ``model/configs`` are named ``study-*.toml``) holds::

    title = "Penn Treebank"
    corpus = "ptb"              # whose published numbers to compare with, if any: egret.model.training.papers
    streams = 64                # that the validation and the test text are cut into when measured
    parent = "dense"            # what a pruning starts from: the dense network, or the "previous" pruning of its name
    [texts]                     # train, valid, test; relative to the file, or given as options
    [[runs]]                    # one dense network for each seed and weight decay
    name = "egru"
    config = "ptb-egru.toml"    # relative to the file
    seeds = [1]
    weight_decays = [0.1]       # the configuration's own when left out
    prune = true                # whether all of [[prunings]] follow; false when left out
    set = {epochs = 500}        # other fields of `TrainingOptions`; teachers relative to the file
    [[prunings]]                # fields of `PruningOptions`, and again `set`
    sparsity = 0.85
    runs = ["egru"]             # that this pruning follows; all when left out
    seeds = [1]                 # that it follows; all when left out
    parent = 0.7                # as for the study, or the sparsity of an earlier pruning of its name
    name = "priced"             # its point counts as one of a run of its own, "egru-priced"; when left out, of its run

A pruning with sparsity 0 trains its parent on without new zeros. It needs a name.

`egret.model.training.sweep` runs it.
"""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Self

from egret.model.errors import InputError
from egret.model.files import digest, read_toml
from egret.model.training.options import CHANGEABLE, PATHS, TrainingOptions, by_content, flat_name, relative_paths
from egret.model.training.papers import CORPORA
from egret.model.training.prune import UNUSED, PruningOptions

__all__ = ["Point", "Study"]

_PARENTS = ("dense", "previous")
_EITHER = " or ".join(map(repr, _PARENTS))
_TEXTS = ("train", "valid", "test")
_LISTS = ("seeds", "weight_decays")
_MOST_POINTS = 10_000
_RUN = ("name", "config", "seeds", "weight_decays", "prune", "set")
_FOR_STUDY = ("set", "runs", "seeds", "parent", "name")
_PRUNING = (*(field.name for field in fields(PruningOptions)), *_FOR_STUDY)


@dataclass(frozen=True)
class Point:
    """One network of a study.

    Parameters
    ----------
    name : str
        Of its directory.
    run : str
        Name of the ``[[runs]]`` it belongs to.
    options : TrainingOptions
        Of the dense network.
    prunings : tuple of (PruningOptions, dict)
        That lead from the dense network to this one, with the `TrainingOptions` fields that each changes.
    test : str
        Text file.
    streams : int
        That the validation and the test text are cut into.
    parent : str or None
        Name of the point that it starts from.
    """

    name: str
    run: str
    options: TrainingOptions
    prunings: tuple[tuple[PruningOptions, dict[str, Any]], ...]
    test: str
    streams: int
    parent: str | None

    @property
    def sparsity(self) -> float:
        """Share of recurrent-layer weights that end as zero."""
        return self.prunings[-1][0].sparsity if self.prunings else 0.0

    def specification(self) -> dict[str, Any]:
        """Everything that determines the result but the machine: a dict for JSON, texts and teachers by their SHA-256.

        Raises
        ------
        InputError
            If a text or a teacher cannot be read.
        """
        options = {name: value for name, value in self.options.flat().items() if name not in CHANGEABLE}
        paths = {**vars(self.options.text), "test": self.test}
        return {
            "options": by_content(options),
            "prunings": [{**asdict(pruning), "set": by_content(changes)} for pruning, changes in self.prunings],
            "texts": {name: path and digest(path) for name, path in paths.items()},
            "streams": self.streams,
        }

    def describe(self) -> dict[str, Any]:
        """What names the point among others, a dict for JSON."""
        known = {"name": self.name, "run": self.run, "cell": self.options.network.cell}
        loop = self.options.training
        return {**known, "seed": loop.seed, "weight_decay": loop.weight_decay, "sparsity": self.sparsity}


@dataclass(frozen=True)
class _Wanted:
    """A table of ``[[prunings]]``: of all runs and seeds where those are empty, of its own points with a `name`."""

    options: PruningOptions
    changes: dict[str, Any]
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    parent: str | float
    name: str

    def follows(self, run: str, seed: int) -> bool:
        """Whether it is for the network of a `run` with a `seed`."""
        return (not self.runs or run in self.runs) and (not self.seeds or seed in self.seeds)


@dataclass(frozen=True)
class Study:
    """A grid of points.

    Parameters
    ----------
    title : str
    corpus : str or None
        Of `egret.model.training.papers.CORPORA`.
    points : tuple of Point
        Parents before what is pruned from them.
    """

    title: str
    corpus: str | None
    points: tuple[Point, ...]

    @classmethod
    def from_toml(
        cls,
        path: str | Path,
        *,
        train: str | Path | None = None,
        valid: str | Path | None = None,
        test: str | Path | None = None,
        device: str | None = None,
    ) -> Self:
        """Read a study file; see the module's description.

        Parameters
        ----------
        path : str or Path
        train, valid, test : str or Path, optional
            Texts instead of the file's.
        device : str, optional
            ``"auto"``, ``"cpu"`` or ``"cuda"``, for all points.

        Returns
        -------
        Study

        Raises
        ------
        InputError
            If the file cannot be read, is no TOML, or holds something unknown or not accepted.
        """
        content = read_toml(path)
        try:
            return cls._from_content(content, Path(path).parent, {"train": train, "valid": valid, "test": test}, device)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def _from_content(cls, content: dict[str, Any], folder: Path, texts: Mapping[str, Any], device: str | None) -> Self:
        _check_keys(content, ("title", "corpus", "streams", "parent", "texts", "runs", "prunings"), "the study")
        title = _typed(content, "title", str, "a string")
        corpus = content.get("corpus")
        if corpus not in (None, *CORPORA):
            raise InputError(f"corpus must be {' or '.join(map(repr, CORPORA))}, or left out, not {corpus!r}")
        streams = _typed(content, "streams", int, "an integer of at least 1", 64)
        if streams < 1:
            raise InputError(f"streams must be an integer of at least 1, not {streams}")
        parent = content.get("parent", "dense")
        if parent not in _PARENTS:
            raise InputError(f"parent must be {_EITHER}, not {parent!r}")
        given = _typed(content, "texts", dict, "a table", {})
        _check_keys(given, _TEXTS, "[texts]")
        paths = {}
        for name in _TEXTS:
            if texts[name] is None and name not in given:
                raise InputError(f"lacks the text {name!r}; give it in [texts] or as --{name}")
            text = texts[name] if texts[name] is not None else folder / _typed(given, name, str, "a path")
            paths[name] = os.path.abspath(text)
        names = (table.get("name") for table in _tables(content, "runs"))
        prunings, runs = [], [name for name in names if isinstance(name, str)]
        for number, table in enumerate(_tables(content, "prunings", [])):
            where = f"prunings[{number}]"
            _check_keys(table, _PRUNING, where)
            changes = _changes(table, where, folder, UNUSED)
            values = {name: value for name, value in table.items() if name not in _FOR_STUDY}
            if "sparsity" not in values or not (values["sparsity"] or "name" in table):
                raise InputError(f"{where}: lacks a sparsity, above 0 unless it has a name")
            with _named(where):
                followed = _typed(table, "runs", list, "a list of names of runs", [])
                for run in followed:
                    if run not in runs:
                        raise InputError(
                            f"runs holds {run!r}; the study's runs are {', '.join(map(repr, dict.fromkeys(runs)))}"
                        )
                seeds = tuple(_typed(table, "seeds", list, "a list of integers", []))
                if not all(type(seed) is int for seed in seeds):
                    raise InputError(f"seeds must be a list of integers, not {[*seeds]!r}")
                name = _checked_name(table) if "name" in table else ""
                start = _checked_parent(table, parent, name, prunings)
                prunings.append(_Wanted(PruningOptions(**values), changes, tuple(followed), seeds, start, name))
        points = []
        for number, table in enumerate(content["runs"]):
            with _named(f"runs[{number}]"):
                _check_number(table, len(prunings), len(points))
                points += _run_points(table, folder, paths, device, streams, prunings)
        known = {point.options.training.seed for point in points}
        for number, wanted in enumerate(prunings):
            for seed in wanted.seeds:
                if seed not in known:
                    raise InputError(f"prunings[{number}]: seeds holds {seed}, which is the seed of no run")
        for name, number in Counter(point.name for point in points).items():
            if number > 1:
                raise InputError(f"two points are named {name!r}; give their runs other names")
        return cls(title, corpus, tuple(points))


@contextlib.contextmanager
def _named(where: str) -> Iterator[None]:
    """Put the place, `where`, before the message of what is refused within."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _check_keys(table: Mapping[str, Any], accepted: Collection[str], where: str) -> None:
    for name in table:
        if name not in accepted:
            raise InputError(f"{where} holds the unknown key {name!r}; accepted are {', '.join(accepted)}")


def _typed(table: Mapping[str, Any], name: str, kind: type, what: str, default: Any = None) -> Any:
    value = table.get(name, default)
    if type(value) is not kind:
        raise InputError(f"{name} must be {what}, not {value!r}" if name in table else f"lacks {name!r}, {what}")
    return value


def _tables(content: Mapping[str, Any], name: str, default: Any = None) -> list[dict[str, Any]]:
    tables = _typed(content, name, list, "an array of tables", default)
    if not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{name} must be an array of tables, not {tables!r}")
    return tables


def _changes(table: Mapping[str, Any], where: str, folder: Path, unused: Collection[str] = ()) -> dict[str, Any]:
    changes = {}
    for name, value in _typed(table, "set", dict, "a table", {}).items():
        with _named(f"{where}: set"):
            flat = flat_name(name)
        if flat in (*_TEXTS, "seed", "weight_decay", *unused):
            raise InputError(f"{where}: set holds {name!r}, which is no field that it may change")
        changes[flat] = relative_paths(value, folder.absolute()) if flat in PATHS else value
    return changes


def _checked_name(table: Mapping[str, Any]) -> str:
    name = _typed(table, "name", str, "a string")
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise InputError(f"name must be of letters, digits, - and _, not {name!r}")
    return name


def _checked_parent(table: Mapping[str, Any], parent: str, name: str, before: list[_Wanted]) -> str | float:
    """What the pruning of a ``table`` starts from, which is the study's ``parent`` when left out."""
    parent = table.get("parent", parent)
    if parent not in (*_PARENTS, *(wanted.options.sparsity for wanted in before if wanted.name == name)):
        raise InputError(f"parent must be {_EITHER}, or the sparsity of an earlier pruning of its name, not {parent!r}")
    return parent


def _check_number(table: Mapping[str, Any], prunings: int, before: int) -> None:
    """Refuse a study of more points than anybody waits for: three short lists are many points."""
    seeds, decays = (len(value) if isinstance(value := table.get(name), list) else 1 for name in _LISTS)
    if (number := before + seeds * decays * (1 + prunings)) > _MOST_POINTS:
        raise InputError(f"a study may have {_MOST_POINTS} points; with this run it has up to {number}")


def _run_points(
    table: dict[str, Any],
    folder: Path,
    paths: Mapping[str, str],
    device: str | None,
    streams: int,
    prunings: list[_Wanted],
) -> list[Point]:
    """Points of one run."""
    _check_keys(table, _RUN, "the run")
    name = _checked_name(table)
    changes = _changes(table, "the run", folder) | ({} if device is None else {"device": device})
    base = TrainingOptions.from_toml(
        folder / _typed(table, "config", str, "a path"), train=paths["train"], valid=paths["valid"], **changes
    )
    seeds = _typed(table, "seeds", list, "a list of integers", [base.training.seed])
    decays = _typed(table, "weight_decays", list, "a list of numbers", [base.training.weight_decay])
    if not seeds or not decays:
        raise InputError("seeds and weight_decays must not be empty")
    pruned = _typed(table, "prune", bool, "true or false", False)
    points = []
    for decay in decays:
        for seed in seeds:
            options = base.with_values(seed=seed, weight_decay=decay)
            stem = f"decay{decay:g}-seed{seed}"
            dense = Point(f"{name}-{stem}-dense", name, options, (), paths["test"], streams, None)
            points.append(dense)
            made: dict[tuple[str, str | float], Point] = {}
            for number, wanted in enumerate(prunings):
                if not pruned or not wanted.follows(name, seed):
                    continue
                with _named(f"prunings[{number}]"):
                    checked = options.with_values(**wanted.changes).flat()  # refused now rather than after hours
                    parent = made.get((wanted.name, wanted.parent), dense)
                    if parent is dense and wanted.parent not in _PARENTS:
                        raise InputError(f"no pruning to the parent's sparsity, {wanted.parent}, follows seed {seed}")
                run = f"{name}-{wanted.name}" if wanted.name else name
                point = replace(
                    dense,
                    name=f"{run}-{stem}-sparse{100 * wanted.options.sparsity:g}",
                    run=run,
                    prunings=(*parent.prunings, (wanted.options, {field: checked[field] for field in wanted.changes})),
                    parent=parent.name,
                )
                made[wanted.name, "previous"] = made[wanted.name, wanted.options.sparsity] = point
                points.append(point)
    return points
