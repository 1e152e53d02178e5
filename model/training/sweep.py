"""Studies: a grid of training runs and prunings, each trained, measured and never repeated.

Called by ``egret sweep`` as::

    study = Study.from_toml(path, train=..., valid=..., test=...)
    result = sweep(study, directory)                  # on this machine
    result = sweep(study, directory, ray="HOST:PORT")  # on a Ray cluster, whose nodes share the directory

A study file (those in ``model/configs`` are named ``study-*.toml``) holds::

    title = "Penn Treebank"
    corpus = "ptb"              # whose published numbers to compare with, if any: see egret.model.training.papers
    streams = 64                # that the validation and the test text are cut into when measured
    parent = "dense"            # what a pruning starts from: the dense network, or the "previous" pruning
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

Each point is a directory with its checkpoint and training state, as `egret.model.training.train` writes them, and,
once it is
finished, ``result.json``, which holds everything that `egret.model.training.report` shows. ``study.json`` lists the
points.
"""

import contextlib
import itertools
import json
import os
import socket
import time
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.errors import InputError
from egret.model.files import digest, write_aside
from egret.model.tokens import read_text
from egret.model.training.observe import histogram, observe, parameter_histograms
from egret.model.training.papers import CORPORA
from egret.model.training.prune import UNUSED, PruningOptions, prune
from egret.model.training.train import (
    CHANGEABLE,
    PATHS,
    TrainingOptions,
    by_content,
    load_teacher,
    read_texts,
    relative_paths,
    train,
)

__all__ = ["RESULT", "STUDY", "Point", "Study", "SweepResult", "run_point", "sweep"]

RESULT, STUDY = "result.json", "study.json"
VERSION = 1
_PARENTS = ("dense", "previous")
_TEXTS = ("train", "valid", "test")
_FIELDS = {field.name for field in fields(TrainingOptions)}
_RUN = ("name", "config", "seeds", "weight_decays", "prune", "set")
_PRUNING = (*(field.name for field in fields(PruningOptions)), "set")


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
    prunings: tuple
    test: str
    streams: int
    parent: str | None

    @property
    def sparsity(self):
        """Share of recurrent-layer weights that end as zero."""
        return self.prunings[-1][0].sparsity if self.prunings else 0.0

    def specification(self):
        """Everything that determines the result but the machine: a dict for JSON, texts and teachers by their SHA-256.

        Raises
        ------
        InputError
            If a text or a teacher cannot be read.
        """
        options = {name: value for name, value in asdict(self.options).items() if name not in CHANGEABLE}
        paths = {"train": self.options.train, "valid": self.options.valid, "test": self.test}
        paths["vocabulary"] = self.options.vocabulary
        return {
            "options": by_content(options),
            "prunings": [{**asdict(pruning), "set": by_content(changes)} for pruning, changes in self.prunings],
            "texts": {name: path and digest(path) for name, path in paths.items()},
            "streams": self.streams,
        }

    def describe(self):
        """What names the point among others, a dict for JSON."""
        options = self.options
        known = {"name": self.name, "run": self.run, "cell": options.cell, "seed": options.seed}
        return {**known, "weight_decay": options.weight_decay, "sparsity": self.sparsity}


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
    points: tuple

    @classmethod
    def from_toml(cls, path, *, train=None, valid=None, test=None, device=None):
        """Read a study file; see the module's description.

        Parameters
        ----------
        path : str or Path
        train, valid, test : str, optional
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
        path = Path(path)
        try:
            content = tomllib.loads(path.read_bytes().decode("utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot read the study: {error.strerror or error}") from error
        except ValueError as error:
            raise InputError(f"{path}: not a TOML file: {' '.join(str(error).split())}") from error
        try:
            return cls._from_content(content, path.parent, {"train": train, "valid": valid, "test": test}, device)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    @classmethod
    def _from_content(cls, content, folder, texts, device):
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
            raise InputError(f"parent must be {' or '.join(map(repr, _PARENTS))}, not {parent!r}")
        given = _typed(content, "texts", dict, "a table", {})
        _check_keys(given, _TEXTS, "[texts]")
        paths = {}
        for name in _TEXTS:
            if texts[name] is None and name not in given:
                raise InputError(f"lacks the text {name!r}; give it in [texts] or as --{name}")
            text = texts[name] if texts[name] is not None else folder / _typed(given, name, str, "a path")
            paths[name] = os.path.abspath(text)
        prunings = []
        for number, table in enumerate(_tables(content, "prunings", [])):
            where = f"prunings[{number}]"
            _check_keys(table, _PRUNING, where)
            changes = _changes(table, where, folder, UNUSED)
            values = {name: value for name, value in table.items() if name != "set"}
            if not values.get("sparsity"):
                raise InputError(f"{where}: lacks a sparsity above 0")
            with _named(where):
                prunings.append((PruningOptions(**values), changes))
        points = []
        for number, table in enumerate(_tables(content, "runs")):
            with _named(f"runs[{number}]"):
                points += _run_points(table, folder, paths, device, streams, prunings, parent == "previous")
        names = [point.name for point in points]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"two points are named {name!r}; give their runs other names")
        return cls(title, corpus, tuple(points))


@contextlib.contextmanager
def _named(where):
    """Put the place before the message of what is refused within."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _check_keys(table, accepted, where):
    for name in table:
        if name not in accepted:
            raise InputError(f"{where} holds the unknown key {name!r}; accepted are {', '.join(accepted)}")


