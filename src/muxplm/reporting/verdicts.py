"""Whether what was measured bears out the paper's claims.

Every inequality has two one-sided tests, Student's t over paired differences: that it holds, and that
it fails. Holm's correction covers all of them. A claim is the conjunction of its inequalities.
"""

from math import isnan, nan

import pandas as pd

from muxplm.experiments import Variant, targets
from muxplm.reporting import paper
from muxplm.reporting.cells import Sources
from muxplm.reporting.inequalities import Cited, Claim, Inequality
from muxplm.reporting.quantities import QUANTITIES, NotRun
from muxplm.reporting.statistics import LEVEL, holm, inside, paired
from muxplm.settings import Settings

HOLDS, FAILS = "holds", "does not hold"
UNDECIDED, NOT_RUN = "undecided at this scale", "not run"

NUMBERS = ("ours_left", "ours_right", "difference", "low", "high", "pairs", "p_holds", "p_fails")


def judge(settings: Settings, claims: list[Claim]) -> pd.DataFrame:
    """One row per inequality: the paper's numbers, ours, the tests, `verdict` and `claim_verdict`.

    `low` and `high` bound the mean difference; `p_holds` and `p_fails` are one-sided, and corrected as
    `corrected_holds` and `corrected_fails`. `reason` says why a cell is missing or why there is no
    test. NaN (None for `paper_satisfies`, `ours_satisfies`) where there is nothing.
    """
    sources = {c.target: Sources(c.target, targets()[c.target], settings) for c in claims}
    table = pd.DataFrame(
        _paper(claim, inequality) | _ours(sources[claim.target], inequality)
        for claim in claims
        for inequality in claim.inequalities
    )
    corrected = holm(table[["p_holds", "p_fails"]].to_numpy().ravel()).reshape(-1, 2)
    table["corrected_holds"], table["corrected_fails"] = corrected.T
    table["verdict"] = table.apply(_verdict, axis="columns")
    table["claim_verdict"] = table.groupby("claim")["verdict"].transform(_conjunction)
    return table


def _paper(claim: Claim, inequality: Inequality) -> dict:
    left, right = (
        _printed(claim, inequality, cell) for cell in (inequality.left, inequality.right)
    )
    difference = _difference(inequality, left, right)
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


def _difference(inequality: Inequality, left, right):
    # Rounded, so that what is equal is equal however it was added up.
    return round(left - inequality.times * right, 9)


def _ours(sources: Sources, inequality: Inequality) -> dict:
    repetitions = QUANTITIES[inequality.quantity].repetitions
    row = {"repetitions": repetitions, **dict.fromkeys(NUMBERS, nan), "ours_satisfies": None}
    try:
        left = _measured(sources, inequality, inequality.left)
        right = _measured(sources, inequality, inequality.right) if inequality.right else 0 * left
    except NotRun as reason:
        return row | {"reason": str(reason)}
    differences = _difference(inequality, left, right)
    effect = paired(differences)
    holds, fails = inside(differences, *inequality.bounds) if repetitions else (nan, nan)
    alike = "one pair" if effect.pairs == 1 else "all pairs are alike"
    return row | {
        "ours_left": left.mean(),
        "ours_right": right.mean() if inequality.right else nan,
        "difference": effect.mean,
        "low": effect.low,
        "high": effect.high,
        "pairs": effect.pairs,
        "p_holds": holds,
        "p_fails": fails,
        "ours_satisfies": inequality.true_of(effect.mean),
        "reason": "" if not isnan(holds) else alike if repetitions else "one pre-training",
    }


def _measured(sources: Sources, inequality: Inequality, cell: Variant | Cited) -> pd.Series:
    if isinstance(cell, Cited):
        raise NotRun(f"{cell.name} is the paper's: nothing here measures it")
    if cell not in sources.variants:
        raise NotRun(f"this config does not select {cell.name}")
    return QUANTITIES[inequality.quantity].measure(sources, cell)


def _verdict(row: pd.Series) -> str:
    if pd.isna(row["ours_satisfies"]):
        return NOT_RUN
    if not row["repetitions"]:
        return HOLDS if row["ours_satisfies"] else FAILS
    if row["corrected_holds"] < 1 - LEVEL:
        return HOLDS
    return FAILS if row["corrected_fails"] < 1 - LEVEL else UNDECIDED


def _conjunction(verdicts: pd.Series) -> str:
    """A missing cell outweighs all else, then one failure."""
    return next(v for v in (NOT_RUN, FAILS, UNDECIDED, HOLDS) if verdicts.eq(v).any())
