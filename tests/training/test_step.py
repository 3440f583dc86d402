"""What an optimizer step is made of, against plain arithmetic: sums, clipping, two passes, running means."""

import numpy as np
import pytest
import torch
from torch import nn

from dml_bench.errors import OptionError, TrainingError
from dml_bench.models.freezing import freeze
from dml_bench.randomness import derive_seed
from dml_bench.training import step as step_module
from dml_bench.training.listening import drawing
from dml_bench.training.step import Learner

CPU = torch.device("cpu")


def images(n, seed=0):
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def learned(small, settings, batches, model=None, loss=None):
    """Return the gradients after some batches, as a learner has them before its step."""
    model, loss = model or small.model(), loss or small.loss()
    learner = Learner(model.train(), loss, settings, 0, CPU)
    learner.begin(1.0)
    found = [learner.learn(x, y, torch.arange(len(x)), 1, 0, len(batches)) for x, y in batches]
    return [p.grad for p in (*model.parameters(), *loss.parameters())], found, learner


def labelled(n, seed=0):
    return images(n, seed), torch.arange(n) % 4


@pytest.mark.parametrize("name", ["norm_softmax", "triplet_all", "multi_similarity"])
def test_the_gradient_of_several_batches_is_the_mean_of_theirs(small, name):
    settings = small.settings()
    batches = [labelled(8, seed) for seed in range(3)]
    model = frozen(small.model())
    found, _, _ = learned(small, settings, batches, model, small.loss(name))
    alone = [learned(small, settings, [batch], frozen(small.model()), small.loss(name))[0] for batch in batches]
    for gradient, *each in zip(found, *alone, strict=True):
        torch.testing.assert_close(gradient, sum(each) / 3, rtol=1e-10, atol=1e-12)


def frozen(model):
    """Normalise by running statistics, also in training mode."""
    freeze(model, ["batch_norm"])
    return model


def test_accumulated_epochs_equal_larger_batches(small, flat):
    """For a loss of single samples and a network without batch statistics, 5 batches of 4 are one of 20."""
    wide, narrow = (
        small.fit(frozen(small.model()), sampler={"name": "random", "batch_size": size}, accumulate=together)
        for size, together in ((20, 1), (4, 5))
    )
    for a, b in zip(wide[2], narrow[2], strict=True):
        assert a.loss == pytest.approx(b.loss, rel=1e-12)
    torch.testing.assert_close(flat(*wide[:2]), flat(*narrow[:2]), rtol=1e-10, atol=1e-12)


def test_the_loss_hears_of_optimizer_steps_only(small):
    heard = []
    loss = small.loss("a_softmax")
    small.fit(loss=loss, accumulate=4, epochs=3, hear={"on_step": heard.append})
    assert len(heard) == 30  # batches
    assert int(loss.steps) == 9  # of 4, 4 and 2 batches


PARTS = {
    "norm_softmax": {},
    "recall_at_k": {"k": [4, 8], "hit_temperature": 4.0},
    "triplet_all": {},
    "softtriple": {"centers_per_class": 2},
}


@pytest.mark.parametrize("chunk", [1, 5, 8, 23, 24])
@pytest.mark.parametrize("name", PARTS)
def test_two_passes_give_the_gradient_of_one(small, name, chunk):
    batch = labelled(24)
    whole, (first,), _ = learned(
        small, small.settings(), [batch], frozen(small.model()), small.loss(name, **PARTS[name])
    )
    parts, (second,), _ = learned(
        small, small.settings(chunk=chunk), [batch], frozen(small.model()), small.loss(name, **PARTS[name])
    )
    assert second[1] == pytest.approx(first[1], rel=1e-12)
    torch.testing.assert_close(second[0], first[0], rtol=1e-10, atol=1e-12)
    assert any(gradient.abs().max() > 1e-4 for gradient in whole)
    for a, b in zip(parts, whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)


