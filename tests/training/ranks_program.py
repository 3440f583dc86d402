"""What one of two ranks does for ``test_ranks.py``: every fit, then what belongs to no fit; results go to a file.

Called as ``python ranks_program.py RANK COUNT PORT FOLDER [dies]``.
"""

import os
import signal
import sys
import time
from datetime import timedelta
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch
from torch import nn
from torch.distributed import TCPStore

from dml_bench import ranks
from dml_bench.errors import OptionError, TrainingError
from dml_bench.evaluation.extract import extract
from dml_bench.models.batch_norm import WholeBatchNorm
from dml_bench.models.freezing import freeze
from dml_bench.training.listening import epoch_context

FROZEN = {"freeze": ["batch_norm"]}
SEVEN = {"sampler": {"name": "random", "batch_size": 7}, "epochs": 4}  # 20 steps, shares of 3 and 4
PXK = {"sampler": {"name": "pxk", "classes_per_batch": 3, "images_per_class": 3}, "epochs": 5}
DROPOUT = {"name": "convnet", "width": 4, "dropout": 0.2}
ADAM = {"optimizer": {"name": "adam", "lr": 0.01}}
AUGMENTED = {"augmentation": {"crop_padding": 1, "flip": True, "rotation": 10.0, "brightness": 0.2}}
NEIGHBORS = {"name": "class_neighbors", "anchors": 1, "classes_per_anchor": 3, "images_per_class": 3}

# loss, its options, settings of the training
FITS = {
    "norm_softmax": ("norm_softmax", {}, FROZEN | SEVEN),
    "softtriple": ("softtriple", {"centers_per_class": 2}, FROZEN | SEVEN),
    "triplet_all": ("triplet_all", {}, FROZEN | PXK),
    "multi_similarity": ("multi_similarity", {}, FROZEN | PXK),
    "margin_loss": ("margin_loss", {}, FROZEN | PXK),
    "a_softmax": ("a_softmax", {}, FROZEN | SEVEN),
    "htl": ("htl", {}, FROZEN | PXK),
    "quintuplet": ("quintuplet", {}, FROZEN | PXK),
    "moving statistics": ("norm_softmax", {}, SEVEN),
    "moving statistics, tuples": ("triplet_all", {}, PXK | ADAM),
    "accumulated": ("softtriple", {"centers_per_class": 2}, FROZEN | SEVEN | {"accumulate": 3}),
    "clipped": ("norm_softmax", {}, SEVEN | {"clip_norm": 0.1, "clip_value": 0.05}),
    "averaged": ("norm_softmax", {}, SEVEN | {"ema": 0.9}),
    "parts": ("triplet_all", {}, FROZEN | PXK | {"chunk": 2}),
    "head first": ("norm_softmax", {}, SEVEN | {"head_epochs": 2}),
    "sampler hears steps": ("am_softmax", {}, FROZEN | {"sampler": {"name": "adaptive", "batch_size": 7}, "epochs": 4}),
    "sampler hears epochs": ("triplet_all", {}, FROZEN | {"sampler": NEIGHBORS, "epochs": 5}),
    "augmented": ("norm_softmax", {}, FROZEN | SEVEN | AUGMENTED),
    "sampled classes": ("proxy", {"sampled_classes": 2}, FROZEN | SEVEN | ADAM),
}


def small():
    """Return the training set of ``conftest.py``, and fits on it."""
    spec = spec_from_file_location("conftest", Path(__file__).with_name("conftest.py"))
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.small.__wrapped__() if hasattr(module.small, "__wrapped__") else module.small.__pytest_wrapped__.obj()


def trained(small, case, backbone=None):
    """Return what a fit came to: every loss, and every number of network and loss."""
    name, options, changes = FITS[case]
    losses = []
    model, loss = small.model(backbone), small.loss(name, **options)
    small.fit(model, loss, hear={"on_step": lambda step: losses.append(step.loss)}, **changes)
    return {"losses": losses, "model": dict(model.state_dict()), "loss": dict(loss.state_dict())}


def refused(small, **changes):
    """Return why a fit is refused."""
    try:
        small.fit(**changes)
    except (OptionError, TrainingError) as error:
        return str(error)
    return ""


def normalised():
    """Return what batch normalisation makes of this rank's share, and the gradients of a function of all shares."""
    x = torch.randn(7, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    own = x[ranks.share(7)].requires_grad_()
    norm = nn.BatchNorm2d(3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, -1.0]))
    whole = WholeBatchNorm(norm).train()
    result = whole(own)
    ranks.gathered(result, 7).pow(3).sum().backward()
    ranks.add_up([norm.weight.grad, norm.bias.grad])
    return {
        "x": x,
        "result": result.detach(),
        "gradient": own.grad,
        "weight": norm.weight.grad,
        "state": dict(norm.state_dict()),
    }


def embedded(small):
    """Return test embeddings in batches of 7, those an epoch begins with, and those of fewer batches than ranks."""
    model = small.model().float()
    freeze(model, [])
    context = epoch_context(model, small.train, seed=0, epoch=1, device=torch.device("cpu"))
    return [extract(model, small.train.images, batch_size=size) for size in (7, 40)] + [context.embed().numpy()]


def left_alone(rank, mine, folder):
    """Train until rank 1 is killed in the middle of it, and write down what rank 0 hears."""

    def die(step):
        if rank == 1 and step.step == 3:
            os.kill(os.getpid(), signal.SIGKILL)

    start = time.monotonic()
    try:
        mine.fit(epochs=100, hear={"on_step": die})
    except ranks.RankError as error:
        (folder / "heard.txt").write_text(f"{time.monotonic() - start} {error}")


def main(rank, count, port, folder, dies=False):
    """Write ``rank-N.pt``."""
    store = TCPStore("127.0.0.1", port, count, rank == 0, timedelta(seconds=30))
    mine = small()
    with ranks.joined(store, rank, count, torch.device("cpu"), timedelta(seconds=60)):
        if dies:
            left_alone(rank, mine, folder)
            return
        found = {
            "fits": {case: trained(mine, case) for case in FITS},
            "dropout": trained(mine, "norm_softmax", DROPOUT),
            "norm": normalised(),
            "embedded": embedded(mine),
            "agreed": ranks.agreed(lambda: {"rank": rank}),
            "refused": [
                refused(mine, chunk=2),
                refused(mine, sampler={"name": "random", "batch_size": 1}),
                refused(mine, sampler={"name": "random", "batch_size": 13, "drop_last": False}),
            ],
        }
        torch.save(found, folder / f"rank-{rank}.pt")
        store.set(f"done-{rank}", "")
        store.wait([f"done-{other}" for other in range(count if rank == 0 else 0)])  # its host leaves last


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), len(sys.argv) > 5)
