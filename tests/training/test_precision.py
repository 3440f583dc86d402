"""Number formats, memory layout and exactness: what each does, and that nothing of it outlives a fit."""

import pytest
import torch

from dml_bench.errors import OptionError, RecipeError
from dml_bench.runners.plan import plan
from dml_bench.training import step as step_module
from dml_bench.training.fit import fit
from dml_bench.training.precision import arithmetic, check_precision, lay_out

CUDA, CPU = torch.device("cuda"), torch.device("cpu")


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_some_formats_need_cuda(small, precision):
    with pytest.raises(OptionError, match=f"training.precision: {precision} needs a CUDA device, not cpu"):
        small.fit(precision=precision)
    check_precision(small.settings(precision=precision), CUDA)


def test_determinism_on_cuda_needs_a_word_in_the_environment(small, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    check_precision(small.settings(deterministic=True), CPU)
    with pytest.raises(OptionError, match="training.deterministic: needs CUBLAS_WORKSPACE_CONFIG=:4096:8"):
        check_precision(small.settings(deterministic=True), CUDA)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    check_precision(small.settings(deterministic=True), CUDA)


def flags():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.allow_tf32,
        torch.backends.cuda.matmul.allow_tf32,
    )


def test_torch_is_held_to_the_recipe_and_let_go_again(small):
    before, seen = flags(), []
    small.fit(deterministic=True, hear={"on_step": lambda step: seen.append(flags())})
    assert set(seen) == {(True, False, True, False, False, False)}
    assert flags() == before
    with pytest.raises(RuntimeError, match="stop"), arithmetic(small.settings(precision="tf32")):
        assert flags() == (False, False, False, False, True, True)
        raise RuntimeError("stop")
    assert flags() == before


def test_determinism_changes_no_number_on_a_cpu(small, flat):
    first, second = (small.fit(deterministic=on) for on in (False, True))
    assert torch.equal(flat(*first[:2]), flat(*second[:2]))


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ({}, False),
        ({"precision": "bf16"}, True),
        ({"channels_last": True}, True),
        ({"precision": "bf16", "channels_last": False}, False),
    ],
)
def test_channels_last(small, options, last):
    settings = small.settings(**options)
    images = lay_out(torch.rand(2, 3, 8, 8), settings)
    assert images.is_contiguous(memory_format=torch.channels_last) == last
    model = small.model()
    weight = lay_out(model, settings).backbone[4].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) == last
    features = torch.rand(2, 3)
    assert lay_out(features, settings) is features


def test_layout_changes_rounding_only(small, flat):
    first, second = (small.fit(channels_last=on) for on in (False, True))
    torch.testing.assert_close(flat(*first[:2]), flat(*second[:2]), rtol=1e-9, atol=1e-11)


def test_the_network_is_compiled_if_asked_for(small, flat, monkeypatch):
    """Only that it is what runs: under the tests' shape checks torch cannot compile anything."""
    compiled, calls = [], []

    def compiler(model):
        compiled.append(model)
        return lambda images: calls.append(len(images)) or model(images)

    monkeypatch.setattr(step_module.torch, "compile", compiler)
    plain = small.fit()
    assert compiled == []
    model, loss, _ = small.fit(compile=True)
    assert compiled == [model]
    assert calls == [4] * 20
    assert torch.equal(flat(model, loss), flat(*plain[:2]))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp16", "bf16", "tf32"])
def test_narrow_formats_train_close_to_fp32_on_cuda(small, precision):
    def curve(precision):
        model, loss = small.model().float().cuda(), small.loss().float().cuda()
        settings = small.settings(precision=precision, clip_norm=1.0, accumulate=2, chunk=3)
        return [epoch.loss for epoch in fit(model, loss, small.train, settings, seed=0, device=CUDA)]

    assert curve(precision) == pytest.approx(curve("fp32"), rel=0.05)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"precision": "fp16"}, "training.precision: fp16 needs a CUDA device, not cpu"),
        ({"head": {"lr": 1.0}}, "training.head: the network has no head"),
        ({"freeze": ["stem"]}, "training.freeze: Pixels has no stem to freeze"),
    ],
)
def test_mistakes_show_before_any_run(tmp_path, training, message):
    training = {"sampler": {"name": "random"}, **training}
    recipe = {"dataset": "digits", "backbone": "pixels", "embedding": None, "loss": "norm_softmax"}
    grid = plan({**recipe, "references": False, "training": training}, out=tmp_path)
    with pytest.raises(RecipeError, match=message):
        grid.ready("cpu")
