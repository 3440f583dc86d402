import copy
from itertools import chain

import pytest
import torch
from torch import nn

from dml_bench.errors import OptionError
from dml_bench.models.embedder import build_embedder
from dml_bench.models.freezing import PARTS, freeze, head_only
from dml_bench.models.modes import evaluation_mode
from dml_bench.recipe.schema import Embedding

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def network():
    return build_embedder({"name": "convnet", "width": 4}, Embedding(dim=3), (16, 16, 3), ([0.5] * 3, [0.3] * 3), 1)


def steps(model, parameters=None, count=3):
    """Train with strong weight decay and momentum; return what was before and is after, by name."""
    chosen = parameters or [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(chosen, 0.05, weight_decay=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train(model, optimizer, count)
    return before, model.state_dict()


def train(model, optimizer, count=3):
    for step in range(count):
        model.train()
        images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        model(images).square().sum().backward()
        optimizer.step()


def moved(before, after):
    return {name for name in before if not torch.equal(before[name], after[name])} - {"mean", "std"}


def norms(model):
    return [(n, m) for n, m in model.named_modules() if isinstance(m, nn.BatchNorm2d)]


def statistics(model):
    return {f"{name}.{part}" for name, _ in norms(model) for part in STATISTICS}


def affine(model):
    return {f"{name}.{part}" for name, _ in norms(model) for part in ("weight", "bias")}


def everything(model):
    return set(model.state_dict()) - {"mean", "std"}


def stem(model):
    return {f"backbone.{name}" for name in model.backbone.state_dict() if name.split(".")[0] in {"0", "1", "2", "3"}}


EXPECTED = {
    (): lambda model: set(),
    ("batch_norm",): statistics,
    ("batch_norm_affine",): affine,
    ("batch_norm", "batch_norm_affine"): lambda model: statistics(model) | affine(model),
    ("stem",): stem,
    ("stem", "batch_norm"): lambda model: stem(model) | statistics(model),
    ("trunk",): lambda model: {name for name in everything(model) if name.startswith("backbone.")},
}


@pytest.mark.parametrize("parts", EXPECTED, ids="+".join)
def test_what_is_frozen_stays_and_all_else_moves(parts):
    model = network()
    freeze(model, parts)
    before, after = steps(model)
    assert everything(model) - moved(before, after) == EXPECTED[parts](model)


def test_every_part_is_tested():
    assert set(chain(*EXPECTED)) == set(PARTS)


def test_frozen_normalisation_uses_the_stored_statistics():
    model, images = network(), torch.rand(8, 3, 16, 16)
    steps(model)
    expected = copy.deepcopy(model).eval()(images)
    freeze(model, ["batch_norm"])
    torch.testing.assert_close(model.train()(images), expected)


def test_the_model_trains_around_what_is_held():
    model = network()
    freeze(model, ["batch_norm"])
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
    assert model.training
    assert model.head.training
    assert not any(module.training for _, module in norms(model))


def test_a_copy_is_frozen_too():
    model = network()
    freeze(model, ["trunk"])
    twin = copy.deepcopy(model)
    before, after = steps(twin)
    assert moved(before, after) == {"head.weight", "head.bias"}
    assert not any(module.training for module in twin.train().backbone.modules())


def test_freezing_holds_no_state():
    model, frozen = network(), network()
    freeze(frozen, ["stem", "batch_norm"])
    assert list(model.state_dict()) == list(frozen.state_dict())


def test_head_only_moves_the_head_and_the_statistics():
    model = network()
    parameters = [p for p in model.parameters() if p.requires_grad]
    head_only(model, True)
    before, after = steps(model, parameters)
    assert moved(before, after) == {"head.weight", "head.bias"} | statistics(model)


def test_all_but_the_frozen_learns_after_the_head_alone():
    model = network()
    freeze(model, ["batch_norm", "batch_norm_affine"])
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], 0.05, weight_decay=0.5)
    for on in (True, True, False, False):  # fit says so every epoch
        head_only(model, on)
        before = copy.deepcopy(model.state_dict())
        train(model, optimizer)
        still = statistics(model) | affine(model)
        expected = {"head.weight", "head.bias"} if on else everything(model) - still
        assert moved(before, model.state_dict()) == expected


def test_what_is_frozen_during_the_warm_up_stays_frozen():
    model = network()
    head_only(model, True)
    freeze(model, ["batch_norm_affine"])
    head_only(model, False)
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == affine(model)


def test_an_unknown_part_is_refused():
    with pytest.raises(
        OptionError, match=r"no part named 'batchnorm' \(did you mean 'batch_norm'\?\); known: batch_norm"
    ):
        freeze(network(), ["batchnorm"])


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_is_not_there_is_refused(part):
    pixels = build_embedder({"name": "pixels"}, Embedding(dim=3), (16, 16, 3), ([0.5] * 3, [0.3] * 3), 1)
    with pytest.raises(OptionError, match=f"Pixels has no {part} to freeze"):
        freeze(pixels, [part])


def test_only_the_network_of_a_recipe_can_be_frozen():
    with pytest.raises(OptionError, match="a Linear cannot be frozen"):
        freeze(nn.Linear(2, 2), ["trunk"])
    with pytest.raises(OptionError, match="a Linear cannot be frozen"):
        head_only(nn.Linear(2, 2), True)