def _typed(table, name, kind, what, default=None):
    value = table.get(name, default)
    if type(value) is not kind:
        raise InputError(f"{name} must be {what}, not {value!r}" if name in table else f"lacks {name!r}, {what}")
    return value


def _tables(content, name, default=None):
    tables = _typed(content, name, list, "an array of tables", default)
    if not all(isinstance(table, dict) for table in tables):
        raise InputError(f"{name} must be an array of tables, not {tables!r}")
    return tables


def _changes(table, where, folder, unused=()):
    changes = _typed(table, "set", dict, "a table", {})
    for name in changes:
        if name not in _FIELDS - {*_TEXTS, "seed", "weight_decay", *unused}:
            raise InputError(f"{where}: set holds {name!r}, which is no field that it may change")
    return changes | {name: relative_paths(changes[name], folder.absolute()) for name in PATHS if name in changes}


def _run_points(table, folder, paths, device, streams, prunings, chained):
    """Points of one run: list of `Point`."""
    _check_keys(table, _RUN, "the run")
    name = _typed(table, "name", str, "a string")
    if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
        raise InputError(f"name must be of letters, digits, - and _, not {name!r}")
    changes = _changes(table, "the run", folder) | ({} if device is None else {"device": device})
    base = TrainingOptions.from_toml(
        folder / _typed(table, "config", str, "a path"), train=paths["train"], valid=paths["valid"], **changes
    )
    seeds = _typed(table, "seeds", list, "a list of integers", [base.seed])
    decays = _typed(table, "weight_decays", list, "a list of numbers", [base.weight_decay])
    if not seeds or not decays:
        raise InputError("seeds and weight_decays must not be empty")
    wanted = prunings if _typed(table, "prune", bool, "true or false", False) else []
    points = []
    for decay in decays:
        for seed in seeds:
            options = replace(base, seed=seed, weight_decay=decay)
            stem = f"{name}-decay{decay:g}-seed{seed}"
            dense = last = Point(f"{stem}-dense", name, options, (), paths["test"], streams, None)
            points.append(dense)
            for number, (pruning, changed) in enumerate(wanted):
                with _named(f"prunings[{number}]"):
                    checked = replace(options, **changed)  # refused now rather than after hours
                changed = {name: getattr(checked, name) for name in changed}
                parent = last if chained else dense
                last = replace(
                    dense,
                    name=f"{stem}-sparse{100 * pruning.sparsity:g}",
                    prunings=(*parent.prunings, (pruning, changed)),
                    parent=parent.name,
                )
                points.append(last)
    return points


@dataclass(frozen=True)
class SweepResult:
    """Outcome of a sweep.

    Parameters
    ----------
    finished : dict of str to dict
        Content of ``result.json`` by point.
    ran : list of str
        Points finished by this sweep; the others were before.
    left : list of str
        Points that time did not suffice for.
    """

    finished: dict
    ran: list
    left: list


