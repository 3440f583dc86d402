"""Measure the image pipeline beside a DataLoader with Pillow and 2 workers, in one process, in turns.

``DML_BENCH_DATA=... python tests/bench/pipeline.py [images]``: real JPEGs enlarged to 500 x 375, random crops to 224.
"""

from __future__ import annotations

import io
import math
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

SIZE, BATCH = 224, 64


class Rival(Dataset):
    """Decode, crop, mirror and convert each image by Pillow, as torchvision does."""

    def __init__(self, paths: list[Path], train: bool) -> None:
        self.paths, self.train = paths, train

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        image = Image.open(self.paths[index]).convert("RGB")
        if self.train:
            left, top, width, height = self._box(*image.size)
            image = image.crop((left, top, left + width, top + height)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
            if random.random() < 0.5:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        else:
            image = image.resize((341, 256), Image.Resampling.BILINEAR).crop((58, 16, 58 + SIZE, 16 + SIZE))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        return (pixels - mean[:, None, None]) / std[:, None, None]

    def _box(self, width: int, height: int) -> tuple[int, int, int, int]:
        for _ in range(10):
            area = width * height * random.uniform(0.08, 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if w <= width and h <= height:
                return random.randint(0, width - w), random.randint(0, height - h), w, h
        return 0, 0, width, height


def rival_rate(paths: list[Path], train: bool) -> float:
    """Return images per second, workers started before."""
    loader = DataLoader(Rival(paths, train), BATCH, num_workers=2, multiprocessing_context="spawn", prefetch_factor=4)
    batches = iter(loader)
    next(batches)
    start, count = time.perf_counter(), 0
    for batch in batches:
        count += len(batch)
    return count / (time.perf_counter() - start)


def rate(work: Callable[[np.ndarray], object], count: int) -> float:
    """Return images per second over one epoch."""
    order = np.random.default_rng(0).permutation(count)
    work(order[:BATCH])
    start = time.perf_counter()
    for at in range(0, count, BATCH):
        work(order[at : at + BATCH])
    return count / (time.perf_counter() - start)


def enlarge(folder: Path, count: int) -> list[Path]:
    """Write JPEGs of 500 x 375, four classes."""
    import zipfile

    archive = Path(os.environ["DML_BENCH_DATA"]) / "caltech101" / "101_ObjectCategories.zip"
    paths = []
    with zipfile.ZipFile(archive) as source:
        names = [n for n in source.namelist() if n.endswith(".jpg") and "._" not in n][:: max(1, 3900 // count)]
        for i, name in enumerate(names[:count]):
            image = (
                Image.open(io.BytesIO(source.read(name))).convert("RGB").resize((500, 375), Image.Resampling.BICUBIC)
            )
            path = folder / f"class{i % 4}" / f"{i}.jpg"
            path.parent.mkdir(exist_ok=True, parents=True)
            image.save(path, "JPEG", quality=90)
            paths.append(path)
    return paths


def main() -> None:
    """Print one row per comparison."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 768
    with tempfile.TemporaryDirectory() as name:
        os.environ["DML_BENCH_CACHE"] = f"{name}/cache"
        from dml_bench.data.augment import augment, to_float
        from dml_bench.data.crops import crop_boxes, cut, hand_over
        from dml_bench.data.dataset import DATASETS
        from dml_bench.data.pictures import PackedPhotos
        from dml_bench.recipe.schema import Augmentation

        folder = Path(name) / "photos"
        paths = enlarge(folder, count)
        torch.set_num_threads(2)
        settings, noise = Augmentation(crop="resized", flip=True), torch.Generator().manual_seed(0)
        rival = {train: rival_rate(paths, train) for train in (True, False)}

        start = time.perf_counter()
        split = DATASETS.build("folder", None, path=str(folder), image_size=SIZE, resize=256)
        built = len(paths) / (time.perf_counter() - start)
        start = time.perf_counter()
        photos = split.train.photos(settings.photo_side(SIZE))
        whole = len(photos) / (time.perf_counter() - start)
        assert isinstance(photos, PackedPhotos)

        def boxes(rows: np.ndarray) -> tuple[list[np.ndarray], torch.Tensor]:
            taken = photos.take(rows)
            sizes = torch.tensor([photo.shape[:2] for photo in taken])
            return taken, crop_boxes(sizes, settings, SIZE, noise)

        def finished(rows: np.ndarray) -> torch.Tensor:
            return augment(to_float(cut(*boxes(rows), SIZE, torch.device("cpu"), threads=2)), settings, noise)

        def handed(rows: np.ndarray) -> object:
            taken, where = boxes(rows)
            crops = [p[t : t + h, x : x + w] for p, (t, x, h, w) in zip(taken, where.tolist(), strict=True)]
            return hand_over(crops, torch.device("cpu"))

        def tested(rows: np.ndarray) -> torch.Tensor:
            return to_float(torch.from_numpy(np.array(split.train.images[rows])))

        rows = [
            ("training batches, finished on the CPU", rate(finished, len(photos)), rival[True], 1.8),
            ("training crops, uint8, handed over", rate(handed, len(photos)), rival[True], 8.0),
            ("test batches", rate(tested, len(photos)), rival[False], 4.0),
            ("building the cache of test images", built, rival[True], 1.5),
            ("building the cache of whole photos", whole, rival[True], 1.5),
        ]
        again = rival_rate(paths, True)
        print(
            f"DataLoader, 2 workers, training: {rival[True]:.0f}/s before, {again:.0f}/s after; the better one counts\n"
        )
        print("| what | ours, images/s | DataLoader | ratio | wanted | |\n|---|---|---|---|---|---|")
        for what, ours, theirs, wanted in rows:
            theirs = max(theirs, again) if theirs == rival[True] else theirs
            verdict = "ok" if ours / theirs >= wanted else "SLOW"
            print(f"| {what} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.2f} | {wanted:g} | {verdict} |")
        print(f"\nOpening 60,000 images of 64 x 64: {opening():.3f} s (wanted: under 1)")


def opening() -> float:
    """Return the seconds it takes to open a cached set of 60,000 images."""
    from dml_bench.data.cache import cached_rows

    def pieces():
        block = np.random.default_rng(0).integers(0, 256, (1000, 64, 64, 3), dtype=np.uint8)
        return ({"images": block} for _ in range(60))

    cached_rows({"bench": 1}, pieces)
    start = time.perf_counter()
    cached_rows({"bench": 1}, pieces)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
