import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dml_bench.errors import OptionError
from dml_bench.recipe.schema import Training
from dml_bench.training.schedules import SCHEDULES, HearsValidation, paced, warm_up


def test_step_changes_when_an_epoch_is_over():
    factor = SCHEDULES.build("step", 50, milestones=[20, 40])
    assert [factor(t) for t in (0, 19.99, 20, 39.99)] == [1, 1, 0.1, 0.1]
    assert factor(40) == pytest.approx(0.01)


def test_cosine_goes_from_one_to_final():
    factor = SCHEDULES.build("cosine", 10, final=0.1)
    assert [factor(0), factor(5), factor(10)] == pytest.approx([1, 0.55, 0.1])
    assert factor(2.5) == pytest.approx(0.1 + 0.9 * (1 + math.cos(math.pi / 4)) / 2)


def test_warm_up_rises_from_the_first_step():
    factor = warm_up(SCHEDULES.build("constant", 10), 2.0, 4)
    assert [factor(step / 4) for step in range(9)] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1, 1])


def test_softtriple_divides_before_every_twentieth_epoch():
    """19 epochs at the full rate, 20 at a tenth, 11 at a hundredth, as its code counts."""
    factor = SCHEDULES.build("step", 50, milestones=[19, 39])
    rate, expected = 1.0, []
    for epoch in range(50):
        rate *= 0.1 if (epoch + 1) % 20 == 0 else 1.0
        expected.append(rate)
    assert [factor(epoch + 0.5) for epoch in range(50)] == pytest.approx(expected)
    assert np.unique(np.round(np.log10(expected)), return_counts=True)[1].tolist() == [11, 20, 19]


def test_exponential_falls_by_gamma_with_each_epoch():
    factor = SCHEDULES.build("exponential", 10, gamma=0.5)
    assert [factor(0), factor(1), factor(2.5)] == pytest.approx([1, 0.5, 0.5**2.5])


def test_a_schedule_may_stand_still_within_an_epoch():
    cosine = SCHEDULES.build("cosine", 10)
    still = paced(cosine, Training(schedule_by="epoch", warmup_epochs=1.0), 4)
    assert [still(t) for t in (1, 1.25, 1.75, 2)] == [cosine(1)] * 3 + [cosine(2)]
    assert still(0.25) == 0.5 * cosine(0)
    assert paced(cosine, Training(), 4)(1.25) == cosine(1.25)


@settings(deadline=None)
@given(st.lists(st.integers(0, 5), max_size=40), st.integers(0, 4))
def test_plateau_is_that_of_torch(values, patience):
    ours = SCHEDULES.build("plateau", 10, gamma=0.5, patience=patience)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "max", 0.5, patience, threshold=0.0, eps=0.0)
    for value in values:
        ours.on_validation(float(value))
        theirs.step(value)
        assert ours(3.0) == optimizer.param_groups[0]["lr"]


def test_only_plateau_hears_of_validation():
    built = {"step": {"milestones": [1]}}
    heard = {
        entry.name for entry in SCHEDULES if isinstance(entry.build(10, **built.get(entry.name, {})), HearsValidation)
    }
    assert heard == {"plateau"}


def test_a_fit_tells_the_schedule_what_the_network_was_worth(small):
    values = iter([0.5, None, 0.4, 0.6, 0.6, 0.5])
    curve = small.fit(
        epochs=6, schedule={"name": "plateau", "gamma": 0.1, "patience": 0}, hear={"validation": lambda: next(values)}
    )[2]
    assert [epoch.learning_rate for epoch in curve] == pytest.approx([0.05, 0.05, 0.05, 5e-3, 5e-3, 5e-4])


def test_plateau_needs_validation(small):
    with pytest.raises(OptionError, match="training.schedule: plateau goes by held-out classes"):
        small.fit(schedule={"name": "plateau"})
