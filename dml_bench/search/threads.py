"""One thread count for everything: FAISS keeps its own, which is made to follow torch's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def faiss_threads() -> Iterator[None]:
    """Let FAISS use ``torch.get_num_threads()`` threads inside the block, and as many as before after it."""
    import faiss

    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(torch.get_num_threads())
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
