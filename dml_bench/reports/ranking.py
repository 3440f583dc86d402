"""Many losses at once: who is better than whom, who is tied, and what holds across data sets."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Float64
from scipy import stats

from dml_bench.reports.statistics import holm

ALPHA = 0.05


@dataclass(frozen=True)
class Standing:
    """Rows compared pair by pair, each pair's p-value corrected by Holm for the number of pairs.

    Attributes:
        better: ``better[i]`` are the rows that row i is better than.
        tied: the rows that are not told apart from the best one, that one included; empty if there is no claim.
    """

    better: tuple[tuple[int, ...], ...]
    tied: tuple[int, ...]


def standing(
    means: Sequence[float], differences: Mapping[tuple[int, int], tuple[float, float]], higher: bool = True
) -> Standing:
    """Say who is better than whom.

    Args:
        means: of each row; nan for one that is not compared.
        differences: of rows i < j, value of i minus value of j and its p-value; pairs that cannot be compared are left
            out.
        higher: whether more is better.
    """
    pairs = list(differences)
    corrected = holm([differences[pair][1] for pair in pairs])
    better: list[list[int]] = [[] for _ in means]
    for (i, j), p in zip(pairs, corrected, strict=True):
        if p < ALPHA:
            first = (differences[i, j][0] > 0) == higher
            better[i if first else j].append(j if first else i)
    claims = {row for pair, p in zip(pairs, corrected, strict=True) if not math.isnan(p) for row in pair}
    if not claims:
        return Standing(tuple(map(tuple, better)), ())
    best = max(claims, key=lambda row: means[row] if higher else -means[row])
    tied = tuple(row for row in sorted(claims) if row == best or row not in better[best])
    return Standing(tuple(tuple(sorted(rows)) for rows in better), tied if len(tied) > 1 else ())


@dataclass(frozen=True)
class AcrossDataSets:
    """Losses ranked on several data sets.

    Attributes:
        ranks: ``(K,)`` mean rank of each loss, 1 being the best.
        p: of Friedman's test that all losses are alike.
        critical: least difference of mean ranks that counts, by Nemenyi, at 5 percent.
        pairs: p-values of Wilcoxon's signed-rank test by pair, corrected by Holm.
        least: what these can be at least, where one loss of a pair is better on every data set.
    """

    ranks: tuple[float, ...]
    p: float
    critical: float
    pairs: dict[tuple[int, int], float]
    least: float


def across_data_sets(scores: Float64[np.ndarray, "N K"]) -> AcrossDataSets:
    """Compare K losses over N data sets, the higher the better; each needs a score on each.

    Source: Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006.

    Raises:
        ValueError: for fewer than 2 data sets or 3 losses.
    """
    many, losses = scores.shape
    if many < 2 or losses < 3:
        raise ValueError(f"at least 2 data sets and 3 losses are needed, not {many} and {losses}")
    ranks = stats.rankdata(-scores, axis=1).mean(axis=0)
    columns = list(scores.T)
    same = all(np.array_equal(column, columns[0]) for column in columns)
    p = 1.0 if same else float(stats.friedmanchisquare(*columns).pvalue)
    spread = float(stats.studentized_range.ppf(1 - ALPHA, losses, np.inf)) / math.sqrt(2)
    critical = spread * math.sqrt(losses * (losses + 1) / (6 * many))
    pairs = list(combinations(range(losses), 2))
    raw = [
        1.0 if np.array_equal(columns[i], columns[j]) else float(stats.wilcoxon(columns[i], columns[j]).pvalue)
        for i, j in pairs
    ]
    corrected, least = dict(zip(pairs, holm(raw), strict=True)), min(1.0, len(pairs) * 2.0 ** (1 - many))
    return AcrossDataSets(tuple(map(float, ranks)), p, critical, corrected, least)
