"""What became of the paper's claims here, on one page: claims.yaml states them."""

from math import isnan

import pandas as pd

from muxplm.experiments import targets
from muxplm.files import write_text
from muxplm.reporting import captions
from muxplm.reporting.analyses import AVERAGED
from muxplm.reporting.inequalities import Claim, read_claims
from muxplm.reporting.pages import render
from muxplm.reporting.statistics import LEVEL
from muxplm.reporting.verdicts import FAILS, HOLDS, NOT_RUN, UNDECIDED, judge
from muxplm.settings import Settings

COLOURS = {HOLDS: "#d5ecd9", FAILS: "#f6d5cf", UNDECIDED: "#faeec6", NOT_RUN: "#e4e4e4"}
TITLE = "The paper's claims and what was measured"


def write_claims(settings: Settings):
    """The verdicts on all claims: a page as .md and .html, one row per inequality as .csv."""
    claims = read_claims()
    table = judge(settings, claims)
    write_text(settings.paths.claims("md"), markdown(settings, claims, table))
    write_text(settings.paths.claims("html"), html(settings, claims, table))
    write_text(settings.paths.claims("csv"), table.to_csv(index=False, float_format="%.6g"))


def markdown(settings: Settings, claims: list[Claim], table: pd.DataFrame) -> str:
    parts = [f"# {TITLE}", *introduction(settings, table)]
    parts.append(_piped(pd.DataFrame(overview(claims, table))))
    for claim, rows in _by_claim(claims, table):
        parts += [f"## {claim.id}", f"{claim.statement} {claim.note}".strip(), where(claim)]
        parts.append(_piped(pd.DataFrame(shown(row) for _, row in rows.iterrows())))
    return "\n\n".join(parts) + "\n"


def html(settings: Settings, claims: list[Claim], table: pd.DataFrame) -> str:
    return render(
        "claims.html.jinja",
        title=TITLE,
        introduction=introduction(settings, table),
        overview=overview(claims, table),
        claims=[
            (claim, where(claim), [shown(row) for _, row in rows.iterrows()])
            for claim, rows in _by_claim(claims, table)
        ],
        colours=COLOURS,
    )


def introduction(settings: Settings, table: pd.DataFrame) -> list[str]:
    """The summary; at which scale; how to read the rest."""
    counts = table.groupby("claim")["claim_verdict"].first().value_counts()
    summary = ", ".join(f"{verdict} {counts.get(verdict, 0)}" for verdict in COLOURS)
    tests = table[["p_holds", "p_fails"]].notna().sum().sum()
    groups = (captions.averaged(group, names, settings.tasks) for group, names in AVERAGED.items())
    return [
        f"{captions.count(counts.sum(), 'claim')}: {summary}.",
        " ".join([captions.scale(settings), *groups]),
        "Differences are paired: scores over tasks and training seeds, composition seeds averaged out; "
        "speed-ups over the rounds of one process. Intervals: 95 %, Student's t, not corrected. Each "
        "inequality has two one-sided t tests against its margin, that it holds and that it fails; p is "
        "that of the side on which the difference lies, corrected by Holm's method for all "
        f"{tests} tests of this page. Every model was pre-trained once, so no test covers the luck of "
        "pre-training.",
        f"A claim holds if each of its inequalities does (p < {1 - LEVEL:.2f}), does not hold if one "
        "fails, and is undecided otherwise. It was not run if a cell is missing. Unreplicated: what "
        "one pre-training gives without any interval is judged as it stands.",
    ]


def overview(claims: list[Claim], table: pd.DataFrame) -> list[dict]:
    return [
        {
            "Claim": claim.id,
            "In short": claim.statement,
            "Where": where(claim),
            "By the paper's numbers": _own(rows["paper_satisfies"]),
            "Here": _worded(rows["claim_verdict"].iloc[0], rows["repetitions"].eq("").all()),
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
        "Difference (95 %)": _effect(row),
        "p": _p(row["corrected_holds" if row["ours_satisfies"] else "corrected_fails"]),
        "Verdict": _worded(row["verdict"], row["repetitions"] == ""),
    }


def _yes_or_no(satisfied) -> str:
    return "" if pd.isna(satisfied) else "yes" if satisfied else "no"


def _numbers(row: pd.Series, whose: str, style: str) -> str:
    """One number, or left and right."""
    sides = ("left", "right") if row["right"] else ("left",)
    values = [row[f"{whose}_{side}"] for side in sides]
    return ", ".join("-" if isnan(value) else format(value, style) for value in values)


def _effect(row: pd.Series) -> str:
    if row["verdict"] == NOT_RUN:
        return row["reason"]
    if row["reason"]:
        return f"{row['difference']:+.2f}; no interval: {row['reason']}"
    return f"{row['difference']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]"


def _p(p: float) -> str:
    return "" if isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:.2g}"


def _worded(verdict: str, unreplicated: bool) -> str:
    return f"{verdict} (unreplicated)" if unreplicated and verdict in (HOLDS, FAILS) else verdict


def where(claim: Claim) -> str:
    title = targets()[claim.target].title
    number = claim.target.removeprefix("table")
    return f"Section {claim.section}, {f'Table {number}' if number.isdigit() else title}"


def _by_claim(claims: list[Claim], table: pd.DataFrame):
    return ((claim, table[table["claim"] == claim.id]) for claim in claims)


def _piped(rows: pd.DataFrame) -> str:
    rows = rows.replace(r"\|", r"\|", regex=True)  # would end the cell
    return rows.to_markdown(index=False, disable_numparse=True)
