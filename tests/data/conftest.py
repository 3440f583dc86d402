"""Tiny copies of data sets: pictures, and trees of files as folder, zip and tar."""

import io
import tarfile
import zipfile

import pytest
from PIL import Image


def picture(color=(200, 30, 30), size=(12, 9), kind="JPEG", **options):
    """Return the bytes of an image file of one color."""
    data = io.BytesIO()
    Image.new("RGB" if isinstance(color, tuple) else "L", size, color).save(data, format=kind, **options)
    return data.getvalue()


def write(top, files):
    """Write files, given by name, below a folder."""
    for name, content in files.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return top


def pack(path, files):
    """Write files, given by name, to a zip or tar file; the ending says which."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path
    mode = {".tgz": "w:gz", ".gz": "w:gz", ".tar": "w", ".bz2": "w:bz2", ".xz": "w:xz"}[path.suffix]
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            data = content if isinstance(content, bytes) else content.encode()
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


class Files:
    """What the tests of data sets share."""

    picture = staticmethod(picture)
    write = staticmethod(write)
    pack = staticmethod(pack)


@pytest.fixture(scope="session")
def files():
    return Files
