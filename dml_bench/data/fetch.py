"""Download data sets from their authors' hosts: resumed where broken off, and checked before they take their name."""

from __future__ import annotations

import hashlib
import http.client
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from dml_bench.errors import DataError

TRIES = 4
"""How often in a row one host may break off without a byte more."""

Tell = Callable[[str, int, int | None], None]
"""Told the name of the file, the bytes that are here, and the bytes of the whole, if known."""


@dataclass(frozen=True)
class Download:
    """A file to fetch, and how to know that it is the right one.

    Args:
        name: of the file.
        urls: where it is, mirrors in order.
        sha256: of its content, hexadecimal; or
        md5: likewise; one of both is needed.
        size: bytes.
    """

    name: str
    urls: tuple[str, ...]
    sha256: str = ""
    md5: str = ""
    size: int | None = None

    def fault(self, path: Path) -> str:
        """Say what is wrong with a file, or nothing."""
        if self.size is not None and path.stat().st_size != self.size:
            return f"has {path.stat().st_size:,} bytes, not {self.size:,}"
        kind, wanted = ("sha256", self.sha256) if self.sha256 else ("md5", self.md5)
        digest = hashlib.new(kind, usedforsecurity=False)
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
        return "" if digest.hexdigest() == wanted else f"has the {kind} {digest.hexdigest()}, not {wanted}"


def fetch(download: Download, folder: Path, tell: Tell = lambda *_: None, timeout: float = 30.0) -> Path:
    """Return the file, downloaded into ``folder`` unless a right one is there.

    What has arrived is kept as ``.<name>.part`` and resumed, after a broken connection and by the next call alike. The
    file takes its name only when size and checksum are right. A host that fails is followed by its mirrors.

    Args:
        download: what to fetch.
        folder: where to; made if need be.
        tell: told about progress.
        timeout: seconds of silence before a connection counts as broken.

    Raises:
        DataError: saying what went wrong at each host, or if another file has the name already.
    """
    path, part = folder / download.name, folder / f".{download.name}.part"
    if path.exists():
        if fault := download.fault(path):
            raise DataError(f"{path}: {fault}; move it away to fetch it again")
        return path
    folder.mkdir(parents=True, exist_ok=True)
    faults = []
    for url in download.urls:
        fault = _from_host(url, part, download, tell, timeout)
        if not fault and (fault := download.fault(part)):
            part.unlink()  # nothing to resume
        if not fault:
            part.replace(path)
            return path
        faults.append(f"  {url}: {fault}")
    raise DataError("\n".join([f"{download.name}: no host gave the right file:", *faults]))


def _from_host(url: str, part: Path, download: Download, tell: Tell, timeout: float) -> str:
    """Fetch to ``part`` from one host, going on where it breaks off; return what went wrong, or nothing."""
    fault, idle = "", 0
    while idle < TRIES:
        before = part.stat().st_size if part.exists() else 0
        try:
            if _append(url, part, download, tell, timeout):
                return ""
            fault = "the connection broke off"
        except HTTPError as error:
            if error.code == 416 and before:  # what is here is no beginning of what is there
                part.unlink()
            elif error.code < 500:
                return f"HTTP {error.code} {error.reason}"
            fault = f"HTTP {error.code} {error.reason}"
        except (URLError, http.client.HTTPException, OSError) as error:
            fault = str(getattr(error, "reason", "") or error) or type(error).__name__
        grown = part.exists() and part.stat().st_size > before
        idle = 0 if grown else idle + 1
        if not grown:
            time.sleep(min(0.1 * 2**idle, 2))
    return fault


def _append(url: str, part: Path, download: Download, tell: Tell, timeout: float) -> bool:
    """Append what is missing of a file; return whether all of it is here."""
    have = part.stat().st_size if part.exists() else 0
    if download.size is not None and have >= download.size:
        return True
    headers = {"User-Agent": "dml-bench"} | ({"Range": f"bytes={have}-"} if have else {})
    with urlopen(Request(url, headers=headers), timeout=timeout) as answer:
        if answer.status != 206:
            have = 0  # the host knows no ranges and sends everything
        elif have and not (answer.headers.get("Content-Range") or "").startswith(f"bytes {have}-"):
            raise URLError("the host sends another part than was asked for")
        length = answer.headers.get("Content-Length")
        whole = have + int(length) if length else download.size
        with part.open("ab" if have else "wb") as file:
            while block := answer.read(1 << 16):
                file.write(block)
                have += len(block)
                tell(download.name, have, whole)
                if download.size is not None and have > download.size:
                    return True  # its fault will be told
    return whole is None or have >= whole
