"""The script that measures controllers of an SDRAM, as far as it runs without LiteDRAM."""

import json

import pytest
from click.testing import CliRunner

from bench import sdram
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.errors import InputError
from egret.model.integer_file import save_integer
from egret.rtl.sdram import ADDRESS_BITS
from tests.support.networks import few_values, random_network


@pytest.fixture(scope="module")
def network():
    return few_values(random_network(1, embedding=6, hidden=(40, 30)))


@pytest.fixture
def image(network):
    return compile_image(
        network,
        configuration_for(network, lanes=4, weight_bits=4, store="sdram", folded_tokens=0, resident_bytes=0),
    )


def test_random_bursts(image):
    bursts = sdram.bursts_of(image, "random", 300, 0.1)
    assert all(80 <= count <= 320 and address + count < 1 << ADDRESS_BITS for address, count in bursts)
    assert bursts == sdram.bursts_of(image, "random", 300, 0.1) and len(set(bursts)) == 300


def test_bursts_are_columns(image):
    """All columns, once each, fill the weights of the memory without a gap."""
    c = image.configuration
    bursts = sdram.bursts_of(image, "rising", 6 + 40 * 3 + 30 * 2, 1.0)
    bursts = bursts[: len(set(bursts))]
    assert bursts[0][0] == c.sdram_base["weights"]
    assert all(
        address + count == following for (address, count), (following, _) in zip(bursts, bursts[1:], strict=False)
    )
    assert sum(count for _, count in bursts) == c.sdram_sizes["weights"]
    few = sdram.bursts_of(image, "rising", 50, 0.3)
    assert len(few) == 50 and set(few) <= set(bursts) and few[:5] == sorted(few[:5])
    assert set(sdram.bursts_of(image, "anywhere", 500, 0.3)) <= set(bursts)


def test_no_columns():
    network = random_network(1, embedding=6, density=0)
    image = compile_image(network, configuration_for(network, store="sdram", folded_tokens=0))
    with pytest.raises(InputError, match="the network has no weights"):
        sdram.bursts_of(image, "anywhere", 3, 0.3)


@pytest.mark.slow
def test_ours(network, tmp_path, monkeypatch):
    """One build and run of the script, with a table and without LiteDRAM."""
    monkeypatch.setattr(sdram, "LITES", ())
    save_integer(network, tmp_path / "network")
    done = CliRunner().invoke(sdram.main, [str(tmp_path / "network"), "--bursts", "200", "--json"])
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert list(result["controllers"]) == ["ours"]
    share = result["controllers"]["ours"]["share"]
    assert share["random"] >= 0.98 and 0 < share["anywhere"] <= 1
    assert 190 < result["words_per_burst"]["random"] < 210


def test_missing_network(tmp_path):
    done = CliRunner().invoke(sdram.main, [str(tmp_path / "none")])
    assert isinstance(done.exception, InputError)
