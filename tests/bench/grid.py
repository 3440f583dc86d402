"""Measure a grid: two runs at once beside one, and processor time beside a plain loop over another library.

``python tests/bench/grid.py`` takes two losses of the quickstart, ``python tests/bench/grid.py --all`` those nine of
its eleven that pytorch-metric-learning has; each with two seeds. Prints a page in Markdown.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart.yaml"
FEW = ("norm_softmax", "triplet_semihard")
SEEDS = (0, 1)
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

PAGE = """# A grid beside a plain loop

Written by `{command} > results/benchmarks/grid.md`: {runs} runs of the quickstart ({losses}; {seeds} seeds each; no
reference rows), from the start of the command to the finished report, the cache of images being there.

{machine}

| the same {runs} runs | wall clock, s | processor time, s |
|---|---|---|
| `dml-bench run -j 1` | {one.wall:.1f} | {one.cpu:.1f} |
| `dml-bench run -j 2` | {two.wall:.1f} | {two.cpu:.1f} |
| plain loop over {library} | {plain.wall:.1f} | {plain.cpu:.1f} |

- `-j 2` is {speed:.2f} times as fast as `-j 1`, wanted 1.6{few}.
- The plain loop takes {ratio:.2f} times the processor time of `dml-bench run -j 1`, wanted more than 1.

Processor time is that of the command and all its processes, user and system, start and imports included. The plain
loop is one process for all runs: the library's losses, its miners, `MPerClassSampler`, `trainers.MetricLossOnly` with
images in memory and no worker processes, and `AccuracyCalculator(k="max_bin_count")` at the end of each run. Network,
number format, batch size, epochs, steps, images, optimizer and cosine schedule are those of the recipe, and either
has one thread for a run. Its SoftTriple goes without the regularizer. The loop keeps nothing; ours keeps records,
curves, embeddings and results per query, repeats k-means {restarts} times, and writes tables and plots.
"""


@dataclass(frozen=True)
class Cost:
    """Seconds: by the clock, and of processors."""

    wall: float
    cpu: float


def spend(command: list[str]) -> Cost:
    """Run a command and return what it took, with all its processes."""
    before, start = os.times(), time.perf_counter()
    done = subprocess.run(command, env={**os.environ, **THREADS}, capture_output=True, text=True)
    after = os.times()
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    print(" ".join(command[:4]), round(time.perf_counter() - start, 1), file=sys.stderr)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(time.perf_counter() - start, cpu)


def ours(losses: list[str], jobs: int) -> Cost:
    """Run the grid by the command line into a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as out:
        recipe = Path(out) / "grid.yaml"
        recipe.write_text(subset(losses), encoding="utf-8")
        return spend([sys.executable, "-m", "dml_bench", "run", str(recipe), "--out", f"{out}/runs", "-j", str(jobs)])


def subset(losses: list[str]) -> str:
    """Return the quickstart with some of its losses and no reference rows."""
    head, _, grid = RECIPE.read_text(encoding="utf-8").partition("  loss:\n")
    kept = [line for line in grid.splitlines() if name_of(line) in losses]
    return f"references: false\n{head}  loss:\n" + "\n".join([*kept, ""])


def name_of(line: str) -> str:
    """Return the loss that a line of the grid names."""
    return line.strip().removeprefix("- ").removeprefix("{name: ").partition(",")[0]


def rivals(classes: int, dim: int) -> dict:
    """Return what pytorch-metric-learning has of the quickstart: makers of a loss and a miner."""
    from pytorch_metric_learning import losses, miners

    return {
        "norm_softmax": (lambda: losses.NormalizedSoftmaxLoss(classes, dim), None),
        "am_softmax": (lambda: losses.CosFaceLoss(classes, dim, scale=20), None),
        "arcface": (lambda: losses.ArcFaceLoss(classes, dim, scale=30, margin=math.degrees(0.3)), None),
        "proxy_nca": (lambda: losses.ProxyNCALoss(classes, dim), None),
        "softtriple": (lambda: losses.SoftTripleLoss(classes, dim, centers_per_class=5), None),
        "contrastive": (lambda: losses.ContrastiveLoss(), None),
        "triplet_batch_hard": (lambda: losses.TripletMarginLoss(), miners.BatchHardMiner),
        "triplet_semihard": (
            lambda: losses.TripletMarginLoss(),
            lambda: miners.TripletMarginMiner(type_of_triplets="semihard"),
        ),
        "multi_similarity": (lambda: losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner),
    }


