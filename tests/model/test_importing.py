"""Networks of other programs: their own equations, written here, have every event that the checkpoint has."""

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from egret.model.errors import InputError
from egret.model.floating import FloatEngine
from egret.model.importing import EVNN, Layout, by_frequency, converted, from_evnn, from_map
from egret.model.tokens import Vocabulary

ROOT = Path(__file__).parents[2]
WORDS = ["the", "of", "a", "in", "<unk>", "zebra", "ox", "hen"]


def evnn(seed, words, *, embedding=12, hidden=(20, 12), projection=False, old=False):
    """A state dict as EvNN's language model has it, with weights large enough for events in all layers."""
    random = np.random.default_rng(seed)

    def normal(*shape, scale=0.5):
        return (scale * random.standard_normal(shape)).astype(np.float32)

    tensors = {"embeddings.weight": normal(words, embedding, scale=1)}
    tensors |= {"decoder.decoder.weight": tensors["embeddings.weight"], "decoder.decoder.bias": normal(words)}
    if projection:
        tensors["decoder.projection.weight"] = normal(embedding, hidden[-1])
        tensors["decoder.projection.bias"] = normal(embedding)
    inputs = embedding
    for layer, size in enumerate(hidden):
        own = {
            "kernel": normal(inputs, 3 * size),
            "recurrent_kernel": normal(size, 3 * size) * (random.random((size, 3 * size)) < 0.4),
            "bias": normal(3 * size),
            "recurrent_bias": normal(3 * size),
            "_max_norm": np.float32([-1]),
            "dampening_factor": np.float32([0.7]),
            "pseudo_derivative_support": np.float32([1]),
        }
        thresholds = random.uniform(-0.1, 0.6, size).astype(np.float32)
        own |= {"thr_reparam": 4 * thresholds - 2} if old else {"thr": thresholds}
        tensors |= {f"rnns.{layer}.{name}": np.asarray(one, np.float32) for name, one in own.items()}
        inputs = size
    return tensors


def evnn_runs(tensors, ids):
    """Outputs of all layers and log-probabilities of all words, step by step, in float32 as EvNN computes them."""
    layers = sum(name.endswith(".kernel") for name in tensors)
    states = [None] * layers
    for token in ids:
        x = tensors["embeddings.weight"][token]
        outputs = []
        for layer in range(layers):
            own = {name: tensors.get(f"rnns.{layer}.{name}") for name in ("kernel", "recurrent_kernel", "bias")}
            size = own["kernel"].shape[1] // 3
            h, y = states[layer] or (np.zeros(size, np.float32), np.zeros(size, np.float32))
            vx = np.split(x @ own["kernel"] + own["bias"], 3)
            vh = np.split(y @ own["recurrent_kernel"] + tensors[f"rnns.{layer}.recurrent_bias"], 3)
            z, r = (1 / (1 + np.exp(-(vx[one] + vh[one]))) for one in (0, 1))
            g = np.tanh(vx[2] + r * vh[2])
            if f"rnns.{layer}.thr" in tensors:
                threshold = np.clip(tensors[f"rnns.{layer}.thr"], 0, 1)
            else:
                threshold = 1 / (1 + np.exp(-tensors[f"rnns.{layer}.thr_reparam"]))
            h = z * h + (1 - z) * g
            event = np.heaviside(h - threshold, 0).astype(np.float32)
            states[layer] = h - event * threshold, event * h
            x = states[layer][1]
            outputs.append(x)
        if "decoder.projection.weight" in tensors:
            x = tensors["decoder.projection.weight"] @ x + tensors["decoder.projection.bias"]
        logits = (tensors["decoder.decoder.weight"] @ x + tensors["decoder.decoder.bias"]).astype(np.float64)
        yield outputs, logits - np.log(np.exp(logits).sum())


@pytest.fixture
def texts(tmp_path):
    """Three texts, whose words appear in another order than that of their frequency."""
    random, paths = np.random.default_rng(5), []
    for name, share in (("train", [0, 1, 1, 2, 2, 3]), ("valid", [4, 3, 3, 5]), ("test", [6, 1, 7])):
        lines = [" ".join(WORDS[one] for one in random.choice(share, 9)) for _ in range(14)]
        paths.append(tmp_path / f"{name}.txt")
        paths[-1].write_text("\n".join(lines) + "\n")
    return paths


