"""Losses of deep metric learning, each a module that maps embeddings and labels to a scalar."""

from dml_bench.losses.loss import LOSSES, Loss, Task, build

__all__ = ["LOSSES", "Loss", "Task", "build"]
