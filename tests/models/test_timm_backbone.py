"""The same tests with timm, where it is installed, and with a stand-in for it, which always is."""

import hashlib
import sys
from importlib.util import find_spec
from types import ModuleType

import pytest
import torch
from torch import nn

from dml_bench.errors import DataError, DmlBenchError, OptionError, RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.embedder import build_embedder
from dml_bench.models.freezing import freeze
from dml_bench.recipe.reader import read_recipe
from dml_bench.recipe.schema import Embedding

SIDE = 64


class StandIn(nn.Module):
    """As much of a network of timm as is asked of it."""

    def __init__(self, name, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 8, 7, 8, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.layer1 = nn.Conv2d(8, self.num_features, 3, 2)
        self.flat = name.startswith("vit")
        self.pretrained_cfg = {"classifier": "fc", "hf_hub_id": f"timm/{name}", "hf_hub_filename": None}

    num_features = head_hidden_size = 512

    def group_matcher(self, coarse=False):
        return {"stem": r"^conv1|bn1|maxpool", "blocks": r"^layer(\d+)"}

    def forward_features(self, x):
        maps = self.layer1(self.bn1(self.conv1(x)).relu())
        return maps.flatten(2).mT if self.flat else maps

    def forward_head(self, x, pre_logits):
        assert pre_logits
        return x.mean(1) if self.flat else x.mean((2, 3))


def stand_in():
    """A module with the functions of timm that are used."""
    names = ("resnet18", "resnet50", "vit_tiny_patch16_224")
    module = ModuleType("timm")
    module.__version__ = "0"
    module.is_model = names.__contains__
    module.list_models = lambda: list(names)

    def create_model(name, pretrained, num_classes, in_chans):
        assert (pretrained, num_classes) == (False, 0)
        return StandIn(name, in_chans)

    module.create_model = create_model
    return module


def real():
    """Import timm, beside a torchvision whose compiled part may not fit this torch."""
    if find_spec("timm") is None:
        pytest.skip("timm is not installed: it is in the extra vision")
    try:
        import timm
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.split(".")[0] in ("torchvision", "timm")]:
            del sys.modules[name]
        LIBRARY.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            LIBRARY[0].define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import timm
    return timm


LIBRARY = []


@pytest.fixture(params=["stand-in", "real"], autouse=True)
def library(request, monkeypatch):
    """Put one of the two in the place of timm."""
    monkeypatch.setitem(sys.modules, "timm", stand_in() if request.param == "stand-in" else real())


def build(name="resnet18", channels=3, **options):
    torch.manual_seed(0)
    return BACKBONES.build(name, (SIDE, SIDE, channels), **options).eval()


def save(state, path):
    torch.save(state, path)
    return {"weights": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}


@pytest.fixture
def state():
    """Weights as in a file: of another draw, with a classifier, and without counted batches."""
    network = build().network
    own = network.state_dict().items()
    changed = {name: value + 0.01 for name, value in own if not name.endswith("num_batches_tracked")}
    return {**changed, "fc.weight": torch.rand(10, 512), "fc.bias": torch.rand(10)}


IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_short_names_and_long_one_are_the_same_network(name):
    short, long = build(name), build("timm", model=name)
    torch.testing.assert_close(short(IMAGES), long(IMAGES))
    assert short(IMAGES).shape == (2, short.features)


@pytest.mark.parametrize("pooling", ["mean", "max", "mean_max", "own"])
def test_pooling(pooling):
    network = build("timm", model="resnet18", pooling=pooling)
    maps = network.network.forward_features(IMAGES).flatten(2)
    expected = {"mean": maps.mean(2), "max": maps.amax(2), "mean_max": maps.mean(2) + maps.amax(2)}
    torch.testing.assert_close(network(IMAGES), expected.get(pooling, maps.mean(2)))


def test_tokens_are_pooled_by_the_network_alone():
    vit = {"model": "vit_tiny_patch16_224"}
    images = IMAGES.repeat(1, 1, 4, 4)[:, :, :224, :224]
    with pytest.raises(DataError, match=r"backbone\.pooling: \w+ makes no map to pool; say pooling: own"):
        build("timm", **vit)(images)
    network = build("timm", **vit, pooling="own")
    assert network(images).shape == (2, network.features)