def in_order_of_appearance(texts):
    words = {}
    for text in texts:
        for line in text.read_text().splitlines():
            for word in [*line.split(), "<eos>"]:
                words.setdefault(word, len(words))
    return words


@pytest.mark.parametrize(
    "options", [{}, {"projection": True, "hidden": (20, 9, 14)}, {"old": True}], ids=["0.2.0", "projection", "0.1.0"]
)
def test_evnn_has_the_same_events(options, texts):
    words = in_order_of_appearance(texts)
    tensors = evnn(3, len(words), **options)
    imported = from_evnn(tensors, texts)
    network, engine = imported.checkpoint, FloatEngine(imported.checkpoint)
    assert network.configuration.reset == "after" and network.configuration.tied == ("projection" not in options)
    assert all(network.tensors[f"layers.{layer}.bias_y"].all() for layer in range(network.configuration.layers))
    counts = np.bincount(np.concatenate([network.vocabulary.read(text) for text in texts]))
    assert (np.diff(counts) <= 0).all() and set(network.vocabulary.tokens) == {*words}
    ids = np.concatenate([network.vocabulary.read(text) for text in texts])
    theirs = [words[network.vocabulary.tokens[one]] for one in ids]
    events, differences = 0, []
    for one, (outputs, expected) in zip(ids, evnn_runs(tensors, theirs), strict=True):
        steps = engine.step(np.array([one]))
        for step, output in zip(steps, outputs, strict=True):
            assert ((step.y[0] != 0) == (output != 0)).all()
            events += np.count_nonzero(output)
        every = np.repeat(steps[-1].y, len(words), axis=0)
        own = engine.log_probabilities(every, np.arange(len(words)))
        differences.append(own - expected[[words[word] for word in network.vocabulary.tokens]])
    steps = len(ids) * sum(network.configuration.hidden_sizes)
    assert 0.05 < events / steps < 0.6 and np.abs(differences).max() < 1e-4


def test_what_becomes_of_evnn_is_said(texts):
    tensors = evnn(3, 9, projection=True)
    clipped, projected, left_out, ordered = from_evnn(tensors, texts).notes
    thresholds = np.concatenate([tensors[f"rnns.{layer}.thr"] for layer in (0, 1)])
    assert clipped == f"{np.count_nonzero(thresholds < 0)} thresholds were clipped to 0..1"
    assert "projection" in projected and "frequency" in ordered
    assert left_out.startswith("left out: rnns.0._max_norm, rnns.0.dampening_factor, rnns.0.pseudo_")


def test_what_is_no_evnn(texts):
    good = evnn(3, 9)
    without = {name: one for name, one in good.items() if name != "rnns.1.bias"}
    refused = {
        "f: has 8 words, and the texts have 9; give the texts": evnn(3, 8),
        "f: EvNN 0.1.0 has a ReLU behind its projection": evnn(3, 9, projection=True, old=True),
        "f: lacks 'rnns.1.bias' for bias_x; it has embeddings": without,
        "f: lacks 'rnns.0.kernel' for weight_x": {
            name: good[name] for name in ("embeddings.weight", "decoder.decoder.bias", "decoder.decoder.weight")
        },
        "f: nothing is known of 'norm.weight'": good | {"norm.weight": np.ones(3, np.float32)},
        "f: lacks 'embeddings.weight'": {},
        "f: embedding must have 2 dimensions": good | {"embeddings.weight": np.float32(1)},
        r"f: tensor 'rnns.0.thr' must have the shape \[20\], not \[2\]": good | {"rnns.0.thr": np.ones(2, np.float32)},
        r"f: tensor 'layers.0.bias' holds nan": good | {"rnns.0.bias": np.full(60, np.nan, np.float32)},
    }
    for message, tensors in refused.items():
        with pytest.raises(InputError, match=message):
            from_evnn(tensors, texts, "f")


