"""Measure the image pipeline beside a DataLoader with Pillow and 2 workers, in turns, and print a page in Markdown.

``DML_BENCH_DATA=... python tests/bench/pipeline.py [images]``: real JPEGs enlarged to 500 x 375, random crops to 224.
"""

from __future__ import annotations

import io
import math
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

SIZE, BATCH, ROUNDS = 224, 64, 3

INTRODUCTION = """# The image pipeline beside a DataLoader

Written by `python tests/bench/pipeline.py {count} > results/benchmarks/pipeline.md`. The photographs are {count} JPEGs
of 500 x 375, training crops and test images have 224 x 224 pixels, a batch {batch} images. The rival is torch's
DataLoader with Pillow and 2 worker processes, started before: it decodes, crops, resizes, mirrors, makes floats and
normalises. Ours, one process with 2 threads, finishes training batches out of photos cached at 336 pixels, hands the
bytes of crops over as a GPU is given them (here in memory), and turns cached test images into floats; the network
normalises them itself. Building the cache is decoding, resizing, checksums and writing; the rival is then the training
one. Rates are the best of {rounds} rounds in which everything is measured in turn, the worst in brackets.
Last come milliseconds of processor time for an image, which other work on the machine changes less: ours with
everything, the rival's without what the DataLoader itself takes.
"""

ROWS = (
    ("finished", "training batches, finished on the CPU", "loader, training", 1.8),
    ("handed", "training crops, bytes handed over", "loader, training", 8.0),
    ("tested", "test batches", "loader, testing", 4.0),
    ("test images", "building the cache of test images", "loader, training", 1.5),
    ("whole photos", "building the cache of whole photos", "loader, training", 1.5),
)


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


def rival_cost(paths: list[Path], train: bool) -> float:
    """Return milliseconds of processor time that an image takes, without handing it from process to process."""
    data = Rival(paths[: 2 * BATCH], train)
    start = time.process_time()
    for index in range(len(data)):
        data[index]
    return 1e3 * (time.process_time() - start) / len(data)


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


class Ours:
    """The same work by the package, its cache in a folder of its own."""

    def __init__(self, photos: Path, cache: Path) -> None:
        from dml_bench.data.dataset import DATASETS
        from dml_bench.recipe.schema import Augmentation

        os.environ["DML_BENCH_CACHE"] = str(cache)
        self.settings = Augmentation(crop="resized", flip=True)
        self.noise = torch.Generator().manual_seed(0)
        start, used = time.perf_counter(), time.process_time()
        self.split = DATASETS.build("folder", None, path=str(photos), image_size=SIZE, resize=256)
        count = len(self.split.train) + len(self.split.test)
        self.built = count / (time.perf_counter() - start)
        self.built_cost = 1e3 * (time.process_time() - used) / count
        start, used = time.perf_counter(), time.process_time()
        self.photos = self.split.train.photos(self.settings.photo_side(SIZE))
        self.whole = len(self.photos) / (time.perf_counter() - start)
        self.whole_cost = 1e3 * (time.process_time() - used) / len(self.photos)

    def finished(self, rows: np.ndarray) -> torch.Tensor:
        """Return crops as floats, mirrored."""
        from dml_bench.data.augment import finish
        from dml_bench.data.crops import cut

        return finish(cut(*self.boxes(rows), SIZE, torch.device("cpu"), threads=2), self.settings, self.noise)

    def handed(self, rows: np.ndarray) -> object:
        """Return the bytes of crops in one piece, as a GPU is given them."""
        from dml_bench.data.crops import hand_over

        taken, where = self.boxes(rows)
        crops = [p[t : t + h, x : x + w] for p, (t, x, h, w) in zip(taken, where.tolist(), strict=True)]
        return hand_over(crops, torch.device("cpu"))

    def tested(self, rows: np.ndarray) -> torch.Tensor:
        """Return test images as floats."""
        from dml_bench.data.augment import to_float

        return to_float(torch.from_numpy(np.require(self.split.train.images[rows], requirements="W")))

    def boxes(self, rows: np.ndarray) -> tuple[list[np.ndarray], torch.Tensor]:
        """Return whole photos and where to cut."""
        from dml_bench.data.crops import crop_boxes

        taken = self.photos.take(rows)
        sizes = torch.tensor([photo.shape[:2] for photo in taken])
        return taken, crop_boxes(sizes, self.settings, SIZE, self.noise)


