"""Mistakes that are easily made in a loss: each of them must turn its card red."""

import math

import pytest
import torch

from dml_bench.losses import (
    centroids,
    dense,
    loss,
    margins,
    miners,
    objectives,
    pairs,
    regularizers,
    similarity,
    triplets,
    uncertainty,
    weighting,
)
from dml_bench.losses.centers import Soft
from dml_bench.losses.distance_weighted import MarginLoss
from dml_bench.losses.ensemble import Hsic
from dml_bench.losses.hierarchy import HierarchicalTriplet
from dml_bench.losses.negatives import SupportVector
from dml_bench.losses.objectives import Hinge
from dml_bench.losses.proxy import ProxyLoss
from dml_bench.losses.proxy_anchor import ProxyAnchor
from dml_bench.losses.quintuplet import Quintuplet
from dml_bench.losses.rivals import Rivals
from dml_bench.losses.two_stage import TwoStage
from dml_bench.losses.uncertainty import UncertaintySoftmax
from dml_bench.testing import verify


def swapped_axes(self, similarities):
    weights = (similarities / self.gamma).softmax(dim=1)
    return torch.einsum("nck,nck->nc", weights, similarities)


def detached_weights(self, similarities):
    weights = (similarities / self.gamma).softmax(dim=2).detach()
    return torch.einsum("nck,nck->nc", weights, similarities)


def wrong_side(self, target):
    return torch.full_like(target.similarity, self.margin)


def lost_sign(self, cosine, sine):
    return cosine * math.cos(self.margin) + sine * math.sin(self.margin)


def degrees(self, cosine, sine):
    return cosine * math.cos(math.radians(self.margin)) - sine * math.sin(math.radians(self.margin))


def naked_sine(target):
    return ((1 - target.cosine) * (1 + target.cosine)).sqrt()


def wrong_divisor(centers):
    return MERGE_CENTERS(centers) * 2


def one_turn_too_many(cosines, factor):
    turns = (factor / math.pi * cosines.detach().clamp(-1, 1).acos()).ceil()
    polynomial = (factor * cosines.clamp(-1, 1).acos()).cos()
    return (1 - 2 * turns.remainder(2)) * polynomial - 2 * turns


def mean_for_sum(self, logits, labels):
    return HINGE(self, logits, labels) / (logits.shape[1] - 1)


def everyone(logits, labels):
    return torch.ones_like(logits, dtype=torch.bool)


def unscaled_negatives(self, scores, target, labels):
    return torch.where(scores.detach() > target.detach()[:, None], self.t * scores, scores)


def soft_negatives(self, scores, target, labels):
    return torch.where(scores.detach() < target.detach()[:, None], self.t * scores + self.t - 1, scores)


def itself_too(labels):
    same = labels[:, None] == labels
    return same, ~same


def one_more(self, costs, log_probability, labels):
    kept = torch.zeros_like(costs)
    kept[costs.topk(min(len(costs), int(self.keep_ratio * len(costs)) + 1)).indices] = 1
    return kept * (len(costs) / kept.sum())


def uncentered(self, centers):
    rows = centers.flatten(1, 2)
    products = torch.einsum("cd,ce->de", rows[0], rows[-1])
    return self.weight * products.square().sum() / (rows.shape[1] - 1) ** 2


def constant_focus(self, costs, log_probability, labels):
    return FOCAL(self, costs, log_probability.detach(), labels)


def without_the_one(values):
    return values


def forgotten(self, *told):
    return None


def never_penalised(*arguments):
    return torch.zeros_like(PENALTIES(*arguments))


def negated(self, embeddings):
    return -PROXY_SCORES(self, embeddings)


def negated_anchor(self, embeddings):
    return -ANCHOR_SCORES(self, embeddings)


def zero(self, embeddings):
    return 0 * PROXY_SCORES(self, embeddings)


def backwards(embeddings, labels, *others):
    return FLATTEN(embeddings.flip(-1) if embeddings.ndim == 4 else embeddings, labels, *others)


