"""Losses of pytorch-metric-learning under their own names."""

import inspect
import subprocess
import sys

import pytest
import torch

from dml_bench.errors import OptionError
from dml_bench.losses import LOSSES, build
from dml_bench.losses.library_notes import DIFFERS, UNFIT
from dml_bench.recipe.check import Vocabulary
from dml_bench.recipe.reader import read_recipe

losses = pytest.importorskip("pytorch_metric_learning.losses")
miners = pytest.importorskip("pytorch_metric_learning.miners")
distances = pytest.importorskip("pytorch_metric_learning.distances")

CLASSES = sorted(name for name, value in vars(losses).items() if inspect.isclass(value) and name not in UNFIT)
MINERS = sorted(name for name, value in vars(miners).items() if inspect.isclass(value) and name not in UNFIT)
REQUIRED = {
    "RankedListLoss": {"margin": 0.4, "Tn": 1.0},
    "CrossBatchMemory": {"loss": "ContrastiveLoss", "memory_size": 64},
    "MultipleLosses": {"losses": ["CircleLoss", {"name": "NCALoss", "softmax_scale": 3.0}], "weights": [1.0, 0.5]},
    "HistogramLoss": {"n_bins": 10},
}
C, D = 4, 8


@pytest.fixture
def batch():
    torch.manual_seed(0)
    y = torch.arange(12) % C
    return (torch.randn(C, D)[y] + torch.randn(12, D)).requires_grad_(), y


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence:UserWarning", "ignore:__array_wrap__:DeprecationWarning")
@pytest.mark.parametrize("name", CLASSES)
def test_every_class_is_built_with_its_defaults_and_trains(batch, name):
    x, y = batch
    loss = build(f"pml.{name}", C, D, **REQUIRED.get(name, {}))
    value = loss(x, y)
    value.backward()
    assert value.ndim == 0
    assert value.isfinite()
    assert x.grad.abs().sum() > 0
    held = [parameter for group in loss.param_groups(0.1) for parameter in group["params"]]
    assert held == list(loss.parameters())
    assert all(parameter.grad is not None for parameter in held)
    assert "Differs:" in LOSSES[f"pml.{name}"].doc


@pytest.mark.parametrize("name", ["ArcFaceLoss", "SoftTripleLoss", "CircleLoss", "SupConLoss", "TripletMarginLoss"])
def test_the_value_is_that_of_the_class(batch, name):
    x, y = batch
    torch.manual_seed(1)
    ours = build(f"pml.{name}", C, D)
    torch.manual_seed(1)
    takes_sizes = "num_classes" in inspect.signature(getattr(losses, name).__init__).parameters
    theirs = getattr(losses, name)(*((C, D) if takes_sizes else ()))
    assert torch.equal(ours(x, y), theirs(x, y))


@pytest.mark.parametrize("name", MINERS)
def test_every_miner_can_choose_for_a_loss(batch, name):
    x, y = batch
    loss, miner = build("pml.TripletMarginLoss", C, D, miner=name), getattr(miners, name)()
    torch.manual_seed(1)
    value = loss(x, y)
    torch.manual_seed(1)
    assert torch.equal(value, losses.TripletMarginLoss()(x, y, miner(x, y)))


