"""The command ``egret compile``."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click

from egret.host.cli.options import as_json, core_options
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.model.errors import InputError

__all__ = ["compile"]


@click.command()
@click.argument("source")
@click.option("-o", "--output", help="File to write the image to.")
@click.option("--target", default="default", show_default=True, help="Named lanes and weight memory.")
@core_options("weight_bytes", "goal")
@click.option("--verilog", help="File to write the core's Verilog to.")
@as_json
def compile(
    source: str, output: str | None, target: str, core: dict[str, Any], verilog: str | None, as_json: bool
) -> None:
    """Compile SOURCE (a checkpoint or an integer network) into an image and the Verilog of its core."""
    from egret.model.compiler.configuration import TARGETS
    from egret.model.compiler.layouts import memory_sections
    from egret.model.compiler.unpack import column_words
    from egret.model.counts import integer_columns
    from egret.model.files import write_aside

    if output is None and verilog is None:
        raise InputError("nothing to write: give --output FILE for the image, --verilog FILE for the core, or both")
    if target not in TARGETS:
        raise InputError(f"--target must be one of {', '.join(TARGETS)}, not {target!r}")
    own_store = TARGETS[target].get("store", "bram")
    if target != "default" and core.get("store", own_store) != own_store:
        raise InputError(f"--target {target} has the store {own_store}: leave --store out, or --target")
    check_files({"-o": output, "--verilog": verilog}, {"SOURCE": source})
    # The default's lanes and weight memory are for its store.
    named = TARGETS[target] if core.get("store", own_store) == own_store else {}
    network = Network(source, parts=True, **named | core)
    image = network.compile()
    configuration = image.configuration
    words = int(column_words(image)[1].sum())
    entries = sum(layer.nonzeros for layer in integer_columns(network.integer))
    used = dataclasses.replace(configuration, weight_words=max(1, words)).weight_memory_bytes
    slots_filled = entries / max(1, words * configuration.lanes)
    pointers = memory_sections(configuration)["columns"].word_bits * configuration.columns // 8
    rows = [
        ("configuration", configuration.digest.hex()),
        ("layers", " - ".join(map(str, (configuration.embedding, *configuration.hidden)))),
        ("lanes", str(configuration.lanes)),
        ("non-zero weights", f"{entries:,}"),
        ("bits of a weight", str(configuration.weight_bits)),
        ("weight memory", f"{words:,} of {configuration.weight_words:,} words, {used:,} bytes"),
        ("lane slots filled", f"{slots_filled:.1%}"),
        (
            "bytes a non-zero weight, without and with pointers",
            f"{used / max(1, entries):.3f}, {(used + pointers) / max(1, entries):.3f}",
        ),
    ]
    if configuration.resident_words:
        rows.append(("of these in block RAM", f"{configuration.resident_bytes:,} bytes"))
    if configuration.folded_tokens:
        rows.append(("folded rows", f"{configuration.folded_tokens:,} tokens, {len(image.memories['rows']):,} bytes"))
    if verilog is not None:
        from egret.rtl.export import core_verilog

        write_aside(verilog, core_verilog(configuration).encode())
        rows.append(("Verilog", verilog))
    if output is not None:
        image.save(output)
        rows.append(("image", f"{output}, {Path(output).stat().st_size:,} bytes"))
    figures = {"source": source, "configuration": json.loads(configuration.to_json())}
    figures |= {"nonzeros": entries, "words": words, "weight_bytes": used, "pointer_bytes": pointers}
    figures |= {"slots_filled": slots_filled}
    show(Result(figures | {"image": output, "verilog": verilog}, rows), source, as_json)
