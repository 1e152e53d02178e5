"""The command ``egret demo``."""

import click

from egret.host.cli.show import output_console
from egret.host.opening import open_board
from egret.host.progress import progress_bar
from egret.model.errors import InputError

__all__ = ["demo"]


@click.command()
@click.option("--checkpoint", help="Another network than the one that comes with Egret; needs --text too.")
@click.option("--text", help="Text to measure on; the demo network's validation text by default.")
@click.option("--tokens", type=int, default=400, show_default=True, help="Tokens to generate.")
@click.option("--seed", type=int, default=1, show_default=True, help="The same seed gives the same text.")
def demo(checkpoint: str | None, text: str | None, tokens: int, seed: int) -> int:
    """Show the whole chain: generate text on the virtual board, every token checked, and measure it."""
    from egret.host.demo import NETWORK, TEXT, run

    if (checkpoint is None) != (text is None):
        raise InputError("--checkpoint and --text go together")
    if tokens < 1:
        raise InputError(f"--tokens must be at least 1, not {tokens}")
    good = run(checkpoint or NETWORK, text or TEXT, tokens, seed, output_console(), progress_bar, open_board)
    return 0 if good else 1
