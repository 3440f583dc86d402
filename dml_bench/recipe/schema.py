"""What a recipe may say about one run. Names inside it (losses, data sets, ...) are checked against registries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from dml_bench.registry import Count, NonNegative, Positive

Choice = Annotated[dict[str, Any], BeforeValidator(lambda value: as_choice(value))]
"""A registered name with its options: ``softtriple`` or ``{name: softtriple, margin: 0.01}``."""

Choices = Annotated[list[Choice], BeforeValidator(lambda value: value if isinstance(value, list) else [value])]
"""Several choices in a row, or one."""

Name = Annotated[str, AfterValidator(lambda value: as_name(value))]
"""What runs of a recipe are called, and their folder by default."""

CHOICES = {
    ("dataset",): "datasets",
    ("backbone",): "backbones",
    ("subset",): "subsets",
    ("loss",): "losses",
    ("training", "sampler"): "samplers",
    ("training", "optimizer"): "optimizers",
    ("training", "schedule"): "schedules",
    ("selection",): "selections",
}
"""Where choices stand in a recipe, and the registry each is checked against."""

DEFAULT_METRICS = ("recall@1", "recall@2", "recall@4", "recall@8", "map@r", "r_precision", "nmi")


Range = Annotated[list[Positive], Field(min_length=2, max_length=2)]
"""The least and the greatest value."""


class Section(BaseModel):
    """A part of a recipe: immutable, no unknown keys, no silent conversion."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Embedding(Section):
    """The head of the network: ``dim`` outputs, after a parameter-free LayerNorm of the features if asked for.

    ``dim: null`` leaves the linear layer out: the embedding is the features. ``bias``: whether the layer has one.
    ``init``: what its weights are drawn from: ``uniform`` is PyTorch's own, variance 1 / (3 features) with biases
    alike; ``fan_out`` is normal with variance 2 / dim and biases 0 (He et al.), as in Proxy-Anchor's code.
    """

    dim: Annotated[int, Field(ge=1, le=4096)] | None = 64
    layer_norm: bool = False
    bias: bool = True
    init: Literal["uniform", "fan_out"] = "uniform"


class Augmentation(Section):
    """Random changes of each training image, all off by default.

    ``crop``: ``resized`` cuts a box of random area and aspect ratio out of the whole photo and resizes it; ``random``
    cuts out the size itself; ``none`` takes the image as it is tested. ``crop_from``: short side the whole photos are
    reduced to beforehand, pixels; null takes 3/2 of the image size for ``resized``, 8/7 (224: 256) for ``random``.
    ``crop_scale``: least and greatest area of the box, as a share of the photo. ``crop_ratio``: least and greatest
    width / height. ``crop_padding``: largest shift, pixels. ``rotation``, ``shear``: largest angle either way, degrees.
    ``scale``: largest relative change of size. ``flip``: mirror half of the images left to right. ``brightness``,
    ``contrast``, ``saturation``: largest relative change. ``hue``: largest change either way, in turns of the color
    circle. ``blur``: largest deviation of a Gaussian blur, pixels.
    """

    crop: Literal["none", "random", "resized"] = "none"
    crop_from: Annotated[int, Field(ge=8, le=2048)] | None = None
    crop_scale: Range = [0.08, 1.0]
    crop_ratio: Range = [3 / 4, 4 / 3]
    crop_padding: Annotated[int, Field(ge=0)] = 0
    rotation: Annotated[float, Field(ge=0, le=180)] = 0.0
    scale: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    shear: Annotated[float, Field(ge=0, le=45)] = 0.0
    flip: bool = False
    brightness: NonNegative = 0.0
    contrast: NonNegative = 0.0
    saturation: NonNegative = 0.0
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0
    blur: Annotated[float, Field(ge=0, le=20)] = 0.0

    @model_validator(mode="after")
    def _ranges_rise(self) -> Augmentation:
        for name, (low, high) in (("crop_scale", self.crop_scale), ("crop_ratio", self.crop_ratio)):
            if low > high:
                raise ValueError(f"{name} must not fall, as {low:g} to {high:g} does")
        if self.crop_scale[1] > 1:
            raise ValueError(f"crop_scale must be at most 1, not {self.crop_scale[1]:g}")
        return self

    def photo_side(self, image_size: int) -> int:
        """Return the short side that whole photos are reduced to, pixels."""
        return self.crop_from or round(image_size * (3 / 2 if self.crop == "resized" else 8 / 7))

    @property
    def recolors(self) -> bool:
        """Whether colors or sharpness change."""
        return bool(self.brightness or self.contrast or self.saturation or self.hue or self.blur)


class Group(Section):
    """How a part of what is trained is optimised; null takes the optimizer's own.

    ``lr_factor``: multiplies the optimizer's rate, where ``lr`` does not replace it.
    """

    lr: Positive | None = None
    lr_factor: Positive | None = None
    weight_decay: NonNegative | None = None
    eps: Positive | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> Group:
        if self.lr is not None and self.lr_factor is not None:
            raise ValueError("lr and lr_factor must not both be given")
        return self


class Centers(Group):
    """How the loss's own parameters are optimised: without weight decay unless it is given."""

    weight_decay: NonNegative | None = 0.0


