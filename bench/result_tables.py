"""The tables of the results, by the names that stand in the documents; `bench.results` writes them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["TABLES", "Results", "Table"]

Results = dict[str, dict[str, Any]]
"""Entries of the file by their ids: ``command``, ``result`` and, where something depends on it, ``machine``."""

NATIVE = "native engine, folded rows"
"""What `egret bench --peers` calls the fastest way on one core of a processor."""

HERTZ = 80_000_000
"""Clock that the ULX3S closes."""
SDRAM_HERTZ = 62_500_000
"""The same with an SDRAM, whose clock is twice that."""
DDR3_HERTZ = 75_000_000
"""The same with a DDR3 (docs/blocks/ddr3.md)."""

CAUSES = {
    "macs": "lanes multiply",
    "packing": "slots of words without a weight",
    "memory": "waiting for the memory",
    "rows": "folded rows",
    "wait_update": "waiting for the update pass",
    "wait_layer": "waiting for the layer below",
}
"""Of the lanes' cycles, in the order of the tables; what is not named stands in their last row."""


@dataclass(frozen=True)
class Table:
    """A table of the documents.

    Parameters
    ----------
    runs : tuple of str
        Ids of the entries that it is made from.
    cells : callable
        Gives the table from these entries.
    commands : bool
        Whether the runs' commands stand below it.
    """

    runs: tuple[str, ...]
    cells: Callable[[list[dict[str, Any]]], str]
    commands: bool = True

    def write(self, results: Results) -> str:
        """The table as Markdown, from all ``results``."""
        entries = [results[run] for run in self.runs]
        text = self.cells(entries)
        if self.commands:
            commands = "\n".join(f"$ {entry['command'].removesuffix(' --json')}" for entry in entries)
            text += f"\n\n```console\n{commands}\n```"
        return text


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = "|" + "---|" * len(head)
    lines = ["|" + "|".join(f" {cell} " if cell else " " for cell in row) + "|" for row in (head, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def _columns(names: Sequence[str], columns: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A table from columns of (name, cell), whose names are the same."""
    assert len({tuple(name for name, _ in column) for column in columns}) == 1
    rows = [(cells[0][0], *(cell for _, cell in cells)) for cells in zip(*columns, strict=True)]
    return _markdown(("", *names), rows)


def _results(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [entry["result"] for entry in entries]


def _per_token(result: dict[str, Any], counter: str) -> float:
    return result["counters"][counter] / result["counters"]["tokens"]


def _hertz(result: dict[str, Any]) -> float:
    return SDRAM_HERTZ if "beats" in result["counters"] else HERTZ


def _core_speed(result: dict[str, Any], hertz: float | None = None) -> str:
    return f"{(hertz or _hertz(result)) / _per_token(result, 'cycles'):,.0f}"


def _percent(share: float, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f} %"


def _counts(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("MACs per token", f"{_per_token(result, 'macs'):,.0f}"),
        ("cycles per token", f"{_per_token(result, 'cycles'):,.0f}"),
    ]


def _shares(result: dict[str, Any]) -> list[tuple[str, str]]:
    shares = dict(result["shares"])
    named = [(name, _percent(shares.pop(cause))) for cause, name in CAUSES.items() if cause in shares]
    return [*named, ("first columns of a phase, empty pipelines, reset pass", _percent(sum(shares.values())))]


def _operations(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        ("MACs per token, dense", f"{result['macs_per_token_dense']:,}"),
        ("... pruned only", f"{result['macs_per_token_pruned']:,}"),
        ("... event-driven only", f"{result['macs_per_token_event_driven']:,.0f}"),
        ("... event-driven and pruned", f"{result['macs_per_token']:,.0f}"),
    ]


def _readme(entries: list[dict[str, Any]]) -> str:
    results = _results(entries)
    columns = []
    for text, core, energy in zip(results[0:3], results[3:6], (None, *entries[6:8]), strict=True):
        joules, native = "", ""
        if energy is not None:
            joules = " to ".join(f"{1e6 * bound:,.0f}" for bound in energy["result"]["energy"]["joules_per_token"])
            native = f"{energy['machine']['peers'][NATIVE]['tokens_per_second']:,.0f}"
        columns.append(
            [
                ("perplexity, integer network", f"{text['perplexity']:.2f}"),
                ("MACs a token of the layers, dense", f"{text['macs_per_token_dense']:,}"),
                ("... made", f"{text['macs_per_token']:,.0f}"),
                ("MACs a token of the read-out", f"{text['macs_readout_per_token']:,.0f}"),
                ("read-out made by", "the core" if "readout_macs" in core["counters"] else "the host"),
                ("weights in; lanes", f"{'SDRAM' if core.get('store') == 'sdram' else 'block RAM'}; {core['lanes']}"),
                ("cycles a token", f"{_per_token(core, 'cycles'):,.0f}"),
                ("tokens a second at 80 MHz, with SDRAM 62.5 MHz", _core_speed(core)),
                ("µJ a token, an estimate", joules),
                ("tokens a second, native engine on one core of a server", native),
            ]
        )
    return _columns(("demo: Shakespeare, characters", "Penn Treebank, 85 %", "Penn Treebank, 95 %"), columns)


def _whole_token(entries: list[dict[str, Any]]) -> str:
    columns = []
    for text, core, board, energy in zip(entries[0:2], entries[2:4], entries[4:6], entries[6:8], strict=True):
        text, core, energy, whole = text["result"], core["result"], energy["result"], board["result"]["end_to_end"]
        layers = _per_token(core, "macs") - _per_token(core, "readout_macs")
        columns.append(
            [
                ("test perplexity, 64 streams, over all words", f"**{text['perplexity']:.2f}**"),
                ("activity by layer", ", ".join(_percent(share) for share in text["activity"])),
                ("MACs per token over the test text: layers, no folded row", f"{text['macs_per_token']:,.0f}"),
                ("... read-out", f"{text['macs_readout_per_token']:,.0f}"),
                (
                    "... whole token, with the folded rows that fit in 32 MB",
                    f"**{text['macs_whole_per_token']:,.0f}**",
                ),
                ("on the core, 60 tokens: folded rows beside the rest", f"{core['folded']:,}"),
                ("... MACs per token, layers", f"{layers:,.0f}"),
                ("... MACs per token, read-out", f"{_per_token(core, 'readout_macs'):,.0f}"),
                ("... groups read per token", f"{_per_token(core, 'groups'):.2f}"),
                ("... cycles per token", f"**{_per_token(core, 'cycles'):,.0f}**"),
                ("... of these, waiting for the read-out alone", f"{_per_token(core, 'read_out'):,.0f}"),
                ("... log-probabilities unlike the integer network's", f"{core['mismatches']}"),
                ("tokens a second at 62.5 MHz, core alone", _core_speed(core)),
                ("generated: cycles per token, of a text of its own", f"{whole['core_cycles_per_token']:,.0f}"),
                ("... words like the integer network's", f"{whole['matching']} of {whole['tokens']}"),
                ("... bytes on the link per token", f"{whole['link_bytes_per_token']:.2f}"),
                (
                    "... tokens a second, host counted",
                    f"**{board['machine']['end_to_end']['tokens_per_second']:,.0f}**",
                ),
                (
                    "µJ a token, an estimate",
                    " to ".join(_microjoules(one) for one in energy["energy"]["joules_per_token"]),
                ),
            ]
        )
    return _columns(("`ptb-egru-85-groups.egret`", "`ptb-egru-95-groups.egret`"), columns)


def _demo(entries: list[dict[str, Any]]) -> str:
    floating, integer, core = _results(entries)
    rows = [
        ("perplexity, float", f"{floating['perplexity']:.3f}"),
        ("perplexity, integer", f"{integer['perplexity']:.3f}"),
        (
            "events equal, float and integer, by layer",
            ", ".join(_percent(one, 2) for one in integer["event_agreement"]),
        ),
        ("tokens run on the core", f"{core['tokens']:,}"),
        ("event values unlike the integer network's", f"{core['mismatches']}"),
        ("activity by layer", ", ".join(_percent(one, 2) for one in core["activity"])),
        *_operations(core),
        ("cycles per token", f"{_per_token(core, 'cycles'):,.0f}"),
        (f"utilisation of {core['lanes']} lanes", _percent(core["lane_utilisation"])),
    ]
    return _markdown(("", ""), rows)


def _resets(entries: list[dict[str, Any]]) -> str:
    results = _results(entries)
    columns = []
    for text, core in zip(results[:2], results[2:], strict=True):
        assert core["mismatches"] == 0
        columns.append(
            [
                ("perplexity, integer, whole text", f"{text['perplexity']:.3f}"),
                ("activity by layer, whole text", ", ".join(map(_percent, text["activity"]))),
                ("MACs per token, whole text", f"{text['macs_per_token']:,.0f}"),
                *((f"{name}, 500 characters", cell) for name, cell in _counts(core)),
                *_shares(core),
            ]
        )
    return _columns(('reset "before"', 'reset "after"'), columns)


def _speed_ups(entries: list[dict[str, Any]]) -> str:
    (result,) = _results(entries)
    rows = [
        (
            one["uses"],
            *(f"{one[name]:,.0f}" for name in ("macs_per_token", "cycles_per_token", "bound_cycles_per_token")),
            *(f"{one[name]:.1f}" for name in ("speed_up", "speed_up_in_macs")),
        )
        for one in result["variants"]
    ]
    return _markdown(("made use of", "MACs per token", "cycles per token", "bound", "speed-up", "by MACs"), rows)


def _boards(entries: list[dict[str, Any]]) -> str:
    columns, names = [], []
    for name, result in zip(("iCEBreaker", "ULX3S", "ULX3S, SDRAM, 95 %"), _results(entries), strict=True):
        speed = result["speed"]
        direct, usb, megahertz = speed["at_once"], speed["usb"], speed["megahertz"]
        traffic = f"{speed['bytes_sent_per_token']:.1f} and {speed['bytes_received_per_token']:.1f}"
        names.append(f"{name}, {megahertz:g} MHz")
        columns.append(
            [
                ("cycles per token", f"{_per_token(result, 'cycles'):,.0f}"),
                ("lanes multiply", _percent(result["lane_utilisation"])),
                ("bytes to and from the board, per token", traffic),
                ("tokens a second: core alone", _core_speed(result, 1e6 * megahertz)),
                ("generated", f"{direct['generated_tokens_per_second']:,.0f}"),
                ("streamed", f"{direct['streamed_tokens_per_second']:,.0f}"),
                ("what limits streaming", f"the {direct['limit']}"),
                ("link busy while streaming", _percent(direct["link_busy"], 0)),
                ("generated, with USB 1 ms away", f"{usb['generated_tokens_per_second']:,.0f}"),
                ("streamed, with USB 1 ms away", f"{usb['streamed_tokens_per_second']:,.0f}"),
            ]
        )
    return _columns(names, columns)


def _perplexity(entries: list[dict[str, Any]]) -> str:
    columns = [
        [
            ("test perplexity, 64 streams", f"**{result['perplexity']:.2f}**"),
            ("activity by layer", ", ".join(_percent(share) for share in result["activity"])),
            *_operations(result),
        ]
        for result in _results(entries)
    ]
    return _columns(("`ptb-egru-85.egret`", "`ptb-egru-95.egret`"), columns)


def _block_ram(entries: list[dict[str, Any]], names: Sequence[str]) -> str:
    columns = [
        [*_counts(result), *_shares(result), ("bytes read per token", f"{result['bytes_per_token']:,.0f}")]
        for result in _results(entries)
    ]
    return _columns(names, columns)


def _lanes(entries: list[dict[str, Any]]) -> str:
    names = ("8 lanes", "16 lanes", "32 lanes", "8 lanes, 1,000 folded rows", "8 lanes, 10,000 folded rows")
    return _block_ram(entries, names)


def _samples(entries: list[dict[str, Any]]) -> str:
    return _block_ram(entries, ("85 %, 8 lanes", "95 %, 8 lanes"))


def _sdram(entries: list[dict[str, Any]]) -> str:
    columns = [
        [
            ("folded rows that fit beside the rest", f"{result['folded']:,}"),
            *_counts(result),
            ("tokens a second at 62.5 MHz, core alone", _core_speed(result)),
            ("**beats that came, of those that could have**", f"**{_percent(result['bus_utilisation'])}**"),
            ("lanes", f"{result['lanes']}"),
            *_shares(result),
        ]
        for result in _results(entries)
    ]
    return _columns(("85 %", "95 %"), columns)


def _ddr3(entries: list[dict[str, Any]]) -> str:
    columns = [
        [
            ("lanes", f"{result['lanes']}"),
            ("folded rows that fit beside the rest", f"{result['folded']:,}"),
            ("cycles per token", f"{result['cycles_per_token']:,.0f}"),
            ("tokens a second at 75 MHz, core alone", f"**{_core_speed(result, DDR3_HERTZ)}**"),
            ("beats that came, of those that could have", _percent(result["bus_utilisation"])),
            ("MB a second", f"{result['memory']['bytes_per_second'] / 1e6:,.0f}"),
            *_shares(result),
            (
                "µJ a token, [an estimate](../energy.md)",
                " to ".join(_microjoules(joules) for joules in result["energy"]["joules_per_token"]),
            ),
            ("... of that by the memory", _percent_of_memory(result["energy"])),
        ]
        for result in _results(entries)
    ]
    return _columns(("85 %, 16 lanes", "95 %, 16 lanes", "85 %, the board's core", "95 %, the board's core"), columns)


def _percent_of_memory(energy: dict[str, Any]) -> str:
    parts = [cause["joules"] for name, cause in energy["causes"].items() if name.startswith("DDR3")]
    shares = [sum(own) / whole for own, whole in zip(zip(*parts, strict=True), energy["joules_per_token"], strict=True)]
    return f"{_percent(min(shares))} to {_percent(max(shares))}"


def _wikitext2(entries: list[dict[str, Any]]) -> str:
    text, *cores = _results(entries)
    columns = []
    for result, hertz in zip(cores, (SDRAM_HERTZ, DDR3_HERTZ, DDR3_HERTZ), strict=True):
        readout = result.get("macs_readout_per_token")
        columns.append(
            [
                ("perplexity of the four articles, 16 streams", f"{text['perplexity']:.2f}"),
                ("lanes", f"{result['lanes']}"),
                ("folded rows", f"{result['folded']:,}"),
                ("MACs per token, layers", f"{result['macs_per_token']:,.0f}"),
                ("... read-out", "the host's" if readout is None else f"{readout:,.0f}"),
                ("cycles per token", f"{_per_token(result, 'cycles'):,.0f}"),
                ("clock of the core, MHz", f"{hertz / 1e6:g}"),
                ("tokens a second, core alone", _core_speed(result, hertz)),
                ("beats that came, of those that could have", _percent(result["bus_utilisation"])),
                ("event values or log-probabilities unlike the integer network's", f"{result['mismatches']}"),
            ]
        )
    return _columns(("SDRAM of a ULX3S, layers alone", "DDR3, the whole token", "... with folded rows"), columns)


def _in_a_row(entries: list[dict[str, Any]]) -> str:
    one, *cut = _results(entries)
    rows = [_of_a_row("one: layers 1 to 3", one)]
    for name, result in zip(("two", "three"), cut, strict=True):
        for board in result["boards"]:
            first, last = board["layers"]
            layers = f"layer {first}" if first == last else f"layers {first} to {last}"
            rows.append(_of_a_row(f"{name}: {layers}", board))
    head = (
        "boards: which",
        "MACs per token",
        "cycles per token",
        "bytes to and from the board, per token",
        "tokens a second: core alone",
        "streamed",
        "what limits streaming",
    )
    return _markdown(head, rows)


def _of_a_row(name: str, board: dict[str, Any]) -> tuple[str, ...]:
    """Cells of a board, one of several."""
    speed = board["speed"]
    streamed = speed["at_once"]
    return (
        name,
        *(cell for _, cell in _counts(board)),
        f"{speed['bytes_sent_per_token']:,.0f} and {speed['bytes_received_per_token']:,.0f}",
        _core_speed(board),
        f"{streamed['streamed_tokens_per_second']:,.0f}",
        f"the {streamed['limit']}",
    )


def _energy(entries: list[dict[str, Any]]) -> str:
    runs = [result["energy"] for result in _results(entries)]
    rows = []
    for cause, one in runs[0]["causes"].items():
        cells = []
        for run in runs:
            counts, joules = run["causes"][cause]["count"], run["causes"][cause]["joules"]
            cells.append(" to ".join(f"{count:,.0f}" if count >= 1 else f"{count:.3g}" for count in counts))
            cells += [_microjoules(bound) for bound in joules]
        rows.append((f"{cause} ({one['unit']})", *cells))
    total, most = ["**together, estimated**"], ["a ULX3S at its most"]
    for run in runs:
        total += ["", *(f"**{_microjoules(joules)}**" for joules in run["joules_per_token"])]
        most += ["", "", _microjoules(run["board_joules_at_most"])]
    return _markdown(("", "85 %: a token", "µJ, low", "high", "95 %: a token", "µJ, low", "high"), [*rows, total, most])


def _microjoules(joules: float) -> str:
    return f"{1e6 * joules:,.1f}"


def _peers(entries: list[dict[str, Any]]) -> str:
    columns = []
    for entry in entries:
        result, machine = entry["result"], entry["machine"]
        speeds = {name: peer["steps_per_second"] for name, peer in machine["peers"].items()}
        whole = {name: peer.get("tokens_per_second") for name, peer in machine["peers"].items()}
        # A core that makes the read-out is compared by whole tokens, where these were measured.
        own = {name: whole[name] or speed for name, speed in speeds.items()}
        own = own if "readout_macs" in result["counters"] else speeds
        best = max(speed for name, speed in own.items() if name.startswith("PyTorch"))
        columns.append(
            [
                ("this core at 62.5 MHz, before the link", f"**{_core_speed(result)}**"),
                (
                    f"... were its {result['lanes']} lanes the limit",
                    f"{_hertz(result) / result['bound_cycles_per_token']:,.0f}",
                ),
                ("... were its SDRAM the limit", f"{_hertz(result) / _per_token(result, 'beats'):,.0f}"),
                *((name, f"{speed:,.0f}") for name, speed in speeds.items()),
                *((f"{name}, with the read-out", f"{speed:,.0f}") for name, speed in whole.items() if speed),
                ("PyTorch at its best, over this core", f"{best * _per_token(result, 'cycles') / _hertz(result):.1f}"),
                ("values unlike the integer network's", f"{result['peers']['mismatches']}"),
                ("machine", machine["name"]),
                ("date", machine["date"]),
            ]
        )
    return _columns(("85 %", "95 %"), columns)


def _estimate(entries: list[dict[str, Any]]) -> str:
    columns = []
    half = len(entries) // 2
    for core, predicted in zip(_results(entries[:half]), _results(entries[half:]), strict=True):
        rows = [("folded rows", f"{core['folded']:,}")]
        for name, figure in (("cycles", "cycles_per_token"), ("bytes", "bytes_per_token")):
            share = 100 * (predicted[figure] / core[figure] - 1)
            rows += [
                (f"{name} per token: run", f"{core[figure]:,.0f}"),
                ("... predicted", f"{predicted[figure]:,.0f}"),
                ("... error", f"{share:+.1f} %".replace("-", "−")),
            ]
        rows.append(("block RAM of the read-out's own memories, bytes", f"{predicted['readout_memory_bytes']:,.0f}"))
        columns.append(rows)
    return _columns(("85 %", "95 %"), columns)


def _fit(entries: list[dict[str, Any]]) -> str:
    rows = []
    for board in _results(entries)[0]["boards"]:
        used, available, speed = board["used"], board["available"], board["speed"]
        rows.append(
            (
                f"`{board['board']}`",
                "; ".join(board["lacks"]) or "fits",
                f"{used['block_rams']:,} of {available['block_rams']:,}" if used else "",
                f"{board['cycles_per_token']:,.0f}" if speed else "",
                f"{speed['usb']['generated_tokens_per_second']:,.0f}" if speed else "",
            )
        )
    return _markdown(("board", "fits, or what lacks", "block RAMs", "cycles a token", "tokens a second"), rows)


def _simulation(entries: list[dict[str, Any]]) -> str:
    names = (
        *("demo network", "demo network, Icarus", "85 %, block RAM, 8 lanes", "85 %, SDRAM", "95 %, SDRAM"),
        *("85 %, SDRAM, whole tokens, two streams at once", "95 %, SDRAM, whole tokens, two streams at once"),
    )
    rows = []
    for name, entry in zip(names, entries, strict=True):
        machine = entry["machine"]
        rows.append((name, f"{machine['simulated_tokens_per_second']:,.1f}", machine["name"], machine["date"]))
    return _markdown(("", "tokens simulated a second", "machine", "date"), rows)


def _digits(entries: list[dict[str, Any]]) -> str:
    rows = []
    for name, one in zip(("float", "integers", "core"), _results(entries), strict=True):
        cycles, wrong = one.get("cycles_per_token"), one.get("mismatches")
        rows.append(
            (
                name,
                f"{one['right']} of {one['asked']}",
                _percent(one["accuracy"]),
                _percent(one["activity"][0]),
                f"{one['macs_per_step']:,.0f} of {one['macs_per_step_dense']:,}",
                "" if cycles is None else f"{cycles:,.0f}",
                "" if wrong is None else f"{wrong}",
            )
        )
    head = ("", "right", "accuracy", "activity", "MACs a step, of all", "cycles a step", "mismatches")
    return _markdown(head, rows)


PACKING = tuple((goal, lanes) for goal in ("speed", "size") for lanes in (2, 8, 16))
"""Goals and lanes for which the packed memory is measured."""


def _packing(entries: list[dict[str, Any]]) -> str:
    head = ("goal", "lanes", "bits of a weight", "lane slots filled", "bytes a non-zero weight", "with pointers")
    rows = []
    for (goal, lanes), result in zip(PACKING, _results(entries), strict=True):
        used, weights = result["weight_bytes"], result["nonzeros"]
        rows.append(
            (
                goal,
                f"{lanes}",
                f"{result['configuration']['weight_bits']}",
                _percent(result["slots_filled"]),
                f"{used / weights:.3f}",
                f"{(used + result['pointer_bytes']) / weights:.3f}",
            )
        )
    return _markdown(head, rows)


def _runs(sparsity: str) -> tuple[str, ...]:
    return tuple(f"{sparsity}-{name}" for name in ("8-lanes", "16-lanes", "32-lanes", "folded-1000", "folded-10000"))


TABLES: dict[str, Table] = {
    "readme": Table(
        (
            *("demo-integer", "85-groups-perplexity", "95-groups-perplexity"),
            *("demo-2000", "85-groups-sdram", "95-groups-sdram"),
            *("85-groups-energy", "95-groups-energy"),
        ),
        _readme,
        commands=False,
    ),
    "whole-token": Table(
        tuple(
            f"{sparsity}-groups-{run}"
            for run in ("perplexity", "sdram", "board", "energy")
            for sparsity in ("85", "95")
        ),
        _whole_token,
    ),
    "demo": Table(("demo-float", "demo-integer", "demo-20000"), _demo),
    "speed-ups": Table(("demo-speed-ups",), _speed_ups),
    "resets": Table(("reset-before-text", "reset-after-text", "reset-before-core", "reset-after-core"), _resets),
    "boards": Table(("demo-icebreaker", "demo-ulx3s", "95-board"), _boards),
    "perplexity": Table(("85-perplexity", "95-perplexity"), _perplexity),
    "lanes-85": Table(_runs("85"), _lanes),
    "lanes-95": Table(_runs("95"), _lanes),
    "samples": Table(("85-samples", "95-samples"), _samples),
    "sdram": Table(("85-sdram", "95-sdram"), _sdram),
    "sdram-none-resident": Table(("85-sdram-none-resident", "95-sdram-none-resident"), _sdram),
    "sdram-folded-550": Table(("85-sdram-folded-550", "95-sdram-folded-550"), _sdram),
    "wikitext2": Table(
        ("wikitext2-95-perplexity", "wikitext2-95-sdram", "wikitext2-95-ddr3", "wikitext2-95-ddr3-folded"), _wikitext2
    ),
    "in-a-row": Table(("85-one-board", "85-split-1", "85-split-1-2"), _in_a_row),
    "energy": Table(("85-energy", "95-energy"), _energy),
    "peers": Table(("85-energy", "95-energy"), _peers, commands=False),
    "peers-whole-token": Table(("85-groups-energy", "95-groups-energy"), _peers, commands=False),
    "packing": Table(tuple(f"85-{goal}-{lanes}" for goal, lanes in PACKING), _packing, commands=False),
    "estimate": Table(
        ("85-groups-sdram", "95-groups-sdram", "85-groups-estimate", "95-groups-estimate"), _estimate, commands=False
    ),
    "fit": Table(("fit",), _fit, commands=False),
    "digits": Table(("digits-float", "digits-integer", "digits-core"), _digits, commands=False),
    "digits-speed-ups": Table(("digits-speed-ups",), _speed_ups, commands=False),
    "ddr3": Table(("85-groups-ddr3", "95-groups-ddr3", "85-groups-ddr3-board", "95-groups-ddr3-board"), _ddr3),
    "estimate-ddr3": Table(
        ("85-groups-ddr3", "95-groups-ddr3", "85-groups-ddr3-estimate", "95-groups-ddr3-estimate"),
        _estimate,
        commands=False,
    ),
    "simulation": Table(
        (
            *("demo-20000", "demo-icarus", "85-8-lanes", "85-sdram", "95-sdram"),
            *("85-groups-streams", "95-groups-streams"),
        ),
        _simulation,
        commands=False,
    ),
}
"""By the name that stands in the documents."""