def sweep(study, directory, *, ray=None, limit_seconds=None, progress=None, tell=None):
    """Run the points of a study that are not finished.

    Parameters
    ----------
    study : Study
    directory : str or Path
        One directory in it for each point; made where it lacks.
    ray : str, optional
        Address HOST:PORT of a Ray cluster, or ``"local"`` to start one here for this sweep.
    limit_seconds : float, optional
        Save and return once this wall time has passed; the same call goes on.
    progress : callable, optional
        ``progress(what)``, a context manager that yields ``update(done, total)``.
    tell : callable, optional
        Called with a line about each point.

    Returns
    -------
    SweepResult

    Raises
    ------
    InputError
        If a text or an option is not accepted, a point is finished with another specification, or the cluster cannot
        be reached. Nothing runs before all points are checked.
    """
    directory = Path(os.path.abspath(directory))
    deadline = None if limit_seconds is None else time.time() + limit_seconds
    finished = {}
    specifications = {point.name: point.specification() for point in study.points}
    for point in study.points:
        result = _read_result(directory / point.name / RESULT)
        if result is not None:
            _check_specification(directory / point.name / RESULT, result, specifications[point.name])
            finished[point.name] = result
    before = set(finished)
    waiting = [point for point in study.points if point.name not in finished]
    _check_texts(waiting)
    if ray is not None and waiting:
        _check_address(ray)
    _write_study(study, directory)
    arguments = {point.name: (point, specifications[point.name], directory, deadline) for point in waiting}
    if ray is not None and waiting:
        results = _run_on_ray(ray, waiting, arguments, progress, tell)
    else:
        results = _run_here(waiting, arguments, progress, tell)
    for point in waiting:
        if results.get(point.name) is not None:
            finished[point.name] = results[point.name]
    names = [point.name for point in study.points]
    return SweepResult(
        finished={name: finished[name] for name in names if name in finished},
        ran=[name for name in names if name in finished and name not in before],
        left=[name for name in names if name not in finished],
    )


def _read_result(path):
    """Content of a finished point's file, or None where there is none."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path}: cannot read it: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file; remove it to run the point again") from error
    if not isinstance(content, dict) or content.get("version") != VERSION:
        raise InputError(f"{path}: not a result of version {VERSION}; remove it to run the point again")
    return content


def _check_specification(path, result, specification):
    then, now = (dict(_leaves(content)) for content in (result.get("specification"), specification))
    for name in dict.fromkeys((*now, *then)):
        # A field that did not exist then has the value that it had no name for, save where fields may be left out.
        if ".set." not in name and not (name in now and name in then):
            continue
        before, value = then.get(name), now.get(name)
        if before != value:
            raise InputError(
                f"{path}: finished with {name} = {before!r}, not {value!r}; give the same study or another directory"
            )


def _leaves(value, name=""):
    """Names and values of a specification: what is neither a dict nor a list of dicts."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _check_texts(points):
    """Refuse texts and teachers that a point could not use, before any point runs."""
    vocabularies, teachers = {}, set()
    for point in points:
        kind = (point.options.tokens, point.options.vocabulary)
        if kind not in vocabularies:
            vocabularies[kind], _, valid = read_texts(point.options)
            with _named(point.test):
                test = vocabularies[kind].encode(read_text(point.test))
            for path, ids in ((point.options.valid, valid), (point.test, test)):
                if len(ids) <= point.streams:
                    raise InputError(f"{path}: {len(ids)} tokens are too few for {point.streams} streams")
        changed = (changes.get("teachers", ()) for _, changes in point.prunings)
        for teacher in (*point.options.teachers, *itertools.chain(*changed)):
            if (kind, teacher) not in teachers:
                load_teacher(teacher, vocabularies[kind])
                teachers.add((kind, teacher))


def _write_study(study, directory):
    path = directory / STUDY
    if path.exists():
        try:
            known = json.loads(path.read_bytes())
            same = (known["title"], known["corpus"]) == (study.title, study.corpus)
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise InputError(f"{path}: belongs to another study than {study.title!r}; give another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: cannot make it: {error.strerror or error}") from error
    content = {"title": study.title, "corpus": study.corpus, "points": [point.describe() for point in study.points]}
    write_aside(path, json.dumps(content, indent=1).encode() + b"\n")


def _run_here(waiting, arguments, progress, tell):
    results = {}
    for number, point in enumerate(waiting):
        if tell is not None:
            tell(f"{point.name} ({number + 1} of {len(waiting)})")
        results[point.name] = run_point(*arguments[point.name], progress)
        if results[point.name] is None:
            break  # time is up
    return results


