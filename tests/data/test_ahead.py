import threading

import pytest
import torch

from dml_bench.data.ahead import ahead, in_a_thread


def test_reading_ahead_yields_the_same_and_one_item_early():
    made = []

    def items():
        for i in range(5):
            made.append((i, threading.current_thread() is threading.main_thread()))
            yield i

    assert list(in_a_thread(items())) == list(range(5))
    assert made == [(i, False) for i in range(5)]


def test_reading_ahead_raises_an_error_where_it_belongs():
    def items():
        yield 1
        raise KeyError("the second")

    coming = in_a_thread(items())
    assert next(coming) == 1
    with pytest.raises(KeyError, match="the second"):
        next(coming)


def test_reading_ahead_stops_with_its_consumer_and_never_runs_away():
    made, threads = [], threading.active_count()

    def items():
        for i in range(1000):
            made.append(i)
            yield i

    coming = in_a_thread(items())
    next(coming)
    next(coming)
    coming.close()
    assert len(made) <= 3
    assert threading.active_count() == threads


def test_the_cpu_is_not_shared_with_a_thread():
    items = iter([1])
    assert ahead(items, torch.device("cpu")) is items
    assert ahead(items, torch.device("cuda")) is not items
