"""What tests of the command line share: running it, and a directory with a network and a text."""

import pytest

from egret.host.cli import main as cli
from egret.model.checkpoint import save_checkpoint
from tests.support.command_line import CONFIGURATION, TEXT


@pytest.fixture
def egret(capsys):
    """Run the command line: (status, standard output, standard error)."""

    def run(*arguments):
        status = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def refused(egret):
    """Run the command line and expect a refusal: the message."""

    def run(*arguments):
        status, out, err = egret(*arguments)
        assert (status, out) == (2, "")
        assert err.startswith("egret: error: ")
        assert err.count("\n") == 1
        return err.removeprefix("egret: error: ").rstrip("\n")

    return run


@pytest.fixture
def network(tmp_path, random_checkpoint, monkeypatch):
    """A directory, made the current one, with the checkpoint `network` and the text `text`."""
    monkeypatch.chdir(tmp_path)
    save_checkpoint(random_checkpoint(CONFIGURATION, scale=0.5), tmp_path / "network")
    (tmp_path / "text").write_text(TEXT)
    return tmp_path