def test_grey_images():
    assert build(channels=1)(IMAGES[:, :1]).shape == (2, 512)


def test_weights_are_loaded_and_their_digest_kept(state, tmp_path):
    options = save(state, tmp_path / "w.pth")
    network = build(**options)
    assert network.weights_digest == options["sha256"]
    loaded = network.network.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in state.items() if not name.startswith("fc."))


def test_the_digits_in_a_name_count(state, tmp_path):
    options = save(state, tmp_path / "w.pth")
    right = tmp_path / f"resnet18-{options['sha256'][:8]}.pth"
    wrong = tmp_path / "resnet18-5c106cde.pth"
    right.write_bytes((tmp_path / "w.pth").read_bytes())
    wrong.write_bytes((tmp_path / "w.pth").read_bytes())
    assert build(weights=str(right)).weights_digest == options["sha256"]
    with pytest.raises(DataError, match=r"not the file that is meant: its sha256 begins \w+, not 5c106cde"):
        build(weights=str(wrong))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: {k: v for k, v in s.items() if k != "conv1.weight"}, r"missing conv1\.weight$"),
        (lambda s: {**s, "fc2.weight": torch.zeros(1)}, r"surplus fc2\.weight$"),
        (lambda s: {**s, "bn1.bias": torch.zeros(9)}, r"misshapen bn1\.bias \(9,\) instead of \(\d+,\)$"),
    ],
)
def test_every_tensor_has_its_place(change, message, state, tmp_path):
    with pytest.raises(DataError, match=message):
        build(**save(change(state), tmp_path / "w.pth"))


def test_weights_for_colors_do_not_fit_grey_images(state, tmp_path):
    with pytest.raises(DataError, match=r"misshapen conv1\.weight \(\d+, 3, 7, 7\) instead of \(\d+, 1, 7, 7\)"):
        build(channels=1, **save(state, tmp_path / "w.pth"))


def hub(monkeypatch, download):
    module = ModuleType("huggingface_hub")
    module.hf_hub_download = download
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_the_hub_out_of_reach_is_an_error(monkeypatch):
    def fail(repository, name):
        raise OSError(f"cannot reach {repository}")

    hub(monkeypatch, fail)
    with pytest.raises(DataError, match=r"cannot fetch timm/resnet18[\w.]* from the hub: cannot reach .*; name a file"):
        build(weights="hub", sha256="0" * 64)


def test_a_file_of_the_hub_is_checked_like_any_other(monkeypatch, state, tmp_path):
    options = save(state, tmp_path / "w.pth")
    hub(monkeypatch, lambda repository, name: options["weights"])
    assert build(weights="hub", sha256=options["sha256"]).weights_digest == options["sha256"]
    with pytest.raises(DataError, match="not the file that is meant"):
        build(weights="hub", sha256="0" * 64)


def test_an_unknown_model_is_named():
    with pytest.raises(
        RecipeError, match=r"backbone\.model: timm .* has no model named 'resnet5O' \(did you mean 'resnet"
    ):
        build("timm", model="resnet5O")


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(DmlBenchError, match=r"timm needs timm: pip install 'dml-bench\[vision\]'"):
        build()


def test_the_stem_is_the_first_convolution_with_its_normalisation():
    model = build_embedder({"name": "resnet18"}, Embedding(), (SIDE, SIDE, 3), ([0.5] * 3, [0.2] * 3), 0)
    freeze(model, ["stem"])
    frozen = {name for name, parameter in model.backbone.named_parameters() if not parameter.requires_grad}
    assert frozen == {"network.conv1.weight", "network.bn1.weight", "network.bn1.bias"}
    assert not model.train().backbone.network.bn1.training


def test_pretrained_weights_need_a_known_input():
    recipe = {
        "dataset": "digits",
        "loss": "norm_softmax",
        "backbone": {"name": "timm", "weights": "w", "sha256": "a" * 8},
    }
    with pytest.raises(RecipeError, match=r"normalize: must be imagenet, half or caffe beside pretrained weights"):
        read_recipe(recipe, VOCABULARY)
    read_recipe({**recipe, "normalize": "imagenet"}, VOCABULARY)


@pytest.mark.parametrize("name", ["timm", "resnet18"])
def test_options_are_checked_without_timm(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(OptionError, match="has no option 'wights'"):
        BACKBONES[name].check({"wights": "x"})
