"""Curves of perplexity over MACs against points worked out by hand."""

import json
import math

import pytest

from bench.equal_perplexity import curves, macs_at, main, perplexity_at
from tests.model.training.test_report import result, write_study

CURVE = [(math.log(1e4), 70.0), (math.log(1e6), 60.0), (math.log(1e7), 60.0), (math.log(1e8), 62.0)]


def test_reading_a_curve():
    assert macs_at(CURVE, 65) == pytest.approx(1e5)
    assert macs_at(CURVE, 61) == pytest.approx(10**5.8)  # the fewer of two
    assert macs_at(CURVE, 70.1) is macs_at(CURVE, 59.9) is macs_at(CURVE[:1], 70) is None
    assert perplexity_at(CURVE, 1e5) == pytest.approx(65)
    assert perplexity_at(CURVE, 10**7.5) == pytest.approx(61)
    assert perplexity_at(CURVE, 9e3) is perplexity_at(CURVE, 1.1e8) is None


@pytest.fixture
def study(tmp_path):
    """Two runs with two seeds; at 65 the first has 1e5 and 2e5 MACs, the second 4e5 with one seed alone."""
    points = []
    for run, seed, macs in (("egru", 1, 1e5), ("egru", 2, 2e5), ("other", 2, 4e5)):
        points += [result(run, zeros, seed, test=test, macs=macs * factor)
                   for zeros, test, factor in ((0.0, 60, 10), (0.9, 70, 0.1))]  # fmt: skip
    write_study(tmp_path, points)
    return tmp_path


def test_over_seeds(study, capsys):
    main([str(study), "--perplexity", "65", "--macs", "1e5", "--json"], standalone_mode=False)
    found = {(one["run"], one["figure"]): one["found"] for one in json.loads(capsys.readouterr().out)["figures"]}
    assert found["egru", "MACs"] == {
        "mean": pytest.approx(2**0.5 * 1e5), "deviation": pytest.approx(math.log(2) / 2**0.5), "seeds": 2
    }  # fmt: skip
    second = 70 - 10 * math.log(5) / math.log(100)  # seed 2: 70 at 2e4, 60 at 2e6
    assert found["egru", "perplexity"]["mean"] == pytest.approx((65 + second) / 2)
    assert found["other", "MACs"] == {"mean": pytest.approx(4e5), "deviation": 0, "seeds": 1}


def test_over_those_of_another_run(study, capsys):
    main([str(study), "--perplexity", "65", "--perplexity", "90", "--to", "egru"], standalone_mode=False)
    text = capsys.readouterr().out
    assert "2.00 ± 0% (1 seeds)" in text and "1.00 ± 0% (2 seeds)" in text and text.count("none") == 2
    with pytest.raises(Exception, match="--to: the study has egru, other, not 'lstm'"):
        main([str(study), "--to", "lstm"], standalone_mode=False)
    assert [[*seeds] for seeds in curves([result(seed=3), result(seed=4)]).values()] == [[3, 4]]