GRU = {
    "tokens": "char",
    "vocabulary": "vocab.txt",
    "reset": "after",
    "gates": ["r", "not u", "z"],
    "tensors": {
        "embedding": "embed.weight",
        "weight_x": "gru.weight_ih_l{}",
        "weight_y": "gru.weight_hh_l{}",
        "bias_x": "gru.bias_ih_l{}",
        "bias_y": "gru.bias_hh_l{}",
        "threshold": "threshold.{}",
        "readout_weight": "head.weight",
        "readout_bias": "head.bias",
    },
}


def gru(like):
    """The network of an EvNN's state dict under the names and in the order of a module with a `torch.nn.GRU`."""
    made = {"embed.weight": like["embeddings.weight"], "head.bias": like["decoder.decoder.bias"]}
    made["head.weight"] = like["decoder.decoder.weight"]
    for layer in (0, 1):
        own = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel", "bias_ih": "bias", "bias_hh": "recurrent_bias"}
        for name, theirs in own.items():
            z, r, g = np.split(like[f"rnns.{layer}.{theirs}"].T, 3)
            made[f"gru.{name}_l{layer}"] = np.concatenate([r, z, g])
        made[f"threshold.{layer}"] = np.clip(like[f"rnns.{layer}.thr"], 0, 1)
    return made


@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_module_with_names_of_its_own(suffix, tmp_path):
    """Equal to the same network of EvNN, in every bit."""
    like = evnn(3, 9)
    vocabulary = Vocabulary("abcdefghi", "char")
    (tmp_path / "vocab.txt").write_bytes(vocabulary.to_bytes())
    path = tmp_path / f"map.{suffix}"
    if suffix == "json":
        path.write_text(json.dumps(GRU))
    else:
        plain = [f"{name} = {json.dumps(one)}" for name, one in GRU.items() if name != "tensors"]
        names = [f"{name} = {json.dumps(one)}" for name, one in GRU["tensors"].items()]
        path.write_text("\n".join([*plain, "[tensors]", *names]))
    found = from_map(gru(like), path).checkpoint
    layout = Layout.from_fields(
        {"tensors": {name: one for name, one in EVNN.names.items() if "projection" not in name}}
        | {name: getattr(EVNN, name) for name in ("gates", "transposed", "thresholds", "reset", "ignore")},
        "map",
    )
    expected = converted(like, layout, vocabulary).checkpoint
    assert found.configuration == expected.configuration and found.vocabulary == expected.vocabulary
    assert found.configuration.tied  # equal weights are one
    assert {name for name in found.tensors if (found.tensors[name] != expected.tensors[name]).any()} == set()
    (tmp_path / "text").write_text("iiiiggha")
    ordered = from_map(gru(like), path, [tmp_path / "text"]).checkpoint
    assert "".join(ordered.vocabulary.tokens) == "igahbcdef"
    assert (ordered.tensors["readout.bias"] == found.tensors["readout.bias"][[8, 6, 0, 7, 1, 2, 3, 4, 5]]).all()


def test_the_map_of_the_page():
    page = (ROOT / "docs/importing.md").read_text()
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.S)
    assert tomllib.loads(text) == GRU
    assert [field.name for field in dataclasses.fields(Layout) if not re.search(rf"\b{field.name}\b", page)] == []


