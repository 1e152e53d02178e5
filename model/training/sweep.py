"""Sweeps: the points of a study, each trained, measured and never repeated.

Called by ``egret sweep`` as::

    study = Study.from_toml(path, train=..., valid=..., test=...)
    result = sweep(study, directory)                  # on this machine
    result = sweep(study, directory, ray="HOST:PORT")  # on a Ray cluster, whose nodes share the directory

Each point is a directory with its checkpoint and training state, as `egret.model.training.train` writes them, and, once
it is finished, ``result.json``, which holds everything that `egret.model.training.report` shows. ``study.json`` lists
the points.
"""

import contextlib
import itertools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from egret.model.checkpoint import load_checkpoint
from egret.model.errors import EgretError, InputError
from egret.model.files import json_text, write_aside
from egret.model.training.distillation import load_teacher
from egret.model.training.observe import Observation, histogram, observe, parameter_histograms
from egret.model.training.prune import prune
from egret.model.training.results import RESULT, STUDY, VERSION, read_result
from egret.model.training.state import STATE
from egret.model.training.study import Point, Study
from egret.model.training.train import read_texts, train

__all__ = ["Progress", "SweepResult", "check_specification", "run_point", "sweep"]

Progress = Callable[[str], contextlib.AbstractContextManager[Callable[[int, int], None]]]
"""``progress(what)`` gives a context manager that yields ``update(done, total)``."""
_Arguments = tuple[Point, dict[str, Any], Path, float | None]  # of `run_point`


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

    finished: dict[str, dict[str, Any]]
    ran: list[str]
    left: list[str]


def sweep(
    study: Study,
    directory: str | Path,
    *,
    ray: str | None = None,
    limit_seconds: float | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> SweepResult:
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
    TrainingError
        If a training diverges.
    """
    directory = Path(os.path.abspath(directory))
    deadline = None if limit_seconds is None else time.time() + limit_seconds
    finished = {}
    specifications = {point.name: point.specification() for point in study.points}
    for point in study.points:
        result = read_result(directory / point.name / RESULT)
        if result is not None:
            check_specification(directory / point.name / RESULT, result, specifications[point.name])
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


def check_specification(path: Path, result: dict[str, Any], specification: dict[str, Any]) -> None:
    """Refuse a point that was finished with another specification.

    Parameters
    ----------
    path : Path
        Of its ``result.json``.
    result : dict
        Content of that.
    specification : dict
        As the study has it now, see `Point.specification`.

    Raises
    ------
    InputError
        If they differ, naming what differs.
    """
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


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Names and values of a specification: what is neither a dict nor a list of dicts."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        value = dict(enumerate(value))
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, value


def _check_texts(points: Sequence[Point]) -> None:
    """Refuse texts and teachers that a point could not use, before any point runs."""
    vocabularies, teachers = {}, set()
    for point in points:
        text = point.options.text
        kind = (point.options.network.tokens, text.vocabulary)
        if kind not in vocabularies:
            vocabularies[kind], _, valid = read_texts(point.options)
            test = vocabularies[kind].read(point.test)
            for path, ids in ((text.valid, valid), (point.test, test)):
                if len(ids) <= point.streams:
                    raise InputError(f"{path}: {len(ids)} tokens are too few for {point.streams} streams")
        changed = (changes.get("teachers", ()) for _, changes in point.prunings)
        for teacher in (*point.options.distillation.teachers, *itertools.chain(*changed)):
            if (kind, teacher) not in teachers:
                load_teacher(teacher, vocabularies[kind])
                teachers.add((kind, teacher))


def _write_study(study: Study, directory: Path) -> None:
    path = directory / STUDY
    if path.exists():
        try:
            known = json.loads(path.read_bytes())
            same = (known["title"], known["corpus"]) == (study.title, study.corpus)
        except (ValueError, KeyError, TypeError, RecursionError):
            same = False
        if not same:
            raise InputError(f"{path}: belongs to another study than {study.title!r}; give another directory")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: cannot make it: {error.strerror or error}") from error
    content = {"version": VERSION, "title": study.title, "corpus": study.corpus}
    content["points"] = [point.describe() for point in study.points]
    write_aside(path, json_text(content, indent=1).encode() + b"\n")


def _run_here(
    waiting: Sequence[Point],
    arguments: Mapping[str, _Arguments],
    progress: Progress | None,
    tell: Callable[[str], None] | None,
) -> dict[str, dict[str, Any] | None]:
    results = {}
    for number, point in enumerate(waiting):
        if tell is not None:
            tell(f"{point.name} ({number + 1} of {len(waiting)})")
        results[point.name] = run_point(*arguments[point.name], progress)
        if results[point.name] is None:
            break  # time is up
    return results


def _check_address(address: str) -> None:
    """Refuse an address where nothing listens; Ray itself would try for many minutes."""
    if address == "local":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())
    return InputError(f"ray {address!r}: no cluster there: {reason}; accepted are local and HOST:PORT")


def _run_on_ray(
    address: str,
    waiting: Sequence[Point],
    arguments: Mapping[str, _Arguments],
    progress: Progress | None,
    tell: Callable[[str], None] | None,
) -> dict[str, dict[str, Any] | None]:
    import ray  # pyright: ignore[reportMissingImports] - not installed for every job

    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise _no_cluster(address, error) from error
    try:
        gpus = min(1, ray.cluster_resources().get("GPU", 0))
        task = ray.remote(_run_after)
        references = {}
        for point in waiting:
            needs = {"num_cpus": 1, "num_gpus": gpus if point.options.machine.device != "cpu" else 0}
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
                    if isinstance(error.cause, EgretError):
                        raise type(error.cause)(str(error.cause)) from error
                    raise
                update(len(results), len(waiting))
                if tell is not None and results[names[done]] is not None:
                    tell(f"{names[done]} ({len(results)} of {len(waiting)})")
        return results
    finally:
        ray.shutdown()


def _run_after(parent: dict[str, Any] | None, *arguments: Any) -> dict[str, Any] | None:
    """`run_point`, unless time did not suffice for the parent."""
    return None if parent is None else run_point(*arguments)


def run_point(
    point: Point,
    specification: dict[str, Any],
    directory: Path,
    deadline: float | None = None,
    progress: Progress | None = None,
) -> dict[str, Any] | None:
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
    InputError, TrainingError
        As for `egret.model.training.train.train` and `egret.model.training.prune.prune`.
    """
    folder = directory / point.name
    left = None if deadline is None else deadline - time.time()
    if left is not None and left <= 0:
        return None
    options = point.options
    shown = progress is not None
    if not point.prunings:
        trained, epochs = train(options, folder, progress=shown, limit_seconds=left), options.training.epochs
    else:
        pruning, changes = point.prunings[-1]
        options, epochs = options.with_values(**changes), pruning.epochs
        try:
            trained = prune(directory / str(point.parent), folder, options, pruning, progress=shown, limit_seconds=left)
        except InputError:
            # What it raises when time is up before the first epoch's end; the state is saved.
            if deadline is not None and time.time() >= deadline and (folder / STATE).exists():
                return None
            raise
    if trained.epochs < epochs:
        return None
    checkpoint = load_checkpoint(folder)
    cuda = options.machine.device != "cpu" and torch.cuda.is_available()
    observations: dict[str, Observation] = {}
    for name, path in (("valid", options.text.valid), ("test", point.test)):
        with progress(f"measuring, {name}") if progress else contextlib.nullcontext() as update:
            observations[name] = observe(
                checkpoint,
                checkpoint.vocabulary.read(path),
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
    write_aside(folder / RESULT, json_text(result).encode() + b"\n")
    return result
