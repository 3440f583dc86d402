"""Networks of the library timm, without their classifiers; timm is imported when one is built.

Needs the extra ``vision``: ``pip install 'dml-bench[vision]'``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from dml_bench.errors import DataError, OptionError, Problem, RecipeError
from dml_bench.models.backbone import BACKBONES
from dml_bench.models.pooling import Pool, Pooling
from dml_bench.models.weights import Digest, load_weights, vision
from dml_bench.recipe.weights import HUB
from dml_bench.registry import suggestion


class TimmBackbone(nn.Module):
    """A network of timm whose map of features is pooled here, or as the network itself does (``own``)."""

    def __init__(self, network: Any, pooling: Pooling | Literal["own"]) -> None:
        super().__init__()
        self.network = network
        self.pool = None if pooling == "own" else Pool(pooling)
        self.features = int(network.num_features if self.pool else getattr(network, "head_hidden_size", 0))
        self.features = self.features or int(network.num_features)
        self.stem = _stem(network)
        self.weights_digest = ""

    def forward(self, images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
        """Map normalised images to features.

        Raises:
            DataError: if the network makes no map of features, as transformers do not.
        """
        maps = self.network.forward_features(images)
        if self.pool is None:
            return torch.flatten(self.network.forward_head(maps, pre_logits=True), 1)
        if maps.ndim != 4 or maps.shape[1] != self.features:
            raise DataError(f"backbone.pooling: {type(self.network).__name__} makes no map to pool; say pooling: own")
        features: Tensor = self.pool(maps)
        return features


def _stem(network: Any) -> str | None:
    """Return the stem's names as timm groups them, or None if it does not say."""
    groups = network.group_matcher(coarse=True) if hasattr(network, "group_matcher") else {}
    patterns = [re.sub(r"(^|\|)\^", r"\1", pattern) for pattern in _flat(groups.get("stem", ()))]
    return rf"network\.(?:{'|'.join(patterns)})" if patterns else None


def _flat(patterns: Any) -> Iterator[str]:
    if isinstance(patterns, str):
        yield patterns
    elif isinstance(patterns, list | tuple):
        for pattern in patterns:
            yield from _flat(pattern)


def _build(
    model: str, channels: int, weights: str | None, sha256: str | None, pooling: Pooling | Literal["own"]
) -> TimmBackbone:
    timm = vision("timm")
    if not timm.is_model(model):
        known = suggestion(model, timm.list_models())
        raise RecipeError(f"backbone.model: timm {timm.__version__} has no model named '{model}'{known}")
    network = timm.create_model(model, pretrained=False, num_classes=0, in_chans=channels)
    backbone = TimmBackbone(network, pooling)
    if weights is not None:
        settings = network.pretrained_cfg
        classifier = list(_flat(settings.get("classifier") or ()))
        unused = rf"(?:{'|'.join(map(re.escape, classifier))})\." if classifier else r"(?!)"
        path = _from_hub(model, settings) if weights == HUB else Path(weights)
        backbone.weights_digest = load_weights(network, path, sha256, unused)
    return backbone


def _from_hub(model: str, settings: Mapping[str, Any]) -> Path:
    """Return the file of a model's weights in the cache of the hub, fetched if it is not there.

    Raises:
        DataError: if the model has none, or the hub cannot be reached.
    """
    hub, where = vision("huggingface_hub"), settings.get("hf_hub_id")
    if not where:
        raise DataError(f"backbone.weights: the hub has no weights of {model}; name a file instead")
    try:
        return Path(hub.hf_hub_download(where, settings.get("hf_hub_filename") or "model.safetensors"))
    except Exception as error:  # whatever a network raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"backbone.weights: cannot fetch {where} from the hub: {reason}; name a file instead") from None


def _pretrained_input(recipe: Mapping[str, Any]) -> None:
    if recipe["backbone"].get("weights") is not None and recipe.get("normalize", "dataset") == "dataset":
        why = "must be imagenet, half or caffe beside pretrained weights: what they were trained on"
        raise OptionError([Problem(("normalize",), why)])


@BACKBONES.register("timm", beside=_pretrained_input)
def timm(
    image_shape: tuple[int, int, int],
    /,
    *,
    model: str = "resnet50",
    weights: str | None = None,
    sha256: Digest | None = None,
    pooling: Pooling | Literal["own"] = "mean",
) -> TimmBackbone:
    """Any network of the library timm by its name there; needs ``pip install 'dml-bench[vision]'``.

    ``weights``: a ``.safetensors`` file or one of PyTorch; a relative path is looked for below the data root, then in
    the current folder. ``hub`` fetches the model's from the Hugging Face hub. ``sha256``: of the file; for the
    hub it must be stated. ``pooling``: ``mean`` of the last map, ``max``, their sum, or the network's ``own``.

    Source: Wightman, PyTorch Image Models, 2019.
    """
    return _build(model, image_shape[2], weights, sha256, pooling)


@BACKBONES.register("resnet18", beside=_pretrained_input)
def resnet18(
    image_shape: tuple[int, int, int],
    /,
    *,
    weights: str | None = None,
    sha256: Digest | None = None,
    pooling: Pooling = "mean",
) -> TimmBackbone:
    """ResNet-18: 11 million parameters, 512 features; ``timm`` by a shorter name, with the same options.

    Source: He et al., CVPR 2016.
    """
    return _build("resnet18", image_shape[2], weights, sha256, pooling)


@BACKBONES.register("resnet50", beside=_pretrained_input)
def resnet50(
    image_shape: tuple[int, int, int],
    /,
    *,
    weights: str | None = None,
    sha256: Digest | None = None,
    pooling: Pooling = "mean",
) -> TimmBackbone:
    """ResNet-50: 24 million parameters, 2048 features; ``timm`` by a shorter name, with the same options.

    Source: He et al., CVPR 2016; stride in the 3x3 convolutions, as in torchvision.
    """
    return _build("resnet50", image_shape[2], weights, sha256, pooling)
