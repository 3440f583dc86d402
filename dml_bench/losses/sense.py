"""Which parts of the proxy loss do not make sense together, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dml_bench.errors import OptionError, Problem
from dml_bench.losses.centers import Pooling, single
from dml_bench.losses.ensemble import Ensemble, independent
from dml_bench.losses.margins import Margin, PerClass, is_angular
from dml_bench.losses.negatives import Candidates, Negatives, SupportVector
from dml_bench.losses.objectives import Objective, nca, nothing, softmax
from dml_bench.losses.regularizers import MeanMargin, Regularizer
from dml_bench.losses.similarity import Gaussian, Product, Similarity, cosine


def check_combination(
    *,
    similarity: Similarity,
    centers_per_class: int,
    pooling: Pooling,
    margin: Margin,
    negatives: Negatives,
    bias: bool,
    members: int,
    ensemble: Ensemble,
    regularizers: Sequence[Regularizer],
    objective: Objective,
    num_classes: int | None,
    sampled: bool = False,
) -> None:
    """Refuse parts that do not make sense together; arguments are those of ``ProxyLoss``.

    ``sampled`` says whether only some of the classes are compared with.

    Raises:
        OptionError: with the reason; all of them at once.
    """
    problems = [
        *_margin(similarity, margin, centers_per_class),
        *_similarity(similarity, negatives, bias),
        *_counts(centers_per_class, pooling, members, ensemble),
        *(_candidates(similarity, members, sampled) if isinstance(negatives, Candidates) else ()),
    ]
    if any(isinstance(part, MeanMargin) for part in regularizers) and not isinstance(margin, PerClass):
        problems.append(Problem(("regularizer",), "mean_margin rewards learned margins, which only per_class has"))
    if objective is nothing and not regularizers and ensemble is independent:
        problems.append(Problem(("objective",), "none leaves nothing to learn: add a regularizer or an ensemble"))
    if objective is nca and num_classes == 1:
        problems.append(Problem(("num_classes",), "must be >= 2 for nca, which compares with other classes"))
    if sampled:
        problems += _sampled(margin, objective, members, regularizers)
    if problems:
        raise OptionError(problems)


def _margin(similarity: Similarity, margin: Margin, centers_per_class: int) -> Iterator[Problem]:
    if not is_angular(margin):
        return
    if not isinstance(similarity, Product):
        reason = "acts on an angle, which a distance does not have: use dot, cosine, class_cosine or feature_cosine"
        yield Problem(("margin",), reason)
    elif not similarity.unit_centers and centers_per_class > 1:
        reason = (
            "acts on an angle, but with several centers of any length it is not clear whose: use cosine or class_cosine"
        )
        yield Problem(("margin",), reason)


def _similarity(similarity: Similarity, negatives: Negatives, bias: bool) -> Iterator[Problem]:
    if isinstance(negatives, SupportVector) and similarity != cosine:
        yield Problem(
            ("negatives",), "support_vector weighs by 1 + cos, which lies in [0, 2] for similarity: cosine only"
        )
    if bias and (not isinstance(similarity, Product) or similarity.unit_centers):
        reason = (
            "undoes what normalised centers and distances are for, classes of equal standing: use dot or feature_cosine"
        )
        yield Problem(("bias",), reason)


def _candidates(similarity: Similarity, members: int, sampled: bool) -> Iterator[Problem]:
    path = ("negatives",)
    if isinstance(similarity, Gaussian):
        yield Problem(
            path, "candidates are the classes of the most similar directions, which gaussian does not compare"
        )
    if members > 1:
        yield Problem(path, f"candidates remembers the rivals of one head, not of {members}: set members to 1")
    if sampled:
        yield Problem(path, "candidates chooses the classes of a step, and so does sampled_classes: drop one of them")


def _counts(centers_per_class: int, pooling: Pooling, members: int, ensemble: Ensemble) -> Iterator[Problem]:
    if pooling is single and centers_per_class > 1:
        reason = f"single takes one center per class, not {centers_per_class}: use nearest, soft, logsumexp or mean"
        yield Problem(("centers",), reason)
    if ensemble is not independent and members < 2:
        yield Problem(("ensemble",), "compares members, of which there is only one: set members to 2 or more")


def _sampled(
    margin: Margin, objective: Objective, members: int, regularizers: Sequence[Regularizer]
) -> Iterator[Problem]:
    path = ("sampled_classes",)
    if objective is not softmax:
        yield Problem(
            path, "raises the drawn classes to stand for all in the sum of the softmax: objective softmax only"
        )
    if members > 1:
        yield Problem(path, f"draws for one head, not {members}: set members to 1")
    if regularizers:
        yield Problem(path, "leaves most centers untouched in a step, but a regularizer needs all of them")
    if isinstance(margin, PerClass):
        yield Problem(path, "does not go with per_class, whose margins are learned of all classes in each step")
