"""What losses and samplers save in the middle of an epoch is enough to go on from there."""

from copy import deepcopy
from itertools import islice

import numpy as np
import pytest
import torch

from dml_bench import losses
from dml_bench.data.samplers import SAMPLERS
from dml_bench.epoch import EpochContext
from dml_bench.training.listening import judge

CLASSES, EACH, DIM, BATCH = 6, 8, 5, 12
LABELS = np.repeat(np.arange(CLASSES), EACH)
PARTS = {
    "adaptive": ("adaptiveface", {"candidates": 2}, {"name": "adaptive", "batch_size": BATCH}),
    "neighbors": ("htl", {}, {"name": "class_neighbors", "anchors": 2, "classes_per_anchor": 2, "images_per_class": 3}),
    "annealed": ("a_softmax", {}, {"name": "pxk", "classes_per_batch": 4, "images_per_class": 3}),
    "sampled": ("proxy", {"sampled_classes": 1}, {"name": "adaptive", "batch_size": BATCH}),
}


def images():
    torch.manual_seed(0)
    return torch.randn(CLASSES, 9)[LABELS] + torch.randn(len(LABELS), 9)


class Session:
    """A loop of one's own around a network, a loss and a sampler."""

    def __init__(self, key, options, sampler):
        torch.manual_seed(1)
        self.net, self.loss = torch.nn.Linear(9, DIM), losses.build(key, CLASSES, DIM, **options)
        self.sampler = SAMPLERS.build(sampler["name"], LABELS, **{k: v for k, v in sampler.items() if k != "name"})
        self.optimizer = torch.optim.SGD([*self.net.parameters(), *self.loss.parameters()], lr=0.1)
        self.parts = {"net": self.net, "loss": self.loss, "sampler": self.sampler}

    def begin(self, epoch):
        context = EpochContext(epoch, torch.tensor(LABELS), lambda dropout: self.net(images()), torch.Generator())
        with torch.no_grad():
            for part in (self.loss, self.sampler):
                getattr(part, "on_epoch_start", lambda context: None)(context)

    def steps(self, epoch, done=0, until=None):
        """Take the steps of an epoch and yield what each of them drew and cost."""
        rng = np.random.default_rng(epoch)
        for indices in islice(self.sampler.batches(rng), done, until):
            rows, labels = torch.tensor(indices), torch.tensor(LABELS[indices])
            embeddings = self.net(images()[rows])
            value = self.loss(embeddings, labels, rows)
            self.optimizer.zero_grad()
            value.backward()
            self.optimizer.step()
            self.loss.on_step()
            if hasattr(self.sampler, "update"):
                self.sampler.update(indices, *judge(self.loss, embeddings.detach(), labels))
            yield indices.tolist(), value.item()

    def save(self):
        return {name: deepcopy(part.state_dict()) for name, part in self.parts.items() if hasattr(part, "state_dict")}

    def load(self, state):
        for name, saved in state.items():
            self.parts[name].load_state_dict(saved)


@pytest.mark.parametrize("parts", PARTS.values(), ids=PARTS)
def test_fresh_objects_go_on_as_if_nothing_had_happened(parts):
    whole = Session(*parts)
    whole.begin(1)
    list(whole.steps(1))
    whole.begin(2)
    list(whole.steps(2, until=2))
    state = whole.save()
    expected = list(whole.steps(2, done=2))
    whole.begin(3)
    expected += list(whole.steps(3))

    fresh = Session(*parts)
    for parameter in fresh.net.parameters():
        parameter.data.zero_()
    fresh.load(state)
    found = list(fresh.steps(2, done=2))
    fresh.begin(3)
    found += list(fresh.steps(3))
    assert len(found) >= 4
    assert found == expected


def test_a_sampler_that_forgot_its_weights_draws_other_images():
    session, forgetful = Session(*PARTS["adaptive"]), Session(*PARTS["adaptive"])
    session.begin(1)
    list(session.steps(1))
    state = session.save()
    forgetful.load({name: state[name] for name in ("net", "loss")})
    assert [drawn for drawn, _ in forgetful.steps(2)] != [drawn for drawn, _ in session.steps(2)]
