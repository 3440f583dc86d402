"""Run every test under runtime shape checks, with a cache of decoded images of its own."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from pkgutil import iter_modules

os.environ["DML_BENCH_CACHE"] = tempfile.mkdtemp(prefix="dml-bench-tests-")

from jaxtyping import install_import_hook

import dml_bench


def rooms(folder: str, prefix: str, left_out: str) -> list[str]:
    """Name the modules of a package that are checked: all but one."""
    return [prefix + module.name for module in iter_modules([folder]) if module.name != left_out]


HOME = dml_bench.__path__[0]
ROOMS = rooms(HOME, "dml_bench.", "testing")
# The plain loops have no shapes to check, and make millions of calls.
ROOMS += rooms(f"{HOME}/testing", "dml_bench.testing.", "oracle")
install_import_hook(ROOMS, "beartype.beartype")  # stays on until the process ends

import pytest  # noqa: E402

DATA = Path(os.environ.get("DML_BENCH_DATA", "../shared/data"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets."""
    if not DATA.is_dir():
        pytest.skip("no real data: set DML_BENCH_DATA to the folder that holds it")
    return DATA.resolve()
