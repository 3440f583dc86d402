"""Which parameter learns at which rate, decay and eps, and that what is frozen does not learn at all."""

import pytest
import torch

from dml_bench.errors import OptionError, RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.models.freezing import freeze
from dml_bench.recipe.reader import read_recipe
from dml_bench.training.groups import parameter_groups
from dml_bench.training.optimizers import OPTIMIZERS

ADAM = {"name": "adam", "lr": 1e-3, "weight_decay": 1e-4, "eps": 0.01}


def found(model, loss, settings):
    """Rate, decay and eps of every parameter by name, as the optimizer has them."""
    options = {key: value for key, value in settings.optimizer.items() if key != "name"}
    optimizer = OPTIMIZERS.build(settings.optimizer["name"], parameter_groups(model, loss, settings), **options)
    names = {id(p): name for module in (model, loss) for name, p in module.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"], group.get("eps"))
        for group in optimizer.param_groups
        for p in group["params"]
    }


def test_softtriple_has_one_decay_and_one_eps_for_all(small):
    centers = {"lr": 1e-2, "weight_decay": 1e-4}
    groups = found(small.model(), small.loss("softtriple"), small.settings(optimizer=ADAM, centers=centers))
    assert groups.pop("centers") == (1e-2, 1e-4, 0.01)
    assert set(groups.values()) == {(1e-3, 1e-4, 0.01)}
    assert "backbone.0.weight" in groups and "head.bias" in groups


def test_proxies_hundred_times_as_fast_and_a_head_of_its_own(small):
    adamw = {"name": "adamw", "lr": 1e-4, "weight_decay": 1e-4}
    settings = small.settings(
        optimizer=adamw, centers={"lr_factor": 100.0, "weight_decay": None, "eps": 1.0}, head={"lr": 3e-4, "eps": 1e-6}
    )
    groups = found(small.model(), small.loss("proxy_anchor"), settings)
    assert groups["centers"] == (pytest.approx(1e-2), 1e-4, 1.0)
    assert groups["head.weight"] == groups["head.bias"] == (3e-4, 1e-4, 1e-6)
    assert groups["backbone.0.weight"] == (1e-4, 1e-4, 1e-8)


def test_centers_have_no_decay_unless_it_is_given(small):
    groups = found(small.model(), small.loss(), small.settings(optimizer=ADAM))
    assert groups["centers"] == (1e-3, 0.0, 0.01)


def test_decay_may_spare_biases_and_normalisations(small):
    model = small.model()
    groups = found(model, small.loss(), small.settings(optimizer=ADAM, decay="weights", head={"weight_decay": 0.1}))
    decays = {name: groups[name][1] for name, _ in model.named_parameters()}
    assert {name for name, decay in decays.items() if decay == 0} == {
        name for name, p in model.named_parameters() if p.ndim == 1
    }
    assert decays["head.weight"] == 0.1
    assert decays["backbone.0.weight"] == 1e-4


def test_frozen_parameters_are_in_no_group(small):
    model = small.model()
    freeze(model, ["trunk"])
    assert set(found(model, small.loss(), small.settings())) == {"head.weight", "head.bias", "centers"}


def test_what_cannot_be_set_is_refused(small):
    with pytest.raises(OptionError, match="training.centers.eps: the optimizer sgd has no eps"):
        small.fit(centers={"eps": 1.0})
    with pytest.raises(OptionError, match="training.head: the network has no head"):
        small.fit(small.model(head=False), small.loss(dim=16), head={"lr": 1.0})


