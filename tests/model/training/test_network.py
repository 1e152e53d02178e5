"""The float networks: carried state, dropout, checkpoints, the loss."""

import numpy as np
import pytest
import torch

from egret.model.checkpoint import load_checkpoint, save_checkpoint
from egret.model.errors import InputError
from egret.model.tokens import Vocabulary
from egret.model.training.dropout import Dropout
from egret.model.training.network import LanguageModel, configuration_of


def vocabulary(size):
    return Vocabulary([chr(0x61 + index) for index in range(size)], "char")


def model_of(cell="egru", reset="before", seed=3, threshold_mean=0.1, dropout=None, sizes=(7, 5), vocab=9, **keywords):
    configuration = configuration_of(
        vocabulary(vocab), cell=cell, embedding_size=sizes[-1], hidden_sizes=sizes, reset=reset
    )
    model = LanguageModel(configuration, dropout, **keywords)
    model.initialise(seed, threshold_mean=threshold_mean, embedding_scale=0.5)
    return model


@pytest.mark.parametrize(("cell", "reset"), [("egru", "before"), ("egru", "after"), ("lstm", "before")])
def test_carried_state_equals_one_long_run(cell, reset):
    model = model_of(cell, reset).double().eval()
    tokens = torch.randint(0, 9, (23, 3), generator=torch.Generator().manual_seed(1))
    whole, end, _ = model(tokens, model.zero_state(3))
    state, parts = model.zero_state(3), []
    for start, stop in ((0, 1), (1, 12), (12, 23)):
        part, state, _ = model(tokens[start:stop], state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts), whole)
    for (y, c), (end_y, end_c) in zip(state, end, strict=True):
        torch.testing.assert_close(y, end_y)
        torch.testing.assert_close(c, end_c)


@pytest.mark.parametrize(("cell", "reset"), [("egru", "before"), ("egru", "after"), ("lstm", "before")])
def test_every_parameter_learns(cell, reset):
    model = model_of(cell, reset, dropout=Dropout(recurrent=0.5), sizes=(30, 20), threshold_mean=0.02)
    if cell == "egru":
        for layer in model.layers:
            layer.threshold.requires_grad_()
    tokens = torch.randint(0, 9, (12, 4), generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    hidden, _, activity = model(tokens[:-1], model.zero_state(4))
    model.loss(hidden, tokens[1:]).backward()
    assert all(0 <= share <= 1 for share in activity.tolist())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_masks_are_locked_scaled_and_absent_in_evaluation():
    rates = Dropout(words=0.3, embedding=0.5, between=0.2, output=0.4, recurrent=0.7)
    model = model_of(dropout=rates, sizes=(60, 50), vocab=26)
    torch.manual_seed(0)
    masks = model.draw_masks(40)
    drawn = [(masks.words, (26, 1), 0.3), (masks.embedding, (40, 50), 0.5), (masks.outputs[0], (40, 60), 0.2),
             (masks.outputs[1], (40, 50), 0.4), (masks.recurrent[0], (180, 60), 0.7),
             (masks.recurrent[1], (150, 50), 0.7)]  # fmt: skip
    for mask, shape, rate in drawn:
        assert mask.shape == shape
        values = set(np.unique(mask.numpy()).tolist())
        assert values <= {0.0, float(np.float32(1 / (1 - rate)))}
        assert abs((mask == 0).float().mean().item() - rate) < (0.3 if shape[1] == 1 else 0.05)
    model.eval()
    masks = model.draw_masks(40)
    assert masks.words is None and masks.embedding is None
    assert masks.outputs == [None, None] and masks.recurrent == [None, None]


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan"), "x", True])
def test_a_bad_dropout_rate_is_refused(rate):
    with pytest.raises(InputError, match="dropout of between must be a number from 0 to below 1"):
        Dropout(between=rate)


@pytest.mark.parametrize(("cell", "reset"), [("egru", "before"), ("egru", "after"), ("lstm", "before")])
def test_checkpoint_round_trip(cell, reset, tmp_path):
    model = model_of(cell, reset)
    save_checkpoint(model.to_checkpoint(vocabulary(9)), tmp_path / "network")
    again = LanguageModel.from_checkpoint(load_checkpoint(tmp_path / "network"))
    assert again.configuration == model.configuration
    assert [name for name, _ in again.named_parameters()] == [name for name, _ in model.named_parameters()]
    for (name, parameter), (_, other) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(parameter, other), name


def test_thresholds_have_the_mean_that_is_asked_for():
    model = model_of(sizes=(2000, 5), threshold_mean=0.2)
    threshold = model.layers[0].threshold
    assert threshold.min() >= 0 and abs(threshold.mean().item() - 0.2) < 0.02
    assert not threshold.requires_grad
    assert (model_of(threshold_mean=0).layers[0].threshold == 0).all()


def test_taught_probabilities_are_a_share_of_the_loss():
    model = LanguageModel(configuration_of(Vocabulary(["a", "b", "c"], "char"), cell="egru", embedding_size=4,
                                           hidden_sizes=(4,)))  # fmt: skip
    model.initialise(3)
    hidden, targets = torch.randn(5, 2, 4), torch.randint(0, 3, (5, 2))
    certain = torch.nn.functional.one_hot(targets, 3).float()
    taught = torch.randn(5, 2, 3).softmax(-1)
    hard, soft = model.loss(hidden, targets), model.loss(hidden, targets, taught, share=1.0)
    torch.testing.assert_close(model.loss(hidden, targets, certain, share=0.6), hard)
    torch.testing.assert_close(model.loss(hidden, targets, taught, share=0.6), 0.4 * hard + 0.6 * soft)
    likelihood = model.logits(hidden).log_softmax(-1)
    torch.testing.assert_close(soft, -(taught * likelihood).sum(-1).mean())
