"""How often the claims page would decide each claim, by simulation of the whole page.

What chance does is drawn from the spreads that were measured: training seeds from a normal
distribution for each model and task; rounds of a throughput jointly for all models of one process, so
that what slows a round slows all of them. The truth is added to it: the paper's own differences, or
those measured here.
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from muxplm.reporting.inequalities import Claim
from muxplm.reporting.quantities import QUANTITIES, ROUNDS
from muxplm.reporting.statistics import LEVEL, Cells, Estimate
from muxplm.reporting.verdicts import (
    UNDECIDED,
    Evidence,
    claim_tests,
    corrected,
    estimate,
    inequality_tests,
    keys,
    stacked,
)

DRAWS = 1000
ENOUGH = 0.8  # a number of repetitions decides a claim if it does so in this share of draws
NUMBERS = (3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 50, 100)


def noise(
    claims: list[Claim],
    evidence: Evidence,
    seeds: int | None = None,
    rounds: int | None = None,
    draws: int = DRAWS,
) -> Estimate:
    """Estimates (draws, inequalities) of true differences of 0; NaN where a cell is missing.

    seeds, rounds: how many training seeds and rounds; None: as many as were measured.
    """
    random = np.random.default_rng(0)
    drawn, shared = {}, {}
    for key, sample in evidence.items():
        if isinstance(sample, Cells):
            drawn[key] = _seeds(random, sample, seeds or sample.seeds, draws)
        elif QUANTITIES[key[1]].repetitions == ROUNDS and isinstance(sample, np.ndarray):
            size = (draws, rounds or len(sample), len(sample))
            if key[0] not in shared:
                shared[key[0]] = random.standard_normal(size)
            # (draws, rounds) with the covariances, over models, of those measured.
            drawn[key] = shared[key[0]] @ (sample - sample.mean()) / max(1, len(sample) - 1) ** 0.5
    found = []
    for claim in claims:
        for inequality in claim.inequalities:
            own = keys(claim, inequality)
            there = all(key in drawn for key in own)
            found.append(estimate(inequality, *(drawn[key] for key in own)) if there else None)
    return stacked(found, (draws,))


def _seeds(random, cells: Cells, seeds: int, draws: int) -> Cells:
    """Means of 0 and variances (draws, tasks), as those of `seeds` normal scores are distributed."""
    size = (draws, *cells.variances.shape)
    means = random.standard_normal(size) * np.sqrt(cells.variances / seeds)
    free = max(1, seeds - 1)
    variances = cells.variances * random.chisquare(free, size) / free
    if seeds == 1:
        variances = np.full(size, np.nan)
    return cells._replace(means=means, variances=variances, seeds=seeds)


def decisions(claims: list[Claim], chance: Estimate, truth: np.ndarray) -> np.ndarray:
    """Which claims hold, and which fail, in each draw: (draws, claims, 2) of bool."""
    found = replace(chance, value=chance.value + truth)
    p = claim_tests(claims, *inequality_tests(claims, found))
    return corrected(claims, p) < 1 - LEVEL


def power(claims: list[Claim], table: pd.DataFrame, chance: Estimate) -> dict[str, float]:
    """How often each claim comes out as the paper's own numbers have it, were they the truth.

    That is: holds, or does not hold where they do not satisfy it. table: of `judge`. NaN for a claim
    that no test can decide, of which a cell was not measured, or a number is not printed.
    """
    found = decisions(claims, chance, table["paper_difference"].to_numpy()).mean(axis=0)
    known = ~np.isnan(chance.error).all(axis=0) & table["paper_difference"].notna().to_numpy()
    powers = {}
    for claim, (holds, fails) in zip(claims, found, strict=True):
        own = (table["claim"] == claim.id).to_numpy()
        satisfied = table.loc[own, "paper_satisfies"].astype(bool).all()
        able = claim.testable and known[own].all()
        powers[claim.id] = (holds if satisfied else fails) if able else float("nan")
    return powers


def needed(claims: list[Claim], table: pd.DataFrame, evidence: Evidence) -> dict[str, str]:
    """For each undecided claim: how many repetitions would decide it, were ours the truth."""
    verdicts = table.groupby("claim", sort=False)["verdict"].first()
    undecided = set(verdicts.index[verdicts == UNDECIDED])
    single = set(table.loc[table["n"] == 1, "claim"])
    answers = {c.id: f"at least 2 {_repetitions(c)}" for c in claims if c.id in undecided & single}
    truth = table["difference"].to_numpy()
    for number in NUMBERS:
        left = [i for i, claim in enumerate(claims) if claim.id in undecided - {*answers}]
        if not left:
            return answers
        decided = decisions(claims, noise(claims, evidence, number, number), truth).any(axis=-1)
        for i in left:
            if decided[:, i].mean() >= ENOUGH:
                answers[claims[i].id] = f"{number} {_repetitions(claims[i])}"
    rest = [claim for claim in claims if claim.id in undecided - {*answers}]
    return answers | {claim.id: f"over {NUMBERS[-1]} {_repetitions(claim)}" for claim in rest}


def _repetitions(claim: Claim) -> str:
    kinds = {QUANTITIES[inequality.quantity].repetitions for inequality in claim.inequalities}
    return " and ".join(f"{kind}s" for kind in sorted(kinds, reverse=True))
