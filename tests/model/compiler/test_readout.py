"""The read-out of an image: what its words add, against the weights, and the network that is read back."""

import dataclasses

import numpy as np
import pytest

from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import Configuration, ReadoutShape, first_bank
from egret.model.compiler.image import Image
from egret.model.compiler.layouts import word_layouts
from egret.model.compiler.readout import HOME, readout_shape
from egret.model.compiler.unpack import read_image
from egret.model.errors import InputError
from egret.model.readout import ReadOut
from tests.support.networks import few_values, random_groups, random_network

CODEBOOK = np.array([-100, -40, -12, -3, 3, 12, 40, 100], np.int8)


def image_of(seed, *, head=5, sizes=(9, 1, 40), rows=2, lanes=2, weight_bits=8, density=0.9, **options):
    network = random_network(
        seed,
        vocabulary=head + sum(sizes),
        embedding=6,
        hidden=(7, 6),
        embedding_density=density,
    )
    if weight_bits == 4:
        network = few_values(network)
    network = random_groups(
        network, head=head, sizes=sizes, rows=rows, seed=seed, codebook=CODEBOOK if weight_bits == 4 else None
    )
    return network, compile_image(network, configuration_for(network, lanes=lanes, readout=True, **options))


def matrices_of(image):
    """Weights [N, H] of each matrix of the read-out, walked over as the lanes do, entry by entry."""
    c, layouts = image.configuration, word_layouts(image.configuration)
    groups = layouts["groups"].unpack(image.memories["groups"])
    words = layouts["weights"].unpack(image.memories["weights"])["entries"]
    book = None
    if c.weight_bits == 4:
        book = layouts["codebook"].unpack(image.memories["codebook"])["weight"]
    for number, (start, count, size) in enumerate(zip(groups["start"], groups["count"], groups["size"], strict=True)):
        kind = "group" if number else "head"
        weight = np.zeros((size, c.hidden[-1]), np.int64)
        for source in range(c.hidden[-1]):
            at = start - c.resident_words + source * count
            for lane in range(c.lanes):
                codes = words["code"][at : at + count, lane].tolist()
                if book is not None:
                    codes = [
                        code
                        for pair in zip(codes, words["run"][at : at + count, lane].tolist(), strict=True)
                        for code in pair
                    ]
                for step, code in enumerate(codes):
                    bank, address = first_bank(lane) + HOME + step % 2, step // 2
                    if code:
                        value = code - (code >> 7 << 8) if book is None else book[16 * c.readout_matrix(kind) + code]
                        weight[address * c.banks + bank, source] = value
        yield weight


@pytest.mark.parametrize(
    ("seed", "options"),
    [
        (1, {}),
        (2, {"lanes": 1, "sizes": (70, 3)}),
        (3, {"lanes": 4, "density": 0.1, "sizes": (300,), "rows": 1}),
        (4, {"weight_bits": 4, "lanes": 4, "store": "sdram", "resident_bytes": 64}),
        (5, {"lanes": 8, "sizes": (1, 1, 2), "head": 0}),
        (6, {"density": 0.0}),
    ],
)
def test_the_words_are_the_weights_and_come_back(seed, options):
    network, image = image_of(seed, **options)
    readout = ReadOut(network)
    found = list(matrices_of(image))
    assert len(found) == len(readout.weights)
    for one, weight in zip(found, readout.weights, strict=True):
        assert one.tolist() == weight.tolist()
    again = ReadOut(read_image(Image.from_bytes(image.to_bytes())))
    assert [one.tolist() for one in again.weights] == [one.tolist() for one in readout.weights]
    assert [one.tolist() for one in again.biases] == [one.tolist() for one in readout.biases]
    assert again.order.tolist() == readout.order.tolist() and again.sizes == readout.sizes


def test_a_plain_readout_is_all_head():
    network = dataclasses.replace(random_groups(random_network(3), head=4, sizes=(3,)), groups=None)
    image = compile_image(network, configuration_for(network, lanes=2, readout=True))
    assert image.configuration.readout == ReadoutShape(head=7) == readout_shape(ReadOut(network))
    assert read_image(image).groups is None
    (head,) = matrices_of(image)
    assert head.tolist() == ReadOut(network).weights[0].tolist()


def test_a_configuration_says_what_it_reads_out():
    _, image = image_of(1)
    c = image.configuration
    assert c.readout == ReadoutShape(head=5, groups=3, group_size=40, rows=2)
    assert Configuration.from_json(c.to_json()) == c
    without = dataclasses.replace(c, readout=None)
    assert '"readout"' not in without.to_json() and Configuration.from_json(without.to_json()) == without
    assert without.bank_depth == c.bank_depth - 11 // 4 - 1 - 10
    with pytest.raises(InputError, match="readout must have exactly the keys group_size"):
        Configuration.from_json(c.to_json().replace('"rows"', '"row"'))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head": 0}, "head of the read-out must be an integer from 1"),
        ({"head": 3, "groups": 2}, "group_size of the read-out must be an integer from 1"),
        ({"head": 3, "rows": 3}, "rows of the read-out must be 1, 2, 4, 8 or 16"),
    ],
)
def test_a_bad_shape_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        ReadoutShape(**changes)


def test_a_readout_that_does_not_fit_is_refused():
    network, image = image_of(1)
    for changes, options, message in (
        ({"readout_fraction": 10}, {}, "with 11 to 25 fraction bits of a logit; the network has 10"),
        ({}, {"store": "spram", "lanes": 1}, "a read-out needs the store bram or sdram"),
    ):
        with pytest.raises(InputError, match=message):
            configuration_for(dataclasses.replace(network, **changes), readout=True, **options)
    few = few_values(network)
    with pytest.raises(InputError, match="15 values for the read-out; the network has"):
        configuration_for(few, weight_bits=4, readout=True)
    other = dataclasses.replace(image.configuration, readout=ReadoutShape(head=5, groups=3, group_size=40, rows=1))
    with pytest.raises(InputError, match="the core is built for ReadoutShape"):
        compile_image(network, other)
    small = dataclasses.replace(image.configuration, weight_words=image.configuration.weight_words - 1)
    with pytest.raises(InputError, match="bytes of weight memory.* or compile with --no-readout or --weight-bytes$"):
        compile_image(network, small)


def test_an_image_without_the_readout_of_groups_has_none():
    network, _ = image_of(1)
    image = compile_image(network, configuration_for(network, lanes=2, readout=False))
    assert image.configuration.readout is None and image.readout_bias == b"" == image.readout_weight
    assert read_image(image).readout_bias is None