def plain(names: list[str]) -> None:
    """Run the grid as a plain loop in this process."""
    import torch
    from pytorch_metric_learning import samplers, trainers
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from torch.optim.lr_scheduler import CosineAnnealingLR
    from torch.utils.data import TensorDataset

    from dml_bench import flow, splits
    from dml_bench.data.samplers import build_sampler
    from dml_bench.recipe.reader import read_recipe
    from dml_bench.training.precision import autocast

    torch.set_num_threads(1)
    recipe = read_recipe(RECIPE, flow.VOCABULARY, [])[0].recipe
    training, split, cpu = recipe.training, splits.load_split(recipe), torch.device("cpu")
    train, test = (
        TensorDataset(torch.from_numpy(part.images[:]).permute(0, 3, 1, 2) / 255, torch.from_numpy(part.labels))
        for part in (split.train, split.test)
    )
    length = len(build_sampler(training.sampler, split.train))
    batch = training.sampler["classes_per_batch"] * training.sampler["images_per_class"]

    class Half(torch.nn.Module):
        """The network in the number format of the recipe."""

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            with autocast(training, cpu):
                return self.network(images).float()

    for name in names:
        for seed in SEEDS:
            torch.manual_seed(seed)
            model, _ = flow.assemble(recipe, split)
            make, mine = rivals(split.train.num_classes, model.embedding_dim)[name]
            loss = make()
            groups = {"trunk_optimizer": (model, training.optimizer["lr"])}
            if any(True for _ in loss.parameters()):
                groups["metric_loss_optimizer"] = (loss, training.centers.lr)
            decay = training.optimizer["weight_decay"]
            optimizers = {
                key: torch.optim.AdamW(part.parameters(), rate, weight_decay=decay)
                for key, (part, rate) in groups.items()
            }
            schedules = {
                key.replace("optimizer", "scheduler_by_iteration"): CosineAnnealingLR(
                    optimizer, training.epochs * length
                )
                for key, optimizer in optimizers.items()
            }
            trainers.MetricLossOnly(
                models={"trunk": Half(model)},
                optimizers=optimizers,
                batch_size=batch,
                loss_funcs={"metric_loss": loss},
                mining_funcs={"tuple_miner": mine()} if mine else {},
                dataset=train,
                data_device=cpu,
                sampler=samplers.MPerClassSampler(
                    split.train.labels, training.sampler["images_per_class"], batch, 2**16
                ),
                dataloader_num_workers=0,
                iterations_per_epoch=length,
                lr_schedulers=schedules,
            ).train(num_epochs=training.epochs)
            model.eval()
            with torch.no_grad():
                found = torch.cat([model(images) for images in test.tensors[0].split(256)])
                found = torch.nn.functional.normalize(found)
            scores = AccuracyCalculator(k="max_bin_count", device=cpu).get_accuracy(found, test.tensors[1])
            print(name, seed, {key: round(value, 3) for key, value in scores.items()})


def main() -> None:
    """Print the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true", help="all losses that both have")
    parser.add_argument("--plain", nargs="*", help="only the plain loop, over these losses, in this process")
    chosen = parser.parse_args()
    if chosen.plain:
        plain(chosen.plain)
        return
    names = list(rivals(2, 2)) if chosen.all else list(FEW)
    from dml_bench import flow, splits
    from dml_bench.recipe.reader import read_recipe

    recipe = read_recipe(RECIPE, flow.VOCABULARY, [])[0].recipe
    splits.load_split(recipe)  # fills the cache of images
    one, two = ours(names, 1), ours(names, 2)
    loop = spend([sys.executable, __file__, "--plain", *names])
    cores = os.cpu_count()
    print(
        PAGE.format(
            command="python tests/bench/grid.py" + (" --all" if chosen.all else ""),
            runs=len(names) * len(SEEDS), losses=", ".join(names), seeds=len(SEEDS), one=one, two=two, plain=loop,
            machine=f"{platform.processor() or platform.machine()}, {cores} cores, torch {version('torch')}, "
            f"pytorch-metric-learning {version('pytorch-metric-learning')}.",
            library="pytorch-metric-learning", speed=one.wall / two.wall, ratio=loop.cpu / one.cpu,
            few=" on two cores" if cores == 2 else "", restarts=recipe.evaluation.restarts,
        ),
        end="",
    )  # fmt: skip


if __name__ == "__main__":
    main()