def none_left_out(embeddings, labels, indices, mark, num_classes):
    rows, kept, positions = FLATTEN(embeddings, labels, indices, -1, num_classes)
    return rows, kept.clamp(max=num_classes - 1), positions


def all_in_one(self, base_lr):
    return [{"name": "all", "params": list(self.parameters()), "lr": base_lr, "weight_decay": 0.0}]


def sums_of_classes(directions, labels):
    means, rows = MEAN_DIRECTIONS(directions, labels)
    return means * 2, rows


FLATTEN, PENALTIES, MEAN_DIRECTIONS = dense.flatten, uncertainty.penalties, centroids.mean_directions
PROXY_SCORES, ANCHOR_SCORES = ProxyLoss.class_scores, ProxyAnchor.class_scores
MERGE_CENTERS, HINGE, FOCAL = regularizers.merge_centers, Hinge.__call__, weighting.Focal.__call__

MUTATIONS = [
    ("softtriple", Soft, "__call__", swapped_axes),
    ("softtriple", Soft, "__call__", detached_weights),
    ("softtriple", regularizers, "merge_centers", wrong_divisor),
    ("am_softmax", margins.Additive, "__call__", wrong_side),
    ("arcface", margins.Angular, "_shift", lost_sign),
    ("arcface", margins.Angular, "_shift", degrees),
    ("arcface", margins.Target, "sine", property(naked_sine)),
    ("combined_margin", margins.Target, "sine", property(naked_sine)),
    ("l_softmax", margins, "chebyshev", one_turn_too_many),
    ("c_triplet", Hinge, "__call__", mean_for_sum),
    ("proxy_nca", objectives, "_others", everyone),
    ("sv_softmax", SupportVector, "__call__", unscaled_negatives),
    ("sv_am_softmax", SupportVector, "__call__", soft_negatives),
    ("norm_softmax", similarity, "unit", lambda vectors: vectors),
    ("ohem", weighting.Hardest, "__call__", one_more),
    ("focal", weighting.Focal, "__call__", constant_focus),
    ("em_softmax", Hsic, "__call__", uncentered),
    ("multi_similarity", pairs, "softplus", without_the_one),
    ("triplet_batch_hard", triplets, "pairs_of", itself_too),
    ("triplet_semihard", miners, "_nearest", miners._farthest),
    ("l_softmax", ProxyLoss, "on_step", forgotten),
    ("uniformface", ProxyLoss, "on_step", forgotten),
    ("adaptiveface", ProxyLoss, "on_step", forgotten),
    ("adaptiveface", Rivals, "join", forgotten),
    ("adaptiveface", Rivals, "refresh", forgotten),
    ("htl", HierarchicalTriplet, "on_epoch_start", forgotten),
    ("quintuplet", Quintuplet, "on_epoch_start", forgotten),
    ("uncertainty_softmax", UncertaintySoftmax, "on_epoch_start", forgotten),
    ("uncertainty_softmax", uncertainty, "penalties", never_penalised),
    ("nra_two_stage", TwoStage, "on_epoch_start", forgotten),
    ("margin_loss", MarginLoss, "on_step", forgotten),
    ("arcface", ProxyLoss, "class_scores", negated),
    ("proxy_anchor", ProxyAnchor, "class_scores", negated_anchor),
    ("em_softmax", ProxyLoss, "class_scores", zero),
    ("am_softmax", loss, "flatten", backwards),
    ("am_softmax", loss, "flatten", none_left_out),
    ("softmax_ce", loss.Loss, "param_groups", all_in_one),
    ("coco", centroids, "mean_directions", sums_of_classes),
]


@pytest.mark.parametrize(
    ("key", "home", "name", "mistake"), MUTATIONS, ids=lambda part: getattr(part, "__name__", part)
)
def test_a_mistake_turns_the_card_red(monkeypatch, key, home, name, mistake):
    monkeypatch.setattr(home, name, mistake)
    card = verify(key)
    assert card.verdict == "failed"
    assert card.failures
