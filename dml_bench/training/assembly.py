"""Network and loss as a recipe says: built for a training set, or read back from a published run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dml_bench.data.dataset import ImageSet
from dml_bench.errors import ResultsError
from dml_bench.losses import Loss
from dml_bench.losses import build as build_loss
from dml_bench.models.embedder import Embedder, build_embedder
from dml_bench.randomness import derive_seed
from dml_bench.recipe.schema import Recipe
from dml_bench.recipe.weights import located
from dml_bench.training.checkpoint import write_whole

WEIGHTS = "checkpoint.pt"
"""The file of a published run that holds the weights of its network and of its loss."""


@dataclass(frozen=True)
class TrainFacts:
    """What network and loss have to know of the training set.

    Attributes:
        class_counts: ``(C,)`` images of each class.
        image_shape: height, width and channels; of features, how many.
        moments: means and deviations of the images in [0, 1], or of the features.
    """

    class_counts: Tensor
    image_shape: tuple[int, ...]
    moments: tuple[list[float], list[float]]

    @classmethod
    def of(cls, train: ImageSet) -> TrainFacts:
        """Return the facts of a training set."""
        return cls(torch.from_numpy(train.class_counts), train.image_shape, train.moments)


def assemble(recipe: Recipe, facts: TrainFacts) -> tuple[Embedder, Loss | None]:
    """Build the network and the loss of a recipe, with weights drawn from its seed."""
    backbone = located(recipe.backbone, recipe.data_root)
    model = build_embedder(backbone, recipe.embedding, facts.image_shape, facts.moments, recipe.seed, recipe.normalize)
    if recipe.loss is None:
        return model, None
    options = dict(recipe.loss)
    name, counts = options.pop("name"), facts.class_counts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(recipe.seed, "loss"))
        return model, build_loss(name, len(counts), model.embedding_dim, class_counts=counts, **options)


def save_weights(folder: Path, recipe: Recipe, facts: TrainFacts, model: Embedder, loss: Loss | None) -> None:
    """Write the weights as they are evaluated; ``torch.load(..., weights_only=True)`` reads the file."""
    stream = io.BytesIO()
    states = {"model": model.state_dict(), "loss": loss.state_dict() if loss else None}
    document = json.loads(json.dumps(recipe.document()))  # equal words are not one object: the bytes say if they are
    torch.save({"recipe": document, "facts": asdict(facts), "bgr": model.bgr, **states}, stream)
    write_whole(folder / WEIGHTS, stream.getvalue())


def load_run(folder: Path | str) -> tuple[Embedder, Loss | None, Recipe]:
    """Return network, loss (None if nothing was trained) and recipe of a published run, on the CPU, for evaluation.

    Args:
        folder: of the run, such as ``runs/quickstart/04267949c0bd-s0``.

    Raises:
        ResultsError: if there is no ``checkpoint.pt`` in the folder, or it is damaged.
    """
    path = Path(folder) / WEIGHTS
    try:
        return restored(torch.load(path, map_location="cpu", weights_only=True))
    except FileNotFoundError:
        raise ResultsError(f"{path}: not there; older runs did not keep their weights") from None
    except Exception as error:  # a damaged file can raise anything
        raise ResultsError(f"{path}: the weights cannot be read: {type(error).__name__}: {error}") from error


def restored(saved: Mapping[str, Any]) -> tuple[Embedder, Loss | None, Recipe]:
    """Return network, loss and recipe of what ``save_weights`` wrote, for evaluation.

    Args:
        saved: ``recipe``, ``facts`` and ``bgr``, which may have been JSON meanwhile, and the weights of ``model`` and
            ``loss``.
    """
    recipe = Recipe.model_validate(saved["recipe"])
    began = {name: value for name, value in recipe.backbone.items() if name != "weights"}
    counts, shape, moments = (saved["facts"][name] for name in ("class_counts", "image_shape", "moments"))
    facts = TrainFacts(torch.as_tensor(counts), tuple(shape), tuple(moments))
    model, loss = assemble(recipe.model_copy(update={"backbone": began}), facts)
    model.load_state_dict(saved["model"])
    model.bgr = saved["bgr"]  # goes by whether the backbone began from a file
    if loss is not None:
        loss.load_state_dict(saved["loss"])
    return model.eval(), loss.eval() if loss else None, recipe
