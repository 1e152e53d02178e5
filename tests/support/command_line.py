"""The network and the text that tests of the command line name `network` and `text`."""

from egret.model.checkpoint import NetworkConfiguration
from egret.model.compiler.compile import compile_image, configuration_for
from egret.model.compiler.configuration import TARGETS
from egret.model.quantise import quantise

CONFIGURATION = NetworkConfiguration("egru", "char", 3, 4, (5, 4))

TEXT = "abcacbbacabbbcacbcabca" * 3


def compiled(random_checkpoint):
    """The integer network of `network`, and the image that ``egret compile network`` makes of it: its board is built
    once for all tests."""
    network = quantise(random_checkpoint(CONFIGURATION, scale=0.5))
    return network, compile_image(network, configuration_for(network, **TARGETS["default"]))
