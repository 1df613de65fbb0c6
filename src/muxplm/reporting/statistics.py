"""Intervals and tests, over scipy: its special functions, as scipy.stats takes a second to import."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A difference, its standard error and its degrees of freedom: floats, or arrays of one shape.

    The error is NaN where fewer than two repetitions leave none, and the difference if there is no cell.
    largest_of: so many differences, of which the data chose it.
    """

    value: np.ndarray
    error: np.ndarray
    df: np.ndarray
    largest_of: np.ndarray | int = 1

    def interval(self, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
        """Student's t. Without width where all repetitions are alike."""
        reach = np.where(
            self.error == 0, 0.0, special.stdtrit(self.df, (1 + level) / 2) * self.error
        )
        return self.value - reach, self.value + reach


class Cells(NamedTuple):
    """One model's cells: mean and variance over training seeds, (..., tasks) each; how many seeds.

    largest_of: as an Estimate's. majority: the mean score of always answering the most frequent label;
    NaN where they are no scores.
    """

    means: np.ndarray
    variances: np.ndarray
    seeds: int
    largest_of: int = 1
    majority: float = float("nan")

    @classmethod
    def of(cls, values) -> "Cells":
        """From one score for each task and training seed: (..., tasks, seeds)."""
        values = np.asarray(values, dtype=float)
        seeds = values.shape[-1]
        return cls(values.mean(axis=-1), _variance(values), seeds)

    def below(self, rivals: list["Cells"]) -> "Cells":
        """How far the best of `rivals` is above it, less than 0 if none is; without any, how far 0 is.

        Which is the best was read off the same numbers. So that it holds of each rival, a task's
        variance is the largest of theirs beside its own; so that it fails, `largest_of` counts them.
        """
        if not rivals:
            return self._replace(means=-self.means)
        best = max(rivals, key=lambda rival: rival.means.mean())
        chance = np.max([rival.variances for rival in rivals], axis=0)
        return Cells(best.means - self.means, self.variances + chance, self.seeds, len(rivals))


def over_tasks(left: Cells, right: Cells | None = None, times: float = 1.0) -> Estimate:
    """left - times x right, averaged over tasks; without `right`, of left alone.

    The tasks are fixed: it is a statement about these. So chance is in the training seeds alone: the
    variance is the sum of every cell's (variance / seeds / tasks^2), unpaired, since equal seeds of two
    models have nothing in common; Satterthwaite's degrees of freedom (Welch's, for one task).
    """
    sides = [(left, 1.0)] + ([(right, -times)] if right else [])
    value, variance, squares = 0.0, 0.0, 0.0
    for cells, factor in sides:
        parts = factor**2 * cells.variances / cells.seeds / cells.variances.shape[-1] ** 2
        value = value + factor * cells.means.mean(axis=-1)
        variance = variance + parts.sum(axis=-1)
        squares = squares + (parts**2).sum(axis=-1) / max(1, cells.seeds - 1)
    with np.errstate(invalid="ignore"):  # no variance: no degrees of freedom
        return Estimate(value, np.sqrt(variance), variance**2 / squares, left.largest_of)


def over_rounds(left, right=0.0, times: float = 1.0) -> Estimate:
    """The median over rounds (..., rounds) of left - times x right: paired, as a round times both.

    A median's standard error is sqrt(pi / 2) times that of the mean of as many normal numbers; of few
    numbers it is less, so tests err on the safe side.
    """
    differences = np.asarray(left, dtype=float) - times * np.asarray(right, dtype=float)
    rounds = differences.shape[-1]
    error = np.sqrt(np.pi / 2 * _variance(differences) / rounds)
    return Estimate(np.median(differences, axis=-1), error, np.full(error.shape, rounds - 1.0))


def _variance(values: np.ndarray) -> np.ndarray:
    """Along the last axis (ddof 1): NaN for a single value, exactly 0 for equal ones."""
    if values.shape[-1] < 2:
        return np.full(values.shape[:-1], np.nan)
    return (values - values[..., :1]).var(axis=-1, ddof=1)


def inside(estimate: Estimate, low, high) -> tuple[np.ndarray, np.ndarray]:
    """p of the difference lying between `low` and `high`, and p of it lying outside.

    One-sided Student's t tests against each bound; an infinite one is no test. Inside two bounds is two
    tests that must both reject (TOST), so the larger p counts; outside, either may, so twice the
    smaller. Of several differences the largest is above `high` by luck as often as any of them
    (Bonferroni). NaN where nothing can be tested: no error, or one of 0.
    """
    error = np.where(estimate.error > 0, estimate.error, np.nan)
    above_low, below_low = _one_sided(estimate, error, low)
    above_high, below_high = _one_sided(estimate, error, high)
    bounds = np.isfinite(low).astype(int) + np.isfinite(high)
    holds = np.maximum(above_low, below_high)
    fails = bounds * np.minimum(below_low, estimate.largest_of * above_high)
    return holds, np.minimum(1.0, fails)


def _one_sided(estimate: Estimate, error: np.ndarray, bound):
    """p of the difference being above `bound`, and of its being below."""
    t = (estimate.value - bound) / error
    return special.stdtr(estimate.df, -t), special.stdtr(estimate.df, t)


def holm(p) -> np.ndarray:
    """Holm's step-down correction along the last axis: valid for any dependence.

    A NaN is a test of the family that was not made: it counts as p = 1 and stays NaN.
    """
    p = np.asarray(p, dtype=float)
    made = np.where(np.isnan(p), 1.0, p)
    order = np.argsort(made, axis=-1)
    steps = np.take_along_axis(made, order, -1) * np.arange(p.shape[-1], 0, -1)
    corrected = np.empty_like(made)
    rising = np.minimum(1.0, np.maximum.accumulate(steps, axis=-1))
    np.put_along_axis(corrected, order, rising, axis=-1)
    return np.where(np.isnan(p), np.nan, corrected)


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