def one_round(folder: Path, paths: list[Path], cache: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return images per second and milliseconds of processor time of everything, measured one after the other."""
    costs = {"loader, training": rival_cost(paths, True), "loader, testing": rival_cost(paths, False)}
    rates = {"loader, training": rival_rate(paths, True), "loader, testing": rival_rate(paths, False)}
    ours = Ours(folder, cache)
    rates |= {"test images": ours.built, "whole photos": ours.whole}
    for name in ("finished", "handed", "tested"):
        start = time.process_time()
        rates[name] = rate(getattr(ours, name), len(ours.photos))
        costs[name] = 1e3 * (time.process_time() - start) / (len(ours.photos) + BATCH)
    return rates, costs | {"test images": ours.built_cost, "whole photos": ours.whole_cost}


def main() -> None:
    """Print one row per comparison."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 768
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        paths = enlarge(folder, count)
        rounds = [one_round(folder, paths, Path(name) / f"cache{i}") for i in range(ROUNDS)]
        load = os.getloadavg()[0]
        best, low = ({what: chosen(r[what] for r, _ in rounds) for what in rounds[0][0]} for chosen in (max, min))
        cost = {what: min(costs[what] for _, costs in rounds) for what in rounds[0][1]}
        print(INTRODUCTION.format(rounds=ROUNDS, count=count, batch=BATCH))
        versions = f"torch {torch.__version__}, Pillow {PIL.__version__}"
        print(f"{processor()}, {os.cpu_count()} cores, load average {load:.1f}, {versions}.\n")
        print("| what | ours, images/s | DataLoader, images/s | ratio | wanted | | ours, ms | Pillow, ms |")
        print("|---|---|---|---|---|---|---|---|")
        for key, what, rival, wanted in ROWS:
            ratio = best[key] / best[rival]
            print(
                f"| {what} | {best[key]:.0f} ({low[key]:.0f}) | {best[rival]:.0f} ({low[rival]:.0f}) | {ratio:.2f} "
                f"| {wanted:g} | {'ok' if ratio >= wanted else 'SLOW'} | {cost[key]:.2f} | {cost[rival]:.2f} |"
            )
        os.environ["DML_BENCH_CACHE"] = f"{name}/opening"
        print(f"\nOpening 60,000 images of 64 x 64 from the cache: {opening():.3f} s (wanted: under 1).")
        print(
            "\n| images | memory at rest | at most while the cache is built | at most in an epoch |\n|---|---|---|---|"
        )
        for part in (count // 4, count):
            print(
                f"| {part} | {' | '.join(f'{mib:.0f} MiB' for mib in memory(paths[:part], Path(name)))} |", flush=True
            )


def memory(paths: list[Path], folder: Path) -> list[float]:
    """Return MiB of anonymous memory of a process that builds the cache of these files and reads an epoch."""
    photos = folder / f"some{len(paths)}"
    for path in paths:
        (photos / path.parent.name).mkdir(parents=True, exist_ok=True)
        (photos / path.parent.name / path.name).symlink_to(path)
    command = [sys.executable, __file__, "--memory", str(photos), str(folder / f"{photos.name}-cache")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [float(value) for value in done.stdout.split()]


def show_memory(photos: Path, cache: Path) -> None:
    """Print what this process needs: at rest, while the cache is built, in an epoch."""
    from dml_bench.data import augment, catalog, crops, dataset  # noqa: F401  loaded before memory is measured

    torch.set_num_threads(2)
    anonymous, most, done = [], [0.0], threading.Event()

    def watch() -> None:
        while not done.wait(0.002):
            lines = Path("/proc/self/status").read_text().splitlines()
            most[0] = max(most[0], next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    time.sleep(0.1)
    anonymous.append(most[0])
    ours = Ours(photos, cache)
    anonymous.append(most[0])
    most[0] = 0.0
    rate(ours.finished, len(ours.photos))
    anonymous.append(most[0])
    done.set()
    watcher.join()
    print(*anonymous)


def processor() -> str:
    """Return the name of the processor."""
    names = [
        line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
    ]
    return names[0]


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
    if "--memory" in sys.argv:
        show_memory(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main()
