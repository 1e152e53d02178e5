"""The network and the text that tests of the command line name `network` and `text`."""

from egret.model.checkpoint import NetworkConfiguration

CONFIGURATION = NetworkConfiguration("egru", "char", 3, 4, (5, 4))

TEXT = "abcacbbacabbbcacbcabca" * 3
