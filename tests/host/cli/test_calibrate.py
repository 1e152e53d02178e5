"""The command `egret calibrate`."""

import json
import re


def test_calibrate(egret, network):
    calibrate = ("calibrate", "network", "-o", "calibrated", "--text", "text", "--batch", 2)
    status, out, _ = egret(*calibrate)
    shown = re.search(r"│ scale of the read-out +│ ([0-2]\.\d{4}) │", out)
    assert status == 0 and f"{json.loads(egret(*calibrate, '--json')[1])['scale']:.4f}" == shown[1]
    losses = []
    for name in ("network", "calibrated"):
        _, out, _ = egret("evaluate", name, "--text", "text", "--engine", "float", "--batch", 2, "--json")
        losses.append(json.loads(out)["perplexity"])
    assert losses[1] < losses[0]
    bits = ("--weight-bits", 4, "--embedding-bits", 6)
    assert egret(*calibrate, *bits)[0] == 0
    losses = []
    for name in ("network", "calibrated"):
        egret("quantise", name, "-o", "integer", *bits)
        _, out, _ = egret("evaluate", "integer", "--text", "text", "--engine", "integer", "--batch", 2, "--json")
        losses.append(json.loads(out)["perplexity"])
    assert losses[1] < losses[0]