def recipe(**training):
    return {"dataset": "digits", "loss": "softtriple", "training": training, "references": False}


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"optimizer": "sgd", "head": {"eps": 1.0}}, "training.head.eps: the optimizer sgd has no eps"),
        ({"centers": {"lr": 1.0, "lr_factor": 2.0}}, "training.centers: lr and lr_factor must not both be given"),
        ({"schedule": "plateau"}, r"training.schedule: plateau .* needs selection: \{name: validation"),
        ({"head_epochs": 10}, "head_epochs, 10, must be less than epochs, 10"),
        ({"freeze": ["batchnorm"]}, "training.freeze"),
        ({"ema": 1.0}, "training.ema"),
        ({"clip_norm": 0.0}, "training.clip_norm"),
        ({"accumulate": 0}, "training.accumulate"),
        ({"backbone": {"lrate": 1.0}}, "unknown key.*known: lr, lr_factor, weight_decay, eps"),
    ],
)
def test_recipes_are_refused_before_anything_is_read(training, message):
    with pytest.raises(RecipeError, match=message):
        read_recipe(recipe(**training), VOCABULARY)


def test_new_options_are_part_of_the_id_and_their_defaults_are_not():
    def name(**training):
        return read_recipe(recipe(**training), VOCABULARY)[0].recipe_id

    plain = name()
    assert name(accumulate=1, clip_norm=None, freeze=[], decay="all", compile=False, head={"lr": None}) == plain
    others = [
        *({part: {"lr_factor": 2.0}} for part in ("backbone", "head", "centers")),
        {"centers": {"eps": 0.1}},
        *({key: 2} for key in ("accumulate", "chunk", "head_epochs")),
        *({key: 0.5} for key in ("clip_value", "clip_norm", "ema")),
        *({key: True} for key in ("channels_last", "compile", "deterministic")),
        *({"precision": key} for key in ("tf32", "bf16", "fp16")),
        {"decay": "weights"},
        {"schedule_by": "epoch"},
        {"freeze": ["trunk"]},
    ]
    assert len({plain, *(name(**other) for other in others)}) == len(others) + 1


def test_id_of_before_these_options_stands():
    (run,) = read_recipe(recipe(), VOCABULARY)
    assert run.recipe_id == "9c7b818269ee"


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "rmsprop", "sgd"])
@pytest.mark.parametrize(
    ("parts", "stay", "move"),
    [
        (["batch_norm"], "running", "backbone"),
        (["batch_norm_affine"], "affine", "running"),
        (["batch_norm", "batch_norm_affine"], "norm", "backbone.0.weight"),
        (["stem"], "backbone.0.weight", "backbone.4.weight"),
        (["trunk"], "backbone", "head"),
    ],
)
def test_frozen_means_frozen(small, optimizer, parts, stay, move):
    """Weight decay, momentum, running means and the switch to training mode leave it alone, to the last bit."""
    model = small.model()
    norms = [f"{name}." for name, m in model.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]

    def stays(name):
        of_norm = name.startswith(tuple(norms))
        is_running = of_norm and ("running" in name or "num_batches" in name)
        kinds = {"running": is_running, "norm": of_norm, "affine": of_norm and not is_running}
        return kinds[stay] if stay in kinds else name.startswith(stay)

    before = {name: value.clone() for name, value in model.state_dict().items()}
    chosen = {"name": optimizer, "lr": 0.01, "weight_decay": 0.1}
    small.fit(model, freeze=parts, optimizer=chosen, ema=0.5, accumulate=2, chunk=3)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    kept = {name for name in before if stays(name)}
    assert kept
    assert not kept & changed
    assert {name for name in changed if move in name}
    assert "head.weight" in changed


def test_the_trunk_rests_while_the_head_warms_up(small):
    model, loss = small.model(), small.loss()
    start = {name: value.clone() for name, value in model.named_parameters()}
    moved = []

    def look(epoch):
        moved.append({name for name, p in model.named_parameters() if not torch.equal(p, start[name])})

    chosen = {"name": "adam", "lr": 0.01, "weight_decay": 0.1}
    small.fit(model, loss, epochs=3, head_epochs=2, optimizer=chosen, hear={"on_epoch": look})
    assert moved[0] == moved[1] == {"head.weight", "head.bias"}
    assert moved[2] == set(start)
    assert all(p.requires_grad for p in model.parameters())


def test_warm_up_of_the_head_ends_also_when_training_does(small):
    model = small.model()
    small.fit(model, epochs=3, head_epochs=2, hear={"on_epoch": lambda epoch: True})
    assert all(p.requires_grad for p in model.parameters())