class Training(Section):
    """How the network is trained. The network after the last step is the one that is evaluated.

    Exactly one of ``epochs``, ``steps`` and ``images`` says how long: passes of the sampler, batches, or images drawn
    (the last batch is drawn whole).

    ``backbone``, ``head``, ``centers``: rate, decay and eps of these parts, where they differ from the optimizer's.
    ``decay``: whether weight decay spares the network's biases and the gammas and betas of its normalisations
    (``weights``). ``schedule_by``: whether the schedule goes on with every step, or stands still within an epoch.
    ``freeze``: parts of the network that stay as they are; see ``dml_bench.models.freezing``. ``head_epochs``: epochs
    at the start in which only the head and the loss's own parameters learn.

    ``clip_value``: largest entry of the gradient. ``clip_norm``: greatest length of the gradient of network and loss,
    taken as one vector, after that. ``accumulate``: batches per optimizer step, which goes by the mean of their
    gradients; pairs and triplets are formed within a batch only. ``chunk``: most images the network is given at once;
    a larger batch goes through it twice, in parts, and the loss still compares all of its images. Batch normalisation
    that is not frozen normalises by the part. ``ema``: decay of the running mean of the network's weights, which is
    what is evaluated.

    ``precision``: of the network's forward and backward pass. ``channels_last``: memory layout of images and weights;
    null has it with bf16 and fp16. ``compile``: whether torch.compile makes the network faster. ``deterministic``:
    whether operations that may differ between two runs are replaced, or refused where there is no replacement.
    """

    epochs: Count | None = 10
    steps: Count | None = None
    images: Count | None = None
    sampler: Choice = {"name": "pxk"}
    optimizer: Choice = {"name": "adamw"}
    backbone: Group = Group()
    head: Group = Group()
    centers: Centers = Centers()
    decay: Literal["all", "weights"] = "all"
    schedule: Choice = {"name": "cosine"}
    schedule_by: Literal["step", "epoch"] = "step"
    warmup_epochs: NonNegative = 0.0
    freeze: list[Literal["batch_norm", "batch_norm_affine", "stem", "trunk"]] = []
    head_epochs: Annotated[int, Field(ge=0)] = 0
    clip_value: Positive | None = None
    clip_norm: Positive | None = None
    accumulate: Count = 1
    chunk: Count | None = None
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    augmentation: Augmentation = Augmentation()
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    channels_last: bool | None = None
    compile: bool = False
    deterministic: bool = False
    threads: Count = 1

    @model_validator(mode="before")
    @classmethod
    def _epochs_give_way(cls, values: Any) -> Any:
        if isinstance(values, Mapping) and (values.get("steps") is not None or values.get("images") is not None):
            return {"epochs": None, **values}
        return values

    @model_validator(mode="after")
    def _one_budget(self) -> Training:
        given = [name for name in ("epochs", "steps", "images") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"exactly one of epochs, steps and images must be given, not {' and '.join(given) or 'none'}"
            )
        return self

    @model_validator(mode="after")
    def _warmed_up_before_the_end(self) -> Training:
        if self.epochs is not None and self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs, {self.warmup_epochs:g}, must be at most epochs, {self.epochs}")
        if self.epochs is not None and self.head_epochs >= self.epochs:
            raise ValueError(f"head_epochs, {self.head_epochs}, must be less than epochs, {self.epochs}")
        return self


class Evaluation(Section):
    """What is measured on the test classes; ``restarts`` k-means runs with other seeds stand behind ``nmi``.

    ``distance``: ``cosine`` compares embeddings brought to length 1, ``euclidean`` compares them as they are.
    """

    metrics: Annotated[list[str], Field(min_length=1)] = list(DEFAULT_METRICS)
    restarts: Count = 10
    distance: Literal["cosine", "euclidean"] = "cosine"


class Resources(Section):
    """What a run is given on a cluster: cores (null: ``training.threads``) and GPUs, of which 0.5 is half of one.

    They change no digit and no id: how a run computes is said by ``training``.
    """

    num_cpus: Count | None = None
    num_gpus: NonNegative = 0.0


class Recipe(Section):
    """One run. ``loss: null`` trains nothing: that is how reference rows are made.

    ``selection`` says which of the networks that training passes through is the result.

    ``name``, ``description``, ``data_root``, ``resources``, ``seed`` and ``tuning``, the budget of the search that
    found the settings, are no part of the recipe's identity. ``subset`` names what is done to the training part before,
    such as ``{name: long_tail, factor: 100}``; several are done one after the other.
    ``normalize`` says what the network's input is: ``dataset`` and ``imagenet`` subtract a mean and divide by a
    deviation per channel (of features: each), of the training images or of ImageNet; ``caffe`` is BGR from 0 to 255
    minus (104, 117, 128); ``half``, of many transformers, is from -1 to 1; ``none`` leaves images in [0, 1] and
    features as they are.
    """

    name: Name = "recipe"
    description: str = ""
    dataset: Choice
    data_root: str | None = None
    subset: Choices = []
    normalize: Literal["dataset", "imagenet", "caffe", "half", "none"] = "dataset"
    backbone: Choice = {"name": "convnet"}
    embedding: Embedding | None = Embedding()
    loss: Choice | None
    training: Training | None = Training()
    selection: Choice = {"name": "last"}
    evaluation: Evaluation = Evaluation()
    resources: Resources = Resources()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    tuning: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _trained_if_it_has_a_loss(self) -> Recipe:
        if self.loss is not None and self.training is None:
            raise ValueError("training must not be null beside a loss")
        return self

    def document(self) -> dict[str, Any]:
        """Return the recipe as plain JSON values, every default spelt out."""
        return self.model_dump(mode="json")


def as_name(value: str) -> str:
    """Return a name that a folder can have everywhere.

    Raises:
        ValueError: if it is none.
    """
    if not re.fullmatch(r"\w[\w.+-]*", value):
        raise ValueError(
            f"must be letters, digits, _ . + and -, without spaces, beginning with one of the first three, "
            f"not {value!r}"
        )
    return value


def as_choice(value: Any) -> Any:
    """Turn ``"softtriple"`` into ``{"name": "softtriple"}``; leave pydantic to refuse anything else."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping) and not isinstance(value.get("name"), str):
        raise ValueError("needs a name, such as {name: ...}")
    return value