def _check_address(address):
    """Refuse an address where nothing listens; Ray itself would try for many minutes."""
    if address == "local":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address, error):
    reason = " ".join(str(error).split())
    return InputError(f"ray {address!r}: no cluster there: {reason}; accepted are local and HOST:PORT")


def _run_on_ray(address, waiting, arguments, progress, tell):
    import ray

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error
    try:
        gpus = min(1, ray.cluster_resources().get("GPU", 0))
        task = ray.remote(_run_after)
        references = {}
        for point in waiting:
            needs = {"num_cpus": 1, "num_gpus": gpus if point.options.device != "cpu" else 0}
            parent = references.get(point.parent, ())  # finished before when it is not there
            references[point.name] = task.options(**needs).remote(parent, *arguments[point.name])
        names = {reference: name for name, reference in references.items()}
        results, running = {}, list(names)
        with progress("points") if progress else contextlib.nullcontext(lambda done, total: None) as update:
            while running:
                (done,), running = ray.wait(running)
                try:
                    results[names[done]] = ray.get(done)
                except ray.exceptions.RayTaskError as error:
                    if isinstance(error.cause, InputError):
                        raise InputError(str(error.cause)) from error
                    raise
                update(len(results), len(waiting))
                if tell is not None and results[names[done]] is not None:
                    tell(f"{names[done]} ({len(results)} of {len(waiting)})")
        return results
    finally:
        ray.shutdown()


def _run_after(parent, *arguments):
    """`run_point`, unless time did not suffice for the parent."""
    return None if parent is None else run_point(*arguments)


def run_point(point, specification, directory, deadline=None, progress=None):
    """Train or prune one network as far as time allows, and measure it once it is finished.

    Parameters
    ----------
    point : Point
    specification : dict
        The point's, for the result.
    directory : Path
        Of the study.
    deadline : float, optional
        As `time.time` tells it.
    progress : callable, optional
        As for `sweep`.

    Returns
    -------
    dict or None
        What ``result.json`` holds; None where time did not suffice.

    Raises
    ------
    InputError
        As for `egret.model.training.train.train` and `egret.model.training.prune.prune`.
    """
    folder = directory / point.name
    left = None if deadline is None else deadline - time.time()
    if left is not None and left <= 0:
        return None
    options = point.options
    how = {"progress": progress is not None, "limit_seconds": left}
    if not point.prunings:
        trained, epochs = train(options, folder, **how), options.epochs
    else:
        pruning, changes = point.prunings[-1]
        options, epochs = replace(options, **changes), pruning.epochs
        try:
            trained = prune(directory / point.parent, folder, options, pruning, **how)
        except InputError:
            # What it raises when time is up before the first epoch's end; the state is saved.
            if left is not None and time.time() >= deadline and (folder / "training.json").exists():
                return None
            raise
    if trained.epochs < epochs:
        return None
    checkpoint = load_checkpoint(folder)
    cuda = options.device != "cpu" and torch.cuda.is_available()
    observations = {}
    for name, path in (("valid", options.valid), ("test", point.test)):
        with progress(f"measuring, {name}") if progress else contextlib.nullcontext() as update:
            observations[name] = observe(
                checkpoint,
                checkpoint.vocabulary.encode(read_text(path)),
                streams=point.streams,
                device="cuda" if cuda else "cpu",
                progress=update,
            )
    test = observations["test"]
    weights, biases = parameter_histograms(checkpoint)
    result = {
        "version": VERSION,
        **point.describe(),
        "parent": point.parent,
        "specification": specification,
        "epochs": trained.epochs,
        "seconds": trained.seconds,
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "tokens_per_second": trained.tokens_per_second,
        "zeros": trained.sparsity,
        "streams": point.streams,
        **{
            name: {"tokens": seen.evaluation.tokens, "perplexity": seen.evaluation.perplexity}
            for name, seen in observations.items()
        },
        "activity": test.evaluation.activity,
        "macs": {**asdict(test.evaluation.macs), "layers": list(test.evaluation.macs.layers)},
        "histograms": {
            "weights": weights,
            "biases": biases,
            "activity": [histogram(shares, 0, 1, 50) for shares in test.neurons],
            "distances": test.distances or [],
        },
    }
    write_aside(folder / RESULT, json.dumps(result).encode() + b"\n")
    return result
