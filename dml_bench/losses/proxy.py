"""The one forward pass of every softmax and proxy loss; what tells them apart sits in the slots."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from dml_bench.epoch import EpochContext
from dml_bench.losses import margins as margin_parts
from dml_bench.losses import negatives as negative_parts
from dml_bench.losses.centers import Init, Pooling, gaussian, nearest, single
from dml_bench.losses.ensemble import Ensemble, independent
from dml_bench.losses.loss import Loss, Task, check_embeddings, check_tensor
from dml_bench.losses.margins import Margin, PerClass, Target, is_angular
from dml_bench.losses.memory import check_memory
from dml_bench.losses.negatives import Candidates, Negatives
from dml_bench.losses.numerics import full_precision
from dml_bench.losses.objectives import Objective, softmax
from dml_bench.losses.regularizers import Regularizer
from dml_bench.losses.rivals import Rivals
from dml_bench.losses.sense import check_combination
from dml_bench.losses.similarity import Product, Similarity, cosine, squared_sines
from dml_bench.losses.weighting import Weighting


class ProxyLoss(Loss):
    """Compare embeddings with learned centers of the classes.

    The order is fixed: similarity, pooling of centers, margin on the target, negatives, scale, bias, objective,
    weighting, mean over the batch, sum over members; regularizers are added.

    Args:
        task: the facts about the training set.
        similarity: ``(N, D), (C, K, D) -> (N, C, K)``.
        centers_per_class: K >= 1.
        pooling: ``(N, C, K) -> (N, C)``.
        margin: ``Target -> (N,)``, what it adds to the similarity to the own class.
        negatives: ``(N, C), (N,) margined target, (N,) labels -> (N, C)``, on the similarities to other classes;
            for ``Candidates`` the loss keeps a ``Rivals``.
        scale: > 0, multiplies similarities after the margin; the inverse of a temperature.
        learn_scale: whether the scale is a parameter that starts at ``scale``.
        bias: ``(C,)``, where the bias starts that is added after the scale; None for no bias.
        objective: ``(N, C) logits, (N,) labels -> (N,)``.
        weighting: ``(N,) costs, (N,) log-probabilities, (N,) labels -> (N,)`` factors on the costs; they multiply.
        regularizers: ``(C, K, D) centers, (C,) margins or None -> scalar``.
        members: M >= 1, heads that each have centers of their own.
        ensemble: ``(M, C, K, D) -> scalar``, what keeps the members apart.
        init: draws ``(C, K, D)`` centers from torch's global generator, for one member after the other.

    Attributes:
        centers: ``(C, K, D)``, not normalised; ``(M, C, K, D)`` with several members.
        bias: ``(C,)`` or None; the members share it.
        margins: ``(C,)`` margins that are learned, or None.
        steps: optimizer steps done, which annealed margins go by.

    Raises:
        OptionError: when parts do not make sense together.
    """

    takes_pixels = True
    steps: Tensor

    def __init__(
        self,
        task: Task,
        *,
        similarity: Similarity = cosine,
        centers_per_class: int = 1,
        pooling: Pooling = single,
        margin: Margin = margin_parts.none,
        negatives: Negatives = negative_parts.none,
        scale: float = 1.0,
        learn_scale: bool = False,
        bias: Tensor | None = None,
        objective: Objective = softmax,
        weighting: Sequence[Weighting] = (),
        regularizers: Sequence[Regularizer] = (),
        members: int = 1,
        ensemble: Ensemble = independent,
        init: Init = gaussian,
    ) -> None:
        check_combination(
            similarity=similarity,
            centers_per_class=centers_per_class,
            pooling=pooling,
            margin=margin,
            negatives=negatives,
            bias=bias is not None,
            members=members,
            ensemble=ensemble,
            regularizers=regularizers,
            objective=objective,
            num_classes=task.num_classes,
            sampled=bool(self.sparse_parameters),
        )
        super().__init__(task)
        heads = [init(task.num_classes, centers_per_class, task.embedding_dim) for _ in range(members)]
        self.centers = nn.Parameter(torch.stack(heads) if members > 1 else heads[0])
        self.bias = None if bias is None else nn.Parameter(bias)
        self.scale = nn.Parameter(torch.tensor(float(scale))) if learn_scale else scale
        self.margins = nn.Parameter(margin.start(task.num_classes)) if isinstance(margin, PerClass) else None
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.similarity, self.pooling, self.margin, self.negatives = similarity, pooling, margin, negatives
        if isinstance(negatives, Candidates):
            self.negatives = Rivals(task.num_classes, negatives.count)
            self.negatives.refresh(self.centers.detach())
        self.objective, self.weighting = objective, tuple(weighting)
        self.regularizers, self.ensemble = tuple(regularizers), ensemble

    def compute(
        self, embeddings: Float[Tensor, "N D"], labels: Int[Tensor, " N"], indices: Int[Tensor, " N"] | None
    ) -> dict[str, Tensor]:
        """Return the mean objective, and what regularizers and ensemble add if there are any."""
        centers = self._as(self.centers, embeddings)
        heads = centers.unbind(0) if centers.ndim == 4 else (centers,)
        check_memory(len(embeddings), heads)
        embeddings = embeddings.to(centers.dtype)
        terms = {"objective": _total([self._mean_cost(embeddings, head, labels, indices) for head in heads])}
        if self.regularizers:
            margins = None if self.margins is None else self._as(self.margins, embeddings)
            terms["regularizer"] = _total([part(head, margins) for part in self.regularizers for head in heads])
        if self.ensemble is not independent:
            terms["diversity"] = self.ensemble(torch.stack(heads))
        return terms

    def aim(
        self,
        similarity: Float[Tensor, " N"],
        embeddings: Float[Tensor, "N D"],
        centers: Float[Tensor, "C K D"],
        labels: Int[Tensor, " N"],
        indices: Int[Tensor, " N"] | None,
    ) -> Target:
        """Return what the margin may use; a loss that knows more of its samples adds it here."""
        lengths, sines = None, None
        if is_angular(self.margin) and isinstance(self.similarity, Product):
            lengths = self.similarity.lengths(embeddings, centers, labels)
            if self.pooling in (single, nearest):
                sines = partial(squared_sines, embeddings, centers, labels)
        margins = None if self.margins is None else self._as(self.margins, embeddings)[labels]
        return Target(similarity, lengths, self.steps, margins, squared_sines=sines)

    def on_step(self) -> None:
        """Count the step, keep learned margins in [0, 1], and let winners join the rivals of whom they beat."""
        self.steps += 1
        if self.margins is not None:
            self.margins.data.clamp_(0, 1)
        if isinstance(self.negatives, Rivals):
            self.negatives.join()

    def on_epoch_start(self, context: EpochContext) -> None:
        """Bring the rivals up to date with the centers, where classes remember any."""
        if isinstance(self.negatives, Rivals):
            self.negatives.refresh(self.centers.detach())

    def class_scores(self, embeddings: Tensor) -> Tensor:
        """Return the logits without margin, ``(N, C)``; the largest names the predicted class.

        An ensemble answers by the mean of its members' centers. Pixels ``(N, D, H, W)`` give ``(N, C, H, W)``.

        Raises:
            DataError: when ``embeddings`` are not finite floating point of shape ``(N, D)``, N >= 1.
        """
        check_tensor("embeddings", embeddings)
        if embeddings.ndim == 4:
            rows = self.class_scores(embeddings.movedim(1, -1).flatten(0, 2))
            return rows.reshape(len(embeddings), *embeddings.shape[2:], -1).movedim(-1, 1)
        check_embeddings(embeddings, self.task.embedding_dim)
        with full_precision(embeddings) as wide:
            centers = self._as(self.centers, wide)
            scores = self._scores(wide.to(centers.dtype), centers.mean(0) if centers.ndim == 4 else centers)
            return self._scaled(scores, self.bias)

    def _mean_cost(
        self,
        embeddings: Float[Tensor, "N D"],
        centers: Float[Tensor, "C K D"],
        labels: Int[Tensor, " N"],
        indices: Int[Tensor, " N"] | None,
    ) -> Float[Tensor, ""]:
        logits = self._logits(embeddings, centers, labels, indices, self.bias)
        if self.objective is softmax and not self.weighting:
            return F.cross_entropy(logits, labels)
        costs: Tensor = self.objective(logits, labels)
        if not self.weighting:
            return costs.mean()
        return self._weighted(costs, -(costs if self.objective is softmax else softmax(logits, labels)), labels)

    def _weighted(
        self, costs: Float[Tensor, " N"], log_probability: Float[Tensor, " N"], labels: Int[Tensor, " N"]
    ) -> Float[Tensor, ""]:
        for part in self.weighting:  # each weighs what the one before left
            costs = costs * part(costs, log_probability, labels)
        return costs.mean()

    def _logits(
        self,
        embeddings: Float[Tensor, "N D"],
        centers: Float[Tensor, "C K D"],
        labels: Int[Tensor, " N"],
        indices: Int[Tensor, " N"] | None,
        bias: Float[Tensor, " C"] | None,
    ) -> Float[Tensor, "N C"]:
        scores = self._scores(embeddings, centers)
        if self.margin is not margin_parts.none or self.negatives is not negative_parts.none:
            column = labels[:, None]
            similarity = scores.gather(1, column).squeeze(1)
            change = self.margin(self.aim(similarity, embeddings, centers, labels, indices))
            scores = self.negatives(scores, similarity + change, labels).scatter_add(1, column, change[:, None])
        return self._scaled(scores, bias)

    def _scaled(self, scores: Float[Tensor, "N C"], bias: Float[Tensor, " C"] | None) -> Float[Tensor, "N C"]:
        if bias is None:
            return scores if isinstance(self.scale, float) and self.scale == 1 else self.scale * scores
        bias = self._as(bias, scores)
        if isinstance(self.scale, Tensor):
            return torch.addcmul(bias, self.scale.to(scores.dtype), scores)
        return torch.add(bias, scores, alpha=self.scale)  # one pass over all classes instead of two

    def _scores(self, embeddings: Float[Tensor, "N D"], centers: Float[Tensor, "C K D"]) -> Float[Tensor, "N C"]:
        return self.pooling(self.similarity(embeddings, centers))

    def _as(self, parameter: Tensor, embeddings: Tensor) -> Tensor:
        """Return a parameter in the wider of its own and the embeddings' precision."""
        if parameter.dtype == embeddings.dtype:
            return parameter
        return parameter.to(torch.promote_types(parameter.dtype, embeddings.dtype))


def _total(terms: list[Tensor]) -> Tensor:
    return reduce(torch.add, terms)
