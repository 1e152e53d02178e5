"""The command ``egret explain``."""

from typing import Any

import click

from egret.host.cli.cores import mismatch_status
from egret.host.cli.options import as_json, core_options
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.model.errors import InputError, needs

__all__ = ["explain"]

MOST = 1000
"""Steps that a page shows."""


@click.command()
@click.argument("network", required=False)
@click.option("--text", help="Text to run; the network's own samples by default, the demo network's validation text.")
@click.option("--data", help="Sequences to run (.npz), of a network whose input is numbers.")
@click.option("--tokens", type=click.IntRange(1, MOST), help="Steps to run, 40 by default; or sequences, 1 of --data.")
@click.option("-o", "--output", default="explain.html", show_default=True, help="HTML file to write.")
@core_options()
@as_json
def explain(
    network: str | None,
    text: str | None,
    data: str | None,
    tokens: int | None,
    output: str,
    core: dict[str, Any],
    as_json: bool,
) -> int:
    """Write a page that shows what NETWORK, or the demo network, does on its core over a sentence or a sequence.

    It has the events of each layer, cycles by cause of each step, a roofline, and what folded rows bring.
    """
    import shlex

    from egret.host.demo import NETWORK, TEXT
    from egret.model.files import write_aside
    from egret.model.sequences import SequenceEvaluation, Sequences

    with needs("matplotlib", "matplotlib", "the page"):
        from egret.host.explain.page import make_page, quality
    from egret.host.explain.account import make_account

    check_files({"-o": output}, {"NETWORK": network, "--text": text, "--data": data})
    source = network or str(NETWORK)
    if network is None and text is None and data is None:
        text = str(TEXT)
    opened = Network(source, **core)
    inputs = opened.inputs(text, data, tokens or (40 if data is None else 1))
    steps = inputs.classes.size if isinstance(inputs, Sequences) else len(inputs) - 1
    if steps > MOST:
        raise InputError(f"{data}: {steps:,} steps are too many for a page; at most {MOST:,} are shown")
    account = make_account(opened, inputs)
    files = [["--text", text]] * (text is not None) + [["--data", data]] * (data is not None)
    command = ["egret", "simulate", source, *(part for file in files for part in file)]
    command += ["--tokens", str(steps), *_flags(core)]
    page = make_page(f"{network or 'The demo network'} on its core", account, shlex.join(command))
    write_aside(output, page.encode())
    measured, unit = account.measurement, account.unit
    evaluation = measured.evaluation
    if isinstance(evaluation, SequenceEvaluation):
        said = {"asked": evaluation.asked, "right": evaluation.right, "accuracy": evaluation.accuracy}
    else:
        said = {"perplexity": evaluation.perplexity}
    figures = {
        "page": output,
        f"{unit}s": steps,
        **said,
        "mismatches": measured.mismatches,
        f"cycles_per_{unit}": measured.cycles_per_token,
        "cycles": [
            {unit: token, "macs": int(macs), **cycles}
            for token, macs, cycles in zip(account.tokens, account.macs, account.cycles, strict=True)
        ],
    }
    rows = [
        ("steps", f"{steps:,}"),
        quality(evaluation),
        (f"{measured.compared} unlike the integer network's", f"{measured.mismatches:,}"),
        (f"cycles per {unit}", f"{measured.cycles_per_token:,.0f}"),
    ]
    show(Result(figures, rows), output, as_json)
    return mismatch_status(measured)


def _flags(core):
    """The options of a core as they are given."""
    for name, value in core.items():
        flag = name.removesuffix("_tokens").replace("_", "-")
        if isinstance(value, bool):
            yield f"--{flag}" if value else f"--no-{flag}"
        else:
            yield from (f"--{flag}", str(value))