def test_parts_and_their_options_reach_the_class(batch):
    x, y = batch
    loss = build(
        "pml.SoftTripleLoss",
        C,
        D,
        centers_per_class=3,
        weight_regularizer={"name": "SparseCentersRegularizer", "centers_per_class": 3},
        weight_reg_weight=0.2,
    )
    assert loss.loss.weight_regularizer.same_class_mask.shape == (3 * C, 3 * C)
    assert loss.loss.weight_reg_weight == 0.2
    assert loss.loss.fc.shape == (D, 3 * C)
    inner = {"name": "DotProductSimilarity", "normalize_embeddings": False}
    pairs = build("pml.NPairsLoss", C, D, distance=inner)
    wanted = losses.NPairsLoss(distance=distances.DotProductSimilarity(normalize_embeddings=False))
    assert torch.equal(pairs(x, y), wanted(x, y))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pml.CircelLoss", {}, "no losses named 'CircelLoss' .did you mean 'CircleLoss'"),
        ("pml.BatchHardMiner", {}, "no losses named 'BatchHardMiner'"),
        ("pml.VICRegLoss", {}, "'VICRegLoss' cannot be used: it compares two views"),
        ("pml.GenericPairLoss", {}, "what losses are derived from"),
        ("pml.CircleLoss", {"gama": 1}, "gama: 'pml.CircleLoss' has no option 'gama' .did you mean 'gamma'"),
        ("pml.CircleLoss", {"mat_based_loss": True}, "no option 'mat_based_loss'"),
        ("pml.CircleLoss", {"gamma": "80"}, "gamma: must be a finite number, not '80'"),
        ("pml.CircleLoss", {"m": float("nan")}, "m: must be a finite number"),
        ("pml.TripletMarginLoss", {"swap": 1}, "swap: must be a valid boolean"),
        ("pml.RankedListLoss", {"margin": 1.0}, "Tn: is required"),
        ("pml.CircleLoss", {"miner": 3}, "miner: must be the name of one of the library's miners"),
        ("pml.CircleLoss", {"miner": "SimilarityMiner"}, "miner: .* .did you mean 'MultiSimilarityMiner'"),
        (
            "pml.CircleLoss",
            {"miner": {"name": "MultiSimilarityMiner", "epsilonn": 0.1}},
            "miner.epsilonn: 'MultiSimilarityMiner' has no option 'epsilonn' .did you mean 'epsilon'",
        ),
        ("pml.TripletMarginLoss", {"miner": {"name": "BatchHardMiner", "pos_strategy": "easy"}}, "has no option"),
        ("pml.CircleLoss", {"distance": "LpDistance"}, "refuses these options: .* CosineSimilarity"),
        ("pml.SoftTripleLoss", {"centers_per_class": 2.5}, "refuses these options: TypeError"),
        ("pml.CrossBatchMemory", {"loss": "ArcFaceLoss"}, "refuses these options: .*not supported for ArcFaceLoss"),
    ],
    ids=str,
)
def test_what_the_library_does_not_take_is_refused(name, options, message):
    with pytest.raises(OptionError, match=message):
        build(name, C, D, **options)


def test_checking_draws_no_random_numbers():
    torch.manual_seed(0)
    wanted = torch.rand(3)
    torch.manual_seed(0)
    LOSSES["pml.ArcFaceLoss"].check({})
    assert torch.equal(torch.rand(3), wanted)


def test_a_recipe_names_losses_of_the_library(tmp_path):
    (tmp_path / "r.yaml").write_text(
        "dataset: digits\nreferences: false\ngrid:\n  loss:\n"
        "    - pml.CircleLoss\n"
        "    - {name: pml.MarginLoss, miner: {name: DistanceWeightedMiner, cutoff: 0.4}, learn_beta: true}\n"
    )
    from dml_bench.flow import VOCABULARY

    assert isinstance(VOCABULARY, Vocabulary)
    first, second = read_recipe(tmp_path / "r.yaml", VOCABULARY, ())
    assert first.recipe.loss["gamma"] == 80
    assert second.recipe.loss["miner"] == {"name": "DistanceWeightedMiner", "cutoff": 0.4}
    assert dict(second.options) == {"miner": {"name": "DistanceWeightedMiner", "cutoff": 0.4}, "learn_beta": True}


def test_notes_are_of_classes_that_exist():
    modules = [sys.modules[f"pytorch_metric_learning.{kind}"] for kind in ("losses", "miners", "distances")]
    from pytorch_metric_learning import reducers, regularizers

    known = {name for module in (*modules, reducers, regularizers) for name in vars(module)}
    assert known >= {*DIFFERS, *UNFIT}


def test_the_library_is_imported_when_a_name_of_it_is_asked_for():
    code = (
        "import sys; from dml_bench.losses import LOSSES; list(LOSSES); LOSSES.families;"
        "before = 'pytorch_metric_learning' in sys.modules; LOSSES['pml.NCALoss'];"
        "sys.exit(before or 'pytorch_metric_learning' not in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
