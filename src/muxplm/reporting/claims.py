"""What became of the paper's claims here, on one page: claims.yaml states them."""

from math import isnan

import pandas as pd

from muxplm.experiments import targets
from muxplm.files import DataError, write_text
from muxplm.reporting import captions
from muxplm.reporting.analyses import MEAN_GROUPS
from muxplm.reporting.cells import LEARNT, UNLEARNT
from muxplm.reporting.inequalities import Claim, read_claims
from muxplm.reporting.layout import TO
from muxplm.reporting.pages import render
from muxplm.reporting.power import DRAWS, ENOUGH, needed, noise, power
from muxplm.reporting.quantities import NotRun
from muxplm.reporting.statistics import LEVEL
from muxplm.reporting.verdicts import (
    FAILS,
    HOLDS,
    NOT_RUN,
    UNDECIDED,
    UNREPLICATED,
    Evidence,
    collect,
    judge,
)
from muxplm.settings import Settings

COLOURS = {HOLDS: "#d5ecd9", FAILS: "#f6d5cf", UNDECIDED: "#faeec6", NOT_RUN: "#e4e4e4"}
TITLE = "The paper's claims and what was measured"
PERCENT = f"{100 * LEVEL:g} %"  # of intervals


def write_claims(settings: Settings):
    """The verdicts on all claims: a page as .md and .html, one row per inequality as .csv."""
    claims = read_claims()
    evidence = collect(settings, claims)
    table = judged(claims, evidence)
    write_text(settings.paths.claims("md"), markdown(settings, claims, table))
    write_text(settings.paths.claims("html"), html(settings, claims, table))
    write_text(settings.paths.claims("csv"), table.to_csv(index=False, float_format="%.6g"))


def judged(claims: list[Claim], evidence: Evidence) -> pd.DataFrame:
    """`judge` with, for each claim, its `power` and what it `needs` to be decided ("" if it is)."""
    table = judge(claims, evidence)
    powers = power(claims, table, noise(claims, evidence))
    needs = needed(claims, table, evidence)
    needs = [needs.get(claim, "") for claim in table["claim"]]
    return table.assign(power=table["claim"].map(powers), needs=needs)


def power_table(settings: Settings, seeds: list[int]) -> str:
    """Markdown: the power of each testable claim with so many training seeds, rounds as measured.

    DataError if nothing was measured.
    """
    claims = read_claims()
    evidence = collect(settings, claims)
    if all(isinstance(found, NotRun) for found in evidence.values()):
        raise DataError(f"{settings.results} has nothing that a claim compares: make all first")
    table = judge(claims, evidence)
    columns = {n: power(claims, table, noise(claims, evidence, n)) for n in seeds}
    rows = [
        {"Claim": claim.id, **{f"{n}": _power(columns[n][claim.id]) for n in seeds}}
        for claim in claims
        if claim.testable
    ]
    return _piped(pd.DataFrame(rows))


def markdown(settings: Settings, claims: list[Claim], table: pd.DataFrame) -> str:
    parts = [f"# {TITLE}", *introduction(settings, claims, table)]
    parts.append(_piped(pd.DataFrame(overview(claims, table))))
    for claim, rows in _by_claim(claims, table):
        verdict = f"{where(claim)}. Here: {rows['verdict'].iloc[0]}."
        parts += [f"## {claim.id}", f"{claim.statement} {claim.note}".strip(), verdict]
        parts.append(_piped(pd.DataFrame(shown(row) for _, row in rows.iterrows())))
    return "\n\n".join(parts) + "\n"


def html(settings: Settings, claims: list[Claim], table: pd.DataFrame) -> str:
    return render(
        "claims.html.jinja",
        title=TITLE,
        introduction=introduction(settings, claims, table),
        overview=overview(claims, table),
        claims=[
            (
                claim,
                where(claim),
                rows["verdict"].iloc[0],
                [shown(row) for _, row in rows.iterrows()],
            )
            for claim, rows in _by_claim(claims, table)
        ],
        colours=COLOURS,
    )


