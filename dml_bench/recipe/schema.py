"""What a recipe may say about one run. Names inside it (losses, data sets, ...) are checked against registries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dml_bench.registry import Count, NonNegative, Positive

Choice = Annotated[dict[str, Any], BeforeValidator(lambda value: as_choice(value))]
"""A registered name with its options: ``softtriple`` or ``{name: softtriple, margin: 0.01}``."""

CHOICES = {
    ("dataset",): "datasets",
    ("backbone",): "backbones",
    ("loss",): "losses",
    ("training", "sampler"): "samplers",
    ("training", "optimizer"): "optimizers",
    ("training", "schedule"): "schedules",
}
"""Where choices stand in a recipe, and the registry each is checked against."""

DEFAULT_METRICS = ("recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "nmi")


class Section(BaseModel):
    """A part of a recipe: immutable, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Embedding(Section):
    """The head of the network: ``dim`` outputs, after a parameter-free LayerNorm of the features if asked for."""

    dim: Annotated[int, Field(ge=1, le=4096)] = 64
    layer_norm: bool = False


class Augmentation(Section):
    """Random changes of each training image, all off by default.

    ``crop_padding``: largest shift, pixels. ``rotation``, ``shear``: largest angle either way, degrees. ``scale``:
    largest relative change of size. ``flip``: mirror half of the images left to right.
    """

    crop_padding: Annotated[int, Field(ge=0)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    shear: Annotated[float, Field(ge=0, le=45)] = 0.0
    flip: bool = False


class Centers(Section):
    """How the loss's own parameters are optimised; ``lr: null`` takes the optimizer's."""

    lr: Positive | None = None
    weight_decay: NonNegative = 0.0


class Training(Section):
    """How the network is trained. The network after the last step is the one that is evaluated."""

    epochs: Count = 10
    sampler: Choice = {"name": "pxk"}
    optimizer: Choice = {"name": "adamw"}
    centers: Centers = Centers()
    schedule: Choice = {"name": "cosine"}
    warmup_epochs: NonNegative = 0.0
    augmentation: Augmentation = Augmentation()
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: Count = 1

    @model_validator(mode="after")
    def _warmed_up_before_the_end(self) -> Training:
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs, {self.warmup_epochs:g}, must be at most epochs, {self.epochs}")
        return self


class Evaluation(Section):
    """What is measured on the test classes; ``restarts`` k-means runs with other seeds stand behind ``nmi``.

    ``distance``: ``cosine`` compares embeddings brought to length 1, ``euclidean`` compares them as they are.
    """

    metrics: Annotated[list[str], Field(min_length=1)] = list(DEFAULT_METRICS)
    restarts: Count = 10
    distance: Literal["cosine", "euclidean"] = "cosine"


class Recipe(Section):
    """One run. ``loss: null`` trains nothing: that is how reference rows are made.

    ``name``, ``description``, ``data_root`` and ``seed`` are no part of the recipe's identity.
    """

    name: Annotated[str, Field(pattern=r"^[\w][\w.+-]*$")] = "recipe"
    description: str = ""
    dataset: Choice
    data_root: str | None = None
    backbone: Choice = {"name": "convnet"}
    embedding: Embedding | None = Embedding()
    loss: Choice | None
    training: Training | None = Training()
    evaluation: Evaluation = Evaluation()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @model_validator(mode="after")
    def _trained_if_it_has_a_loss(self) -> Recipe:
        if self.loss is not None and self.training is None:
            raise ValueError("training must not be null beside a loss")
        return self

    def document(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values, every default spelt out."""
        return self.model_dump(mode="json")


def as_choice(value: Any) -> Any:
    """Turn ``"softtriple"`` into ``{"name": "softtriple"}``; leave pydantic to refuse anything else."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and not isinstance(value.get("name"), str):
        raise ValueError("needs a name, such as {name: ...}")
    return value
