"""Whether what was measured bears out the paper's claims.

A claim is the conjunction of its inequalities. It holds with the largest p of theirs (an intersection
is tested by testing each, uncorrected) and fails with the smallest times their number (Bonferroni).
Holm's correction covers both tests of every testable claim, whatever part of them a config runs.
"""

from math import isnan, nan

import numpy as np
import pandas as pd

from muxplm.experiments import Variant, targets
from muxplm.reporting import paper
from muxplm.reporting.cells import Sources, hardly_learnt
from muxplm.reporting.inequalities import Cited, Claim, Inequality
from muxplm.reporting.quantities import QUANTITIES, ROUNDS, NotRun
from muxplm.reporting.statistics import (
    LEVEL,
    Cells,
    Estimate,
    holm,
    inside,
    over_rounds,
    over_tasks,
)
from muxplm.settings import Settings

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED, NOT_RUN = "undecided at this scale", "not run"
UNREPLICATED = " (unreplicated)"  # after HOLDS and FAILS: a single number, judged as it stands

# (target, quantity, cell) -> what was measured: Cells or rounds (R,), or why nothing was.
Evidence = dict[tuple[str, str, Variant | Cited], "Cells | np.ndarray | NotRun"]


# --- What was measured -----------------------------------------------------------------------------


def collect(settings: Settings, claims: list[Claim]) -> Evidence:
    """Everything that the claims compare, each number read once."""
    found = {}
    for claim in claims:
        sources = Sources(claim.target, targets()[claim.target], settings)
        for inequality in claim.inequalities:
            for key in keys(claim, inequality):
                if key not in found:
                    found[key] = _measured(sources, inequality.quantity, key[-1])
    return found


def keys(claim: Claim, inequality: Inequality) -> list[tuple]:
    """Where the evidence has the left cell and, if there is one, the right."""
    cells = (inequality.left, inequality.right)
    return [(claim.target, inequality.quantity, cell) for cell in cells if cell]


def _measured(
    sources: Sources, quantity: str, cell: Variant | Cited
) -> Cells | np.ndarray | NotRun:
    try:
        if isinstance(cell, Cited):
            raise NotRun(f"{cell.name} is the paper's: nothing here measures it")
        if cell not in sources.variants:
            raise NotRun(f"this config does not select {cell.name}")
        values = QUANTITIES[quantity].measure(sources, cell)
    except NotRun as reason:
        return reason
    if isinstance(values, Cells):
        return values
    return values[0] if QUANTITIES[quantity].repetitions == ROUNDS else Cells.of(values)


def estimate(inequality: Inequality, left, right=None) -> Estimate:
    """left - times x right of measured cells, or of simulated ones with an axis of draws in front."""
    if QUANTITIES[inequality.quantity].repetitions == ROUNDS:
        return over_rounds(left, 0 * left if right is None else right, inequality.times)
    return over_tasks(left, right, inequality.times)


def stacked(estimates: list[Estimate | None], shape: tuple = ()) -> Estimate:
    """One Estimate of arrays (*shape, inequalities); NaN where there is none."""
    nothing = Estimate(nan, nan, nan)
    rows = [vars(one or nothing) for one in estimates]
    return Estimate(
        **{k: np.stack([np.broadcast_to(row[k], shape) for row in rows], -1) for k in vars(nothing)}
    )


# --- The tests -------------------------------------------------------------------------------------