def test_two_passes_replay_dropout(small):
    """The gradient is that of the masks which the loss saw: against one graph over the same parts."""
    backbone = {"name": "convnet", "width": 4, "dropout": 0.5}
    x, y = labelled(24)
    model, loss = frozen(small.model(backbone)), small.loss("triplet_all")
    found, ((embeddings, value),), learner = learned(small, small.settings(chunk=8), [(x, y)], model, loss)
    other, same = frozen(small.model(backbone)).train(), small.loss("triplet_all")
    with drawing(derive_seed(0, "step", 1, 0), CPU):
        graph = torch.cat([other(part) for part in x.split(8)])
    cost = same(graph, y)
    cost.backward()
    torch.testing.assert_close(embeddings, graph.detach())
    assert value == pytest.approx(cost.item())
    for a, b in zip(found, [p.grad for p in other.parameters()], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert learner.model is model


def test_two_passes_update_statistics_once_and_leave_the_generator_alone(small):
    x, y = labelled(24)
    model, other, loss = small.model(), small.model().train(), small.loss()
    state = torch.get_rng_state()
    learned(small, small.settings(chunk=8), [(x, y)], model, loss)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        for part in x.split(8):
            other(part)
    for (name, a), b in zip(model.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, msg=name)


def test_clipping(small):
    batch = labelled(12)
    free, _, _ = learned(small, small.settings(), [batch])
    length = torch.cat([g.flatten() for g in free]).norm().item()
    value = torch.cat([g.flatten() for g in free]).abs().quantile(0.9).item()

    def clipped(**changes):
        gradients, _, learner = learned(small, small.settings(**changes), [batch])
        learner.step()
        return gradients

    for a, b in zip(clipped(clip_value=value), free, strict=True):
        torch.testing.assert_close(a, b.clamp(-value, value))
    for a, b in zip(clipped(clip_norm=length / 3), free, strict=True):
        torch.testing.assert_close(a, b / 3, rtol=1e-5, atol=1e-9)
    for a, b in zip(clipped(clip_norm=2 * length), free, strict=True):
        torch.testing.assert_close(a, b)


def test_sparse_gradients_are_not_clipped(small):
    loss = small.loss("proxy", sampled_classes=2)
    with pytest.raises(OptionError, match="training.clip_norm: must be null for sampled_classes"):
        small.fit(loss=loss, clip_norm=1.0, optimizer={"name": "adam"})


def test_the_running_mean_is_what_is_evaluated_and_what_remains(small):
    decay, seen, raw = 0.7, [], []
    start = {name: value.clone() for name, value in small.model().state_dict().items()}
    model = small.model()

    def watch(step):
        raw.append({name: value.clone() for name, value in model.state_dict().items()})

    def look(epoch):
        seen.append({name: value.clone() for name, value in model.state_dict().items()})

    small.fit(model, ema=decay, hear={"on_step": watch, "on_epoch": look})
    plain = small.model()
    plain_raw = []
    small.fit(plain, hear={"on_step": lambda step: plain_raw.append([p.detach().clone() for p in plain.parameters()])})
    for a, b in zip(raw, plain_raw, strict=True):  # training itself is not touched
        for (name, _), value in zip(model.named_parameters(), b, strict=True):
            assert torch.equal(a[name], value)
    for name, value in start.items():
        mean = value.clone()
        for step, state in enumerate(raw, 1):
            mean = decay * mean + (1 - decay) * state[name] if value.is_floating_point() else state[name]
            if step % 10 == 0:
                torch.testing.assert_close(seen[step // 10 - 1][name], mean, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(model.state_dict()[name], mean, rtol=1e-10, atol=1e-12)
    assert not torch.equal(seen[-1]["head.weight"], raw[-1]["head.weight"])


def test_nothing_to_learn_is_an_error(small):
    loss = small.loss("triplet_all")
    with pytest.raises(TrainingError, match="nothing to train"):
        small.fit(small.model({"name": "pixels", "size": 2}, head=False), small.loss("triplet_all", dim=4))
    with pytest.raises(TrainingError, match="nothing that the loss depends on learns in epoch 1"):
        small.fit(small.model(head=False), small.loss("triplet_all", dim=16), head_epochs=1)
    assert not list(loss.parameters())


def test_training_ends_when_it_is_told_to(small):
    _, _, curve = small.fit(epochs=5, hear={"on_epoch": lambda epoch: epoch.epoch == 2})
    assert [epoch.epoch for epoch in curve] == [1, 2]


def test_waiting_is_part_of_the_time(small):
    _, _, curve = small.fit()
    assert all(0 < epoch.waiting < epoch.seconds for epoch in curve)


def test_float64_stays_float64(small):
    class Strict(nn.Module):
        def forward(self, embeddings):
            assert embeddings.dtype == torch.float64
            return embeddings

    model = small.model()
    model.head = nn.Sequential(model.head, Strict())
    _, loss, _ = small.fit(model)
    assert loss.centers.dtype == torch.float64
    assert np.isfinite(loss.centers.detach().numpy()).all()


def test_fp16_scales_for_the_backward_pass_only(small, monkeypatch):
    """On a CPU, where a recipe may not ask for it, but torch has it: the step is that of fp32 up to rounding."""
    scaler = lambda settings, device: torch.amp.GradScaler("cpu", 64.0, enabled=settings.precision == "fp16")  # noqa: E731
    monkeypatch.setattr(step_module, "scaler", scaler)  # torch's own begins so high that the first steps are skipped

    def moved(precision, **changes):
        model, loss = small.model().float(), small.loss().float()
        before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        settings = small.settings(precision=precision, chunk=9, **changes)
        _, _, learner = learned(small, settings, [(x.float(), y) for x, y in [labelled(24)]], frozen(model), loss)
        learner.step()
        return torch.cat([p.detach().flatten() for p in model.parameters()]) - before

    for changes in ({}, {"clip_norm": 0.01}, {"clip_value": 0.001}):
        full, half = moved("fp32", **changes), moved("fp16", **changes)
        assert (half - full).norm() < 0.05 * full.norm()
        assert not torch.equal(half, full)


def test_fp16_skips_a_step_that_overflowed(small):
    model, loss = small.model().float(), small.loss().float()
    _, _, learner = learned(
        small, small.settings(precision="fp16"), [(labelled(8)[0].float(), labelled(8)[1])], model, loss
    )
    model.head.weight.grad[0, 0] = float("inf")
    before = [p.detach().clone() for p in (*model.parameters(), *loss.parameters())]
    scale = learner._scaler.get_scale()
    learner.step()
    assert all(torch.equal(a, b) for a, b in zip(before[:-1], model.parameters(), strict=True))
    assert learner._scaler.get_scale() == scale / 2
