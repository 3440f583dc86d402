"""Run every test under runtime shape checks, with a cache of decoded images of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["DML_BENCH_CACHE"] = tempfile.mkdtemp(prefix="dml-bench-tests-")

from jaxtyping import install_import_hook

install_import_hook("dml_bench", "beartype.beartype")  # stays on until the process ends

import pytest  # noqa: E402

DATA = Path(os.environ.get("DML_BENCH_DATA", "../shared/data"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets."""
    if not DATA.is_dir():
        pytest.skip("no real data: set DML_BENCH_DATA to the folder that holds it")
    return DATA.resolve()