def test_the_gates_of_a_gru_of_pytorch(tmp_path):
    """Its first step from zero is the new state p, without a threshold's reset: PyTorch itself is the reference."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(4)
    gru, embedding = torch.nn.GRU(3, 5), torch.randn(7, 3)
    content = GRU | {"tokens": "id", "vocabulary": None}
    content["tensors"] = {name: one.removeprefix("gru.") for name, one in GRU["tensors"].items()} | {"threshold": 0.1}
    del content["tensors"]["readout_bias"]
    (tmp_path / "map.json").write_text(json.dumps(content))
    tensors = {"embed.weight": embedding, "head.weight": torch.randn(7, 5), **gru.state_dict()}
    arrays = {name: tensor.detach().numpy() for name, tensor in tensors.items()}
    engine = FloatEngine(from_map(arrays, tmp_path / "map.json").checkpoint)
    engine.reset_state(7)
    (step,) = engine.step(np.arange(7))
    assert np.abs(step.p - gru(embedding[None])[0][0].detach().numpy()).max() < 1e-6


def test_a_module_with_little(tmp_path):
    """One threshold for all, no biases, the reset before the matrix, masks of a pruning, layers called as one likes."""
    random = np.random.default_rng(1)
    tensors = {
        "e": random.standard_normal((6, 4)),
        "first.x": random.standard_normal((15, 4)),
        "first.y_orig": random.standard_normal((15, 5)),
        "first.y_mask": random.random((15, 5)) < 0.5,
        "second.x": random.standard_normal((12, 5)),
        "second.y": random.standard_normal((12, 4)),
        "steps": np.zeros(()),
    }
    tensors = {name: one.astype(np.float32) for name, one in tensors.items()}
    names = {"embedding": "e", "weight_x": "{}.x", "weight_y": "{}.y", "threshold": 0.25}
    content = {"tokens": "id", "layers": ["first", "second"], "ignore": ["step?"], "tensors": names}
    (tmp_path / "map.json").write_text(json.dumps(content))
    imported = from_map(tensors, tmp_path / "map.json")
    made = imported.checkpoint
    assert imported.notes == ("1 masks of a pruning were applied", "left out: steps")
    assert made.configuration.hidden_sizes == (5, 4) and made.vocabulary == Vocabulary.of_ids(6)
    assert (made.tensors["layers.0.weight_y"] == tensors["first.y_orig"] * tensors["first.y_mask"]).all()
    assert (made.tensors["layers.1.threshold"] == 0.25).all() and not made.tensors["layers.1.bias"].any()
    assert "layers.0.bias_y" not in made.tensors and made.configuration.reset == "before"
    (tmp_path / "text").write_text("1 2 3")
    with pytest.raises(InputError, match="cannot be given in another order"):
        by_frequency(imported, [tmp_path / "text"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tensors": None}, "lacks the table 'tensors'"),
        ({"tensors": {"embedding": "e"}}, "lacks 'weight_x' in 'tensors'"),
        ({"tensors": GRU["tensors"] | {"bias": "b"}}, "unknown field 'bias'; expected are embedding, "),
        ({"tensors": GRU["tensors"] | {"embedding": 3}}, "embedding must be the name of a tensor, not 3"),
        ({"tensors": GRU["tensors"] | {"threshold": [1]}}, r"threshold must be a name or a number, not \[1\]"),
        ({"tensors": GRU["tensors"] | {"threshold": 10**400}}, "threshold must be a finite number, not 1000"),
        ({"layers": ["0", "0"]}, "layers must be different ones, and weight_x and weight_y have {} where each stands"),
        ({"hidden": 3}, "unknown field 'hidden'; expected are gates, "),
        ({"gates": ["u", "r"]}, r"gates must be u \(or 'not u'\), r and z in some order, not \['u', 'r'\]"),
        ({"gates": ["u", "not r", "z"]}, "gates must be u"),
        ({"ignore": None}, "ignore must be a list of strings, not None"),
        ({"gates": "urz"}, "gates must be a list of strings, not 'urz'"),
        ({"reset": "never"}, "reset must be one of 'before', 'after', not 'never'"),
        ({"transposed": 1}, "transposed must be one of False, True, not 1"),
        ({"tokens": None}, "needs tokens, the kind of the tokens, and vocabulary"),
        ({"tokens": "byte"}, "tokens must be 'word'"),
    ],
)
def test_maps_that_are_wrong(change, message, tmp_path):
    (tmp_path / "map.json").write_text(json.dumps(GRU | change))
    (tmp_path / "vocab.txt").write_bytes(Vocabulary("abcdefghi", "char").to_bytes())
    with pytest.raises(InputError, match=message):
        from_map(gru(evnn(3, 9)), tmp_path / "map.json")
    for name, content in (("a.json", "{"), ("b.json", "[]"), ("c.toml", "=")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=f"{name}: (not a|must hold)"):
            from_map({}, tmp_path / name)


def test_matrices_that_lie_otherwise(tmp_path):
    (tmp_path / "map.json").write_text(json.dumps(GRU | {"transposed": True}))
    (tmp_path / "vocab.txt").write_bytes(Vocabulary("abcdefghi", "char").to_bytes())
    with pytest.raises(InputError, match="do not fit|rows of three gates"):
        from_map(gru(evnn(3, 9)), tmp_path / "map.json")
