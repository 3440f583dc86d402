import hashlib
import pickle

import pytest
import torch
import torch.nn.functional as F

from dml_bench.errors import DataError, OptionError, RecipeError
from dml_bench.flow import VOCABULARY
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.bn_inception import BNInception
from dml_bench.models.embedder import build_embedder
from dml_bench.models.freezing import freeze
from dml_bench.recipe.reader import read_recipe
from dml_bench.recipe.schema import Embedding

SHAPE = (224, 224, 3)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def save(state, path, **how):
    torch.save(state, path, **how)
    return {"weights": str(path), "sha256": digest(path)}


def build(shape=SHAPE, **options):
    return BACKBONES.build("bn_inception", shape, **options)


@pytest.fixture(scope="module")
def file(official, tmp_path_factory):
    return save(official, tmp_path_factory.mktemp("weights") / "like-the-official-one.pth")


def test_parameters_are_those_of_the_published_network():
    with_classifier = sum(p.numel() for p in BNInception().parameters()) + 1000 * 1024 + 1000
    assert with_classifier == 11_295_240


def test_keys_and_shapes_are_those_of_the_file(official):
    own = {name: tuple(value.shape) for name, value in BNInception().state_dict().items()}
    counts = {name for name in own if name.endswith("num_batches_tracked")}
    assert {name: shape for name, shape in own.items() if name not in counts} == {
        name: tuple(value.shape) for name, value in official.items() if not name.startswith("last_linear.")
    }


