"""What a number may depend on besides the recipe: versions, code state, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import dml_bench

PACKAGES = ("torch", "faiss-cpu", "numpy", "scikit-learn", "pytorch-metric-learning", "pillow", "matplotlib")


@cache
def environment() -> dict[str, Any]:
    """Return versions, git state of the package (None outside a checkout), processor and core count."""
    return {
        "dml_bench": dml_bench.__version__,
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
        "git": _git_state(Path(__file__).parent),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": available_cores(),
    }


def available_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_state(folder: Path) -> dict[str, Any] | None:
    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    try:
        if not git("ls-files", "--", "environment.py"):  # somebody else's repository around an installed package
            return None
        return {"commit": git("rev-parse", "HEAD"), "modified": bool(git("status", "--porcelain", "--", ".."))}
    except (OSError, subprocess.SubprocessError):
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
