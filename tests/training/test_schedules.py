import math

import pytest

from dml_bench.training.schedules import SCHEDULES, warm_up


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