def layer(state, name, x, stride=1):
    """One convolution with what follows it, from the tensors of the file."""
    weight = state[f"{name}.weight"]
    x = F.conv2d(x, weight, state[f"{name}.bias"], stride, weight.shape[2] // 2)
    scale = state[f"{name}_bn.weight"] / (state[f"{name}_bn.running_var"] + 1e-5).sqrt()
    shift = state[f"{name}_bn.bias"] - state[f"{name}_bn.running_mean"] * scale
    return (x * scale[:, None, None] + shift[:, None, None]).clamp_min(0)


def caffe_max_pool(x):
    """3 x 3 windows every 2 pixels; the last may hang over the edge, but begins inside."""
    side = -(-(x.shape[2] - 3) // 2) + 1
    x = F.pad(x, (0, 2 * side + 1 - x.shape[3], 0, 2 * side + 1 - x.shape[2]), value=-torch.inf)
    return x.unfold(2, 3, 2).unfold(3, 3, 2).amax((4, 5))


def published(state, x):
    """The network written out as its description has it, for blocks named by whether they halve the map."""
    x = caffe_max_pool(layer(state, "conv1_7x7_s2", x, 2))
    x = caffe_max_pool(layer(state, "conv2_3x3", layer(state, "conv2_3x3_reduce", x)))
    for block in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
        name, stride = f"inception_{block}_", 2 if block in ("3c", "4e") else 1
        three = layer(state, f"{name}3x3", layer(state, f"{name}3x3_reduce", x), stride)
        double = layer(state, f"{name}double_3x3_1", layer(state, f"{name}double_3x3_reduce", x))
        double = layer(state, f"{name}double_3x3_2", double, stride)
        if stride == 2:
            x = torch.cat([three, double, caffe_max_pool(x)], 1)
            continue
        windows = F.pad(x, (1, 1, 1, 1), value=-torch.inf if block == "5b" else 0.0).unfold(2, 3, 1).unfold(3, 3, 1)
        pooled = windows.amax((4, 5)) if block == "5b" else windows.mean((4, 5))
        x = torch.cat([layer(state, f"{name}1x1", x), three, double, layer(state, f"{name}pool_proj", pooled)], 1)
    return x


@pytest.mark.parametrize("side", [64, 69, 224])
def test_the_maps_are_those_of_the_network_written_out(official, file, side):
    network = build((side, side, 3), **file).eval().double()
    state = {name: value.double() for name, value in official.items()}
    images = torch.rand(1, 3, side, side, dtype=torch.float64) * 255 - 120
    with torch.no_grad():
        maps, expected = network.maps(images), published(state, images)
    assert maps.std() > 0.01
    torch.testing.assert_close(maps, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("side", [224, 227])
def test_the_last_map_is_seven_by_seven(side):
    network = build((side, side, 3)).eval()
    with torch.no_grad():
        assert network.maps(torch.rand(1, 3, side, side)).shape == (1, 1024, 7, 7)


@pytest.mark.parametrize("side", [24, 200, 232])
def test_sides_that_do_not_halve_evenly_are_refused(side):
    with pytest.raises(DataError, match=rf"sides such as 224, 227 and 256 pixels, not {side}"):
        build((side, 224, 3))


@pytest.mark.parametrize("side", range(56, 130))
def test_sides_are_refused_exactly_when_the_network_cannot_take_them(side):
    network = NETWORK.eval()
    try:
        with torch.no_grad():
            network.maps(torch.zeros(1, 3, 64, side))
        fits = True
    except RuntimeError:
        fits = False
    if fits:
        build((64, side, 3))
    else:
        with pytest.raises(DataError):
            build((64, side, 3))


NETWORK = BNInception()


def test_the_momentum_is_the_share_of_the_batch(file):
    old, new = build((64, 64, 3), **file), build((64, 64, 3), **file, momentum=0.9)
    stored = old.conv1_7x7_s2_bn.running_mean.clone()
    images = torch.randn(4, 3, 64, 64)
    old(images), new(images)
    moves = [network.conv1_7x7_s2_bn.running_mean - stored for network in (old, new)]
    torch.testing.assert_close(9 * moves[0], moves[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("pooling", "pool"), [("mean", F.avg_pool2d), ("max", F.max_pool2d)])
def test_pooling(pooling, pool, file):
    network = build(**file, pooling=pooling).eval()
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        torch.testing.assert_close(network(images), pool(network.maps(images), 7).flatten(1))


def test_the_sha256_of_the_file_is_kept(file):
    assert build(**file).weights_digest == file["sha256"]
    assert build().weights_digest == ""


def test_old_files_and_old_shapes_fit(official, tmp_path):
    old = {name: value[None] if "_bn." in name else value for name, value in official.items()}
    options = save(old, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    state = build(**options).state_dict()
    assert all(torch.equal(state[name], value) for name, value in official.items() if not name.startswith("last"))


def test_a_state_goes_round(file, tmp_path):
    network = build(**file)
    again = build(**save(network.state_dict(), tmp_path / "saved.pth"))
    assert all(
        torch.equal(a, b) for a, b in zip(network.state_dict().values(), again.state_dict().values(), strict=True)
    )


def test_bfloat16(file):
    network, images = build((64, 64, 3), **file).eval(), torch.randn(4, 3, 64, 64)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = network(images.contiguous(memory_format=torch.channels_last))
    with torch.no_grad():
        exact = network(images)
    assert rough.isfinite().all()
    assert F.cosine_similarity(rough.float(), exact).min() > 0.99


def test_only_the_file_that_is_meant(official, tmp_path):
    options = save(official, tmp_path / "bn_inception-52deb4733.pth")
    with pytest.raises(DataError, match=r"its sha256 begins [0-9a-f]{12}, not 52deb4733"):
        build(weights=options["weights"])
    with pytest.raises(DataError, match=r"not the file that is meant"):
        build(weights=options["weights"], sha256="0" * 64)
    assert build(weights=options["weights"], sha256=options["sha256"][:8]).weights_digest == options["sha256"]


@pytest.mark.parametrize("sha256", ["52deb47", "52DEB4733", "xyzxyzxyz", "5" * 65])
def test_what_is_no_digest_is_refused(sha256):
    with pytest.raises(OptionError, match="sha256"):
        build(sha256=sha256)


def without(state, *names):
    return {name: value for name, value in state.items() if name not in names}


BREAKS = {
    r"missing inception_5b_1x1\.weight$": lambda s: without(s, "inception_5b_1x1.weight"),
    r"surplus extra\.weight$": lambda s: {**s, "extra.weight": torch.zeros(3)},
    r"misshapen conv1_7x7_s2\.weight \(64, 3, 3, 3\) instead of \(64, 3, 7, 7\)$": lambda s: {
        **s,
        "conv1_7x7_s2.weight": torch.zeros(64, 3, 3, 3),
    },
    r"misshapen conv1_7x7_s2\.bias of cpu, strided, int64$": lambda s: {
        **s,
        "conv1_7x7_s2.bias": torch.zeros(64, dtype=torch.int64),
    },
    r"missing conv1_7x7_s2\.bias, .* and 411 more; surplus layer\.weight$": lambda s: {"layer.weight": torch.zeros(2)},
    r"it must map names to tensors, and nothing else": lambda s: {"state_dict": s},
    r"it must map names to tensors": lambda s: list(s.values()),
}


@pytest.mark.parametrize("message", BREAKS)
def test_other_contents_are_refused_by_name(message, official, tmp_path):
    with pytest.raises(DataError, match=message) as caught:
        build(**save(BREAKS[message](official), tmp_path / "other.pth"))
    assert str(tmp_path / "other.pth") in str(caught.value)


@pytest.mark.parametrize("size", [0, 1, 100, 1_000_000, -1])
def test_a_truncated_file_is_refused(size, official, tmp_path):
    path = tmp_path / "cut.pth"
    torch.save(official, path)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"cut\.pth: not a"):
        build(weights=str(path), sha256=digest(path))


class Bomb:
    def __reduce__(self):
        return print, ("the bomb went off",)


@pytest.mark.parametrize("torch_made", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_not_run(torch_made, official, tmp_path, capsys):
    path, state = tmp_path / "bomb.pth", {**official, "conv1_7x7_s2.bias": Bomb()}
    if torch_made:
        torch.save(state, path)
    else:
        path.write_bytes(pickle.dumps({"conv1_7x7_s2.bias": Bomb()}))
    with pytest.raises(DataError, match=r"bomb\.pth: not a file of weights alone"):
        build(weights=str(path), sha256=digest(path))
    assert capsys.readouterr().out == ""


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.pth: cannot read the weights: No such file"):
        build(weights=str(tmp_path / "nothing.pth"))


def test_the_network_sees_blue_green_red_from_0_to_255(file):
    model = build_embedder({"name": "bn_inception", **file}, Embedding(), SHAPE, ([0.5] * 3, [0.2] * 3), 0, "caffe")
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    images = torch.rand(2, 3, 224, 224)
    with torch.no_grad():
        model.eval()(images)
    red, green, blue = (255 * images).unbind(1)
    torch.testing.assert_close(seen[0], torch.stack([blue - 104, green - 117, red - 128], 1), rtol=1e-4, atol=1e-4)


def test_a_pretrained_network_without_a_head_sees_what_it_was_trained_on(file):
    model = build_embedder({"name": "bn_inception", **file}, None, SHAPE, ([0.5] * 3, [0.2] * 3), 0, "caffe")
    assert model.bgr
    assert model.embedding_dim == 1024
    torch.testing.assert_close(model.mean.flatten() * 255, torch.tensor([128.0, 117, 104]))


def test_weights_need_the_input_they_were_trained_on():
    recipe = {"dataset": "digits", "loss": "norm_softmax", "backbone": {"name": "bn_inception", "weights": "w.pth"}}
    with pytest.raises(RecipeError, match=r"normalize: must be caffe beside the weights of bn_inception"):
        read_recipe(recipe, VOCABULARY)
    read_recipe({**recipe, "normalize": "caffe"}, VOCABULARY)
    read_recipe({**recipe, "backbone": "bn_inception"}, VOCABULARY)


def test_the_stem_is_what_comes_before_the_blocks():
    model = build_embedder({"name": "bn_inception"}, Embedding(), (64, 64, 3), ([0.5] * 3, [0.2] * 3), 0)
    freeze(model, ["stem"])
    frozen = {name.split(".")[1] for name, p in model.named_parameters() if not p.requires_grad}
    convolutions = ("conv1_7x7_s2", "conv2_3x3_reduce", "conv2_3x3")
    assert frozen == {*convolutions, *(f"{name}_bn" for name in convolutions)}
    assert {name.split(".")[1] for name, m in model.train().named_modules() if not m.training} == frozen


def test_the_file_is_read_once(official, tmp_path, monkeypatch):
    """What was checked is what is loaded, though the file changes in between."""
    path = tmp_path / "w.pth"
    options = save(official, path)
    load = torch.load

    def swap(source, **how):
        torch.save({}, path)
        return load(source, **how)

    monkeypatch.setattr(torch, "load", swap)
    state = build(**options).state_dict()
    assert torch.equal(state["conv1_7x7_s2.bias"], official["conv1_7x7_s2.bias"])


def test_files_of_safetensors_are_read(official, tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="needs the extra vision")
    path = tmp_path / "w.safetensors"
    safetensors.save_file(official, path)
    state = build(weights=str(path), sha256=digest(path)).state_dict()
    assert torch.equal(state["inception_5b_1x1.weight"], official["inception_5b_1x1.weight"])
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match=r"w\.safetensors: not a readable file of weights"):
        build(weights=str(path), sha256=digest(path))
