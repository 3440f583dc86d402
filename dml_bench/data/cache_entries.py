"""What lies in the cache: list, verify and clear its entries. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dml_bench.data.cache import cache_folder, load
from dml_bench.data.locks import held


@dataclass(frozen=True)
class CacheEntry:
    """One entry.

    Attributes:
        name: of its files.
        key: what it was made of; empty for files that belong to no readable entry, such as a killed process leaves.
        files: all of them.
        size: bytes on the disk.
        changed: when it was last written, seconds since 1970.
    """

    name: str
    key: dict[str, Any]
    files: tuple[Path, ...]
    size: int
    changed: float

    @property
    def intact(self) -> bool:
        """Whether every byte is what was written; reads them all, but for a decompressed tar file's."""
        if self.files[0].suffix == ".tar":
            return True
        return bool(self.key) and load(self.files[0].parent / f"{self.name}.json", whole=True) is not None


def cache_list() -> list[CacheEntry]:
    """Return what is in the cache, the largest first; not what is being built at this moment."""
    try:
        files = [path for path in cache_folder().iterdir() if path.suffix in (".json", ".npy", ".tar", ".part")]
    except (FileNotFoundError, RuntimeError):
        return []
    names = sorted({path.name.lstrip(".").split(".")[0] for path in files})
    entries = [_entry(name, [p for p in files if p.name.lstrip(".").split(".")[0] == name]) for name in names]
    return sorted((entry for entry in entries if entry), key=lambda entry: -entry.size)


def cache_clear(names: set[str] | None = None) -> int:
    """Remove entries by name, or all of them; return how many bytes that freed.

    Runs that have an entry open keep it until they end. What is being built stays.
    """
    freed = 0
    for entry in cache_list():
        if names is None or entry.name in names:
            for path in sorted(entry.files, key=lambda path: path.suffix != ".json"):  # then nobody opens a torn entry
                path.unlink(missing_ok=True)
            freed += entry.size
    return freed


def _entry(name: str, files: list[Path]) -> CacheEntry | None:
    if held(cache_folder() / f".{name}.lock"):
        files = [path for path in files if path.suffix != ".part"]
    stats = [(path, path.stat()) for path in files if path.exists()]
    if not stats:
        return None
    try:
        key = json.loads((cache_folder() / f"{name}.json").read_bytes())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        key = {"dataset": "tar file, decompressed"} if stats[0][0].suffix == ".tar" else {}
    size, changed = sum(stat.st_size for _, stat in stats), max(stat.st_mtime for _, stat in stats)
    return CacheEntry(name, key, tuple(path for path, _ in stats), size, changed)