def introduction(settings: Settings, claims: list[Claim], table: pd.DataFrame) -> list[str]:
    """The summary; at which scale; how to read the rest."""
    verdicts = table.groupby("claim")["verdict"].first()
    summary = ", ".join(_counted(verdicts, verdict) for verdict in COLOURS)
    ours = sum(claim.ours for claim in claims)
    tests = 2 * sum(claim.testable for claim in claims)
    groups = (
        captions.averaged(group, names, settings.tasks) for group, names in MEAN_GROUPS.items()
    )
    return [
        f"{captions.count(len(claims), 'claim')} ({ours} of them ours about the paper's numbers): "
        f"{summary}.",
        " ".join([captions.scale(settings), *groups]),
        "Scores: means over tasks, which are fixed, of means over composition seeds. Chance is in the "
        "training seeds: a difference's variance is the sum over models and tasks of the variance "
        "between seeds over their number, and Student's t has Satterthwaite's degrees of freedom. "
        "Speed-ups: medians over the rounds of one process, as in the tables; differences are paired by "
        f"round. Intervals: {PERCENT}, not corrected. Every model here was pre-trained once, so no test "
        "covers the luck of pre-training; where the config lists pretraining_seeds, table "
        f"`pretrainings` says how large it is. {UNLEARNT}: less than {LEARNT:g} points above always "
        "answering the most frequent label, so what is compared has hardly been learnt.",
        "Each inequality has two one-sided p, that it holds and that it fails, not corrected. A claim "
        "holds with the largest of the first, since each of its inequalities must, and fails with the "
        "smallest of the second times their number. Its own p, of the likelier side, is corrected by "
        f"Holm's method for both tests of the {tests // 2} claims that repetitions can decide, run or "
        f"not: {tests} tests. It is decided if p < {1 - LEVEL:.2f}. It was not run if a cell is missing "
        "and no other makes it fail. Unreplicated: what one pre-training gives without any interval, "
        "judged as it stands.",
        f"Power: in how many of {DRAWS} simulated pages, with the spreads of seeds and rounds that were "
        "measured here, the verdict is that on the paper's own numbers, were they the truth. Needs: "
        "with how many repetitions an undecided claim would be decided, either way, in "
        f"{100 * ENOUGH:g} % of pages, were the differences measured here the truth.",
    ]


def _counted(verdicts: pd.Series, verdict: str) -> str:
    bare = (verdicts == verdict + UNREPLICATED).sum()
    note = f" ({bare} of them unreplicated)" if bare else ""
    return f"{verdict} {(verdicts == verdict).sum() + bare}{note}"


def overview(claims: list[Claim], table: pd.DataFrame) -> list[dict]:
    return [
        {
            "Claim": claim.id,
            "In short": claim.statement,
            "Where": where(claim),
            "By the paper's numbers": _own(rows["paper_satisfies"]),
            "Here": rows["verdict"].iloc[0],
            "p": _p(rows[["claim_p_holds", "claim_p_fails"]].iloc[0].min()),
            "Power": _power(rows["power"].iloc[0]),
            "Needs": rows["needs"].iloc[0],
        }
        for claim, rows in _by_claim(claims, table)
    ]


def _own(satisfied: pd.Series) -> str:
    """Whether the paper's own numbers satisfy a claim, as far as it prints them."""
    printed = satisfied.dropna().astype(bool)
    if printed.empty:
        return "not printed"
    found = "true" if printed.all() else f"{(~printed).sum()} of {len(printed)} false"
    unknown = len(satisfied) - len(printed)
    return f"{found}, {unknown} not printed" if unknown else found


def shown(row: pd.Series) -> dict:
    """One inequality as the page prints it."""
    return {
        "Inequality": row["inequality"],
        "Paper": _numbers(row, "paper", ".4g"),
        "True of the paper": _yes_or_no(row["paper_satisfies"]),
        "Ours": _numbers(row, "ours", ".2f"),
        f"Difference ({PERCENT})": _effect(row),
        "True of ours": _yes_or_no(row["ours_satisfies"]),
        "p holds": _p(row["p_holds"]),
        "p fails": _p(row["p_fails"]),
    }


def _yes_or_no(satisfied) -> str:
    return "" if pd.isna(satisfied) else "yes" if satisfied else "no"


def _numbers(row: pd.Series, whose: str, style: str) -> str:
    """One number, or left and right."""
    sides = ("left", "right") if row["right"] else ("left",)
    values = [row[f"{whose}_{side}"] for side in sides]
    marks = [UNLEARNT if whose == "ours" and row[f"unlearnt_{side}"] else "" for side in sides]
    return ", ".join(
        "-" if isnan(value) else format(value, style) + mark
        for value, mark in zip(values, marks, strict=True)
    )


def _effect(row: pd.Series) -> str:
    if pd.isna(row["ours_satisfies"]):
        return f"{NOT_RUN}: {row['reason']}"
    if row["reason"]:
        return f"{row['difference']:+.2f}; no interval: {row['reason']}"
    return f"{row['difference']:+.2f} ({row['low']:+.2f}{TO}{row['high']:+.2f})"


def _p(p: float) -> str:
    return "" if isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def _power(power: float) -> str:
    return "" if isnan(power) else f"{power:.2f}"


def where(claim: Claim) -> str:
    title = targets()[claim.target].title
    number = claim.target.removeprefix("table")
    section = f"Section {claim.section}" if claim.section[0].isdigit() else claim.section
    return f"{section}, {f'Table {number}' if number.isdigit() else title}" + (
        " (the claim is ours)" if claim.ours else ""
    )


def _by_claim(claims: list[Claim], table: pd.DataFrame):
    return ((claim, table[table["claim"] == claim.id]) for claim in claims)


def _piped(rows: pd.DataFrame) -> str:
    rows = rows.replace(r"\|", r"\|", regex=True)  # would end the cell
    return rows.to_markdown(index=False, disable_numparse=True)
