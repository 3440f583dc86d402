"""How similar pairs of the same class are, and pairs of different ones: what metrics of verification read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

from dml_bench.errors import DataError


@dataclass(frozen=True, eq=False)
class PairScores:
    """How many pairs of the same class, and of different ones, have each similarity.

    Attributes:
        similarities: ``(B,)`` distinct, ascending; cosine, or minus the Euclidean distance.
        same: ``(B,)`` how many pairs of the same class have this similarity.
        different: ``(B,)`` how many pairs of different classes have it; one of both counts is positive.
        folds: the same for the pairs of each fold alone; empty where there are none.
    """

    similarities: Float64[np.ndarray, " B"]
    same: Int64[np.ndarray, " B"]
    different: Int64[np.ndarray, " B"]
    folds: tuple[PairScores, ...] = ()

    @classmethod
    def of(
        cls,
        similarities: Float[np.ndarray, " P"],
        same: Bool[np.ndarray, " P"],
        folds: Int64[np.ndarray, " P"] | None = None,
        *,
        tie: float = 0.0,
    ) -> PairScores:
        """Count pairs that are given one by one; exact.

        Args:
            similarities: of each pair; higher is more similar.
            same: whether the two are of the same class.
            folds: which fold of a cross-validation each pair belongs to; any integers.
            tie: neighbouring similarities no further apart than this count as equal; without folds only.

        Raises:
            DataError: if there is no pair, or a similarity is not finite.
        """
        if not len(similarities):
            raise DataError("there are no pairs to compare")
        if not np.isfinite(similarities).all():
            raise DataError(f"the similarity of pair {np.flatnonzero(~np.isfinite(similarities))[0]} is not finite")
        if folds is not None and tie:
            raise ValueError("pairs in folds are compared as they are: tie must be 0")
        found = _sorted_counts(similarities.astype(np.float64), same, tie)
        if folds is None:
            return found
        parts = [folds == fold for fold in np.unique(folds)]
        return replace(found, folds=tuple(cls.of(similarities[part], same[part]) for part in parts))

    def without(self, fold: PairScores) -> PairScores:
        """Return the pairs of all other folds."""
        places = np.searchsorted(self.similarities, fold.similarities)
        same, different = self.same.copy(), self.different.copy()
        same[places] -= fold.same
        different[places] -= fold.different
        left = same + different > 0
        return PairScores(self.similarities[left], same[left], different[left])

    def rates(self) -> tuple[Float64[np.ndarray, " B_plus_1"], Float64[np.ndarray, " B_plus_1"]]:
        """Return the shares of different and of same pairs that are accepted as the threshold falls.

        A pair is accepted if its similarity is at least the threshold. The first threshold is above all similarities
        (0, 0), then comes each similarity from the highest down; the last accepts all (1, 1).

        Raises:
            DataError: if all pairs are of the same class, or none is.
        """
        if not self.same.any():
            raise DataError("no two items that are compared are of the same class, so there is nothing to verify")
        if not self.different.any():
            raise DataError("all items that are compared are of the same class, so nothing can be told apart")
        far, tar = (np.concatenate([[0], np.cumsum(counts[::-1])]) for counts in (self.different, self.same))
        return far / far[-1], tar / tar[-1]


def _sorted_counts(similarities: Float64[np.ndarray, " P"], same: Bool[np.ndarray, " P"], tie: float) -> PairScores:
    order = np.argsort(similarities)
    values = similarities[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(values) > tie]))
    accepted = np.add.reduceat(same[order].astype(np.int64), starts)
    return PairScores(values[starts], accepted, np.diff(np.append(starts, len(values))) - accepted)
