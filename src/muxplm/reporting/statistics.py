"""Intervals and tests, over scipy."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


@dataclass(frozen=True)
class Effect:
    """A mean difference, its confidence interval, and what stands behind them.

    `low` and `high` are NaN, and `p` is NaN, where fewer than two pairs leave no interval.
    """

    mean: float
    low: float
    high: float
    p: float  # two-sided, of the mean being `against`
    pairs: int


def paired(differences, level: float = LEVEL, against: float = 0.0) -> Effect:
    """Student's t over paired differences. All equal: an interval without width, p 0 or 1."""
    values = np.asarray(differences, dtype=float)
    mean = float(values.mean()) if len(values) else float("nan")
    if len(values) < 2:
        return Effect(mean, float("nan"), float("nan"), float("nan"), len(values))
    error = stats.sem(values)
    if error == 0:
        return Effect(mean, mean, mean, float(mean == against), len(values))
    low, high = stats.t.interval(level, len(values) - 1, loc=mean, scale=error)
    p = stats.ttest_1samp(values, against).pvalue
    return Effect(mean, float(low), float(high), float(p), len(values))


def inside(differences, low: float, high: float) -> tuple[float, float]:
    """p of the mean lying between `low` and `high`, and p of it lying outside.

    One-sided Student's t tests against each finite bound. Inside two bounds is two tests that must
    both reject (TOST), so the larger p counts; outside, either may, so twice the smaller. NaN
    where nothing can be tested: fewer than two pairs, or pairs without variance.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2 or np.ptp(values) == 0:
        return float("nan"), float("nan")
    above, below = _one_sided(values, low), _one_sided(values, high)[::-1]
    bounds = np.isfinite([low, high]).sum()
    return max(above[0], below[0]), min(1.0, bounds * min(above[1], below[1]))


def _one_sided(values: np.ndarray, bound: float) -> tuple[float, float]:
    """p of the mean being above `bound`, and of its being below; an infinite one needs no test."""
    if np.isinf(bound):
        return float(bound > 0), float(bound < 0)
    alternatives = ("greater", "less")
    return tuple(
        float(stats.ttest_1samp(values, bound, alternative=a).pvalue) for a in alternatives
    )


def holm(p) -> np.ndarray:
    """Holm's step-down correction: valid for any dependence. A NaN is no test and stays NaN."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)[: np.isfinite(p).sum()]  # NaN are sorted last
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected = np.full(p.shape, np.nan)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return corrected


def components(table: np.ndarray) -> tuple[float, float, float]:
    """Variance of rows, of columns, and the rest, of one number per (row, column).

    Two-way random effects without replication: (mean square - residual mean square) / how many
    numbers each level has. An estimate below 0 counts as 0. NaN where an axis has fewer than two
    levels.
    """
    rows, columns = table.shape
    if rows < 2 or columns < 2:
        return (float("nan"),) * 3
    grand = table.mean()
    row_means, column_means = table.mean(axis=1), table.mean(axis=0)
    rest = table - row_means[:, None] - column_means[None] + grand
    residual = (rest**2).sum() / ((rows - 1) * (columns - 1))
    of_rows = (row_means.var(ddof=1) * columns - residual) / columns
    of_columns = (column_means.var(ddof=1) * rows - residual) / rows
    return max(0.0, of_rows), max(0.0, of_columns), residual
