"""The command ``egret explain``."""

from typing import Any

import click

from egret.host.cli.cores import mismatch_status
from egret.host.cli.options import as_json, core_options
from egret.host.cli.outputs import check_files
from egret.host.cli.show import Result, show
from egret.host.network import Network
from egret.model.errors import needs

__all__ = ["explain"]


@click.command()
@click.argument("network", required=False)
@click.option("--text", help="Text to run; the network's own samples by default, the demo network's validation text.")
@click.option("--tokens", type=click.IntRange(1, 1000), default=40, show_default=True, help="Steps to run.")
@click.option("-o", "--output", default="explain.html", show_default=True, help="HTML file to write.")
@core_options()
@as_json
def explain(
    network: str | None, text: str | None, tokens: int, output: str, core: dict[str, Any], as_json: bool
) -> int:
    """Write a page that shows what NETWORK, or the demo network, does on its core over a sentence.

    It has the events of each layer, cycles by cause of each token, a roofline, and what folded rows bring.
    """
    import shlex

    from egret.host.demo import NETWORK, TEXT
    from egret.model.files import write_aside

    with needs("matplotlib", "matplotlib", "the page"):
        from egret.host.explain.page import make_page
    from egret.host.explain.account import make_account

    check_files({"-o": output}, {"NETWORK": network, "--text": text})
    source, text = network or str(NETWORK), text or (str(TEXT) if network is None else None)
    opened = Network(source, **core)
    ids = opened.ids(text, tokens)
    account = make_account(opened, ids)
    command = ["egret", "simulate", source, *(["--text", text] if text else []), "--tokens", str(tokens), *_flags(core)]
    page = make_page(f"{network or 'The demo network'} on its core", account, shlex.join(command))
    write_aside(output, page.encode())
    measured = account.measurement
    figures = {
        "page": output,
        "tokens": tokens,
        "perplexity": measured.evaluation.perplexity,
        "mismatches": measured.mismatches,
        "cycles_per_token": measured.cycles_per_token,
        "cycles": [
            {"token": token, "macs": int(macs), **cycles}
            for token, macs, cycles in zip(account.tokens, account.macs, account.cycles, strict=True)
        ],
    }
    rows = [
        ("steps", f"{tokens:,}"),
        ("perplexity", f"{measured.evaluation.perplexity:.3f}"),
        (f"{measured.compared} unlike the integer network's", f"{measured.mismatches:,}"),
        ("cycles per token", f"{measured.cycles_per_token:,.0f}"),
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