def inequality_tests(claims: list[Claim], found: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """p of each inequality holding, and of its failing: (..., inequalities) each, uncorrected."""
    bounds = [inequality.bounds for claim in claims for inequality in claim.inequalities]
    return inside(found, *np.array(bounds).T)


def claim_tests(claims: list[Claim], holds: np.ndarray, fails: np.ndarray) -> np.ndarray:
    """p of each claim's holding and of its failing, (..., claims, 2), from its inequalities'.

    It can't be shown to hold if one of them has no test; another may still show that it fails.
    """
    found, start = [], 0
    for claim in claims:
        own = slice(start, start := start + len(claim.inequalities))
        smallest = np.fmin.reduce(fails[..., own], axis=-1)  # leaves NaN out
        failing = np.minimum(1.0, len(claim.inequalities) * smallest)
        found.append(np.stack([holds[..., own].max(axis=-1), failing], -1))
    return np.stack(found, -2)


def corrected(claims: list[Claim], p: np.ndarray) -> np.ndarray:
    """Holm over both tests of all testable claims; NaN for the others. (..., claims, 2) as given."""
    family = [i for i, claim in enumerate(claims) if claim.testable]
    result = np.full(p.shape, nan)
    tests = p[..., family, :]
    result[..., family, :] = holm(tests.reshape(*p.shape[:-2], -1)).reshape(tests.shape)
    return result


# --- The table -------------------------------------------------------------------------------------


def judge(claims: list[Claim], evidence: Evidence) -> pd.DataFrame:
    """One row per inequality: the paper's numbers, ours, the tests, and the verdict on its claim.

    `low` and `high` bound the difference; `p_holds` and `p_fails` are one-sided and uncorrected.
    `claim_p_holds` and `claim_p_fails` are corrected for all claims. `unlearnt_left`, `unlearnt_right`:
    whether that score is less than LEARNT points above the majority class. `reason` says why a cell is
    missing or why there is no test. NaN (None for `paper_satisfies`, `ours_satisfies`) where there is
    nothing.
    """
    pairs = [(claim, inequality) for claim in claims for inequality in claim.inequalities]
    found = [_estimated(claim, inequality, evidence) for claim, inequality in pairs]
    everything = stacked([one if isinstance(one, Estimate) else None for one in found])
    p = inequality_tests(claims, everything)
    table = pd.DataFrame(
        _paper(claim, inequality) | _ours(claim, inequality, one, evidence)
        for (claim, inequality), one in zip(pairs, found, strict=True)
    )
    # Rounded, so that what is equal is equal however it was added up.
    table["difference"], table["df"] = everything.value.round(9), everything.df
    table["low"], table["high"] = everything.interval()
    table["p_holds"], table["p_fails"] = p
    of_claims = corrected(claims, claim_tests(claims, *p))
    sizes = [len(claim.inequalities) for claim in claims]
    table["claim_p_holds"], table["claim_p_fails"] = np.repeat(of_claims, sizes, axis=0).T
    verdicts = [
        _verdict(claim, rows, *pair)
        for claim, pair, (_, rows) in zip(
            claims, of_claims, table.groupby("claim", sort=False), strict=True
        )
    ]
    return table.assign(verdict=np.repeat(verdicts, sizes))


def _estimated(claim: Claim, inequality: Inequality, evidence: Evidence) -> Estimate | NotRun:
    samples = [evidence[key] for key in keys(claim, inequality)]
    missing = [sample for sample in samples if isinstance(sample, NotRun)]
    return missing[0] if missing else estimate(inequality, *samples)


def _verdict(claim: Claim, rows: pd.DataFrame, holds: float, fails: float) -> str:
    """One failure outweighs all else, then a missing cell."""
    missing = rows["ours_satisfies"].isna().any()
    if claim.testable:
        if fails < 1 - LEVEL:
            return FAILS
        return NOT_RUN if missing else HOLDS if holds < 1 - LEVEL else UNDECIDED
    if rows["ours_satisfies"].eq(False).any():
        return FAILS + UNREPLICATED
    return NOT_RUN if missing else HOLDS + UNREPLICATED


def _paper(claim: Claim, inequality: Inequality) -> dict:
    left, right = (
        _printed(claim, inequality, cell) for cell in (inequality.left, inequality.right)
    )
    difference = round(left - inequality.times * right, 9)
    return {
        "claim": claim.id,
        "section": claim.section,
        "target": claim.target,
        "inequality": str(inequality),
        "quantity": inequality.quantity,
        "left": inequality.left.name,
        "relation": inequality.relation,
        "margin": inequality.margin,
        "times": inequality.times,
        "right": inequality.right.name if inequality.right else "",
        "paper_left": left,
        "paper_right": right if inequality.right else nan,
        "paper_difference": difference,
        "paper_satisfies": None if isnan(difference) else inequality.true_of(difference),
    }


def _printed(claim: Claim, inequality: Inequality, cell: Variant | Cited | None) -> float:
    if cell is None:
        return 0.0
    if isinstance(cell, Cited):
        column = paper.MEANS[claim.target][inequality.quantity]
        numbers = paper.reference(claim.target).set_index(["Model", "column"])["value"]
        return float(numbers[cell.name, column])
    found = QUANTITIES[inequality.quantity].printed(claim.target, cell)
    return nan if found is None else found


def _ours(claim: Claim, inequality: Inequality, found: Estimate | NotRun, evidence) -> dict:
    repetitions = QUANTITIES[inequality.quantity].repetitions
    row = {"repetitions": repetitions, "ours_left": nan, "ours_right": nan}
    row |= {"unlearnt_left": False, "unlearnt_right": False}
    if isinstance(found, NotRun):
        return row | {"n": 0, "ours_satisfies": None, "reason": str(found)}
    samples = [evidence[key] for key in keys(claim, inequality)]
    levels = [s.means.mean() if isinstance(s, Cells) else np.median(s) for s in samples]
    unlearnt = [
        bool(isinstance(s, Cells) and hardly_learnt(level, s.majority))
        for s, level in zip(samples, levels, strict=True)
    ]
    n = samples[0].seeds if isinstance(samples[0], Cells) else len(samples[0])
    why = (
        ""
        if found.error > 0
        else f"one {repetitions}"
        if n == 1
        else f"all {n} {repetitions}s alike"
    )
    return {
        **row,
        **dict(zip(("ours_left", "ours_right"), levels, strict=False)),
        **dict(zip(("unlearnt_left", "unlearnt_right"), unlearnt, strict=False)),
        "n": n,
        "ours_satisfies": inequality.true_of(round(float(found.value), 9)),
        "reason": why if repetitions else "one pre-training",
    }
