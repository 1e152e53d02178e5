"""Where progress is shown."""

import pytest

from egret.host.progress import progress_bar, working


@pytest.mark.parametrize("name", ["[bold]x", "[/x]", ":smile:", "{task}"])
def test_names_of_a_bar_are_no_markup(name, capsys, monkeypatch):
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # rich takes standard error for a terminal
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress_bar(name) as progress:
        progress(1, 2)
    assert name in capsys.readouterr().err


@pytest.mark.parametrize("notebook", [False, True])
def test_it_is_shown_in_a_notebook_and_not_in_a_file(notebook, monkeypatch):
    shown = []
    monkeypatch.setattr("rich.console._is_jupyter", lambda: notebook)
    monkeypatch.setattr("rich.live.Live.start", lambda *_, **options: shown.append("live"))
    with progress_bar("text") as progress, working("text") as tell:
        progress(1, 2)
        tell("more")
    assert bool(shown) == notebook
