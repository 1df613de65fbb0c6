"""Table `budgets`: the fastest combination within a loss, and what interpolation would have picked."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
from fabricated import fabricate, settings_for

from muxplm.files import read_json
from muxplm.reporting import tables
from muxplm.reporting.budgets import LOSSES, fastest, left_out

CORNERS = {(n, s) for n in (1, 5) for s in (0.0, 0.9)}
PRUNED = {
    "sparsities": [0.6, 0.8],
    "instances": [1, 2, 5],
    "tasks": ["sst2", "qnli"],
    "by": ["cofi", "fisher"],
}


def grid(score, speedup) -> pd.DataFrame:
    """Functions of N and sparsity, in an order that is not the grid's."""
    points = sorted(product((1, 2, 5), (0.0, 0.6, 0.8, 0.9)), key=lambda p: math.sin(7 * sum(p)))
    rows = [(*point, score(*point), speedup(*point)) for point in points]
    names = [f"{n}-{s}" for n, s in points]
    return pd.DataFrame(rows, columns=["N", "sparsity", "score", "speedup"], index=names)


def test_what_is_as_assumed_is_guessed_exactly():
    """A score linear in N and s, a speed-up of powers: all but the corners."""
    table = grid(lambda n, s: 95 - 2 * n - 10 * s, lambda n, s: n**0.9 * (1 - s) ** -0.8)
    found = left_out(table)
    for (name, guess), (_, row) in zip(found.iterrows(), table.iterrows(), strict=True):
        if (row["N"], row["sparsity"]) in CORNERS:
            assert guess.isna().all(), name
        else:
            assert list(guess) == pytest.approx([row["score"], row["speedup"]]), name


def test_nothing_of_itself_is_in_a_guess():
    table = grid(lambda n, s: 95 - 2 * n - 10 * s, lambda n, s: n / (1 - s))
    before = left_out(table)
    table.loc["2-0.6", ["score", "speedup"]] = (10.0, 100.0)
    after = left_out(table)
    assert list(after.loc["2-0.6"]) == list(before.loc["2-0.6"])
    assert after.at["2-0.8", "score"] < before.at["2-0.8", "score"]  # its neighbour sees it


def test_a_grid_of_corners_gives_no_guess():
    table = grid(lambda n, s: 90.0, lambda n, s: n / (1 - s))
    corners = table[table["N"].isin([1, 5]) & table["sparsity"].isin([0.0, 0.9])]
    assert left_out(corners).isna().all(axis=None)


def test_the_fastest_that_is_good_enough():
    table = grid(lambda n, s: 100 - n - 10 * s, lambda n, s: n / (1 - s))
    assert fastest(table, 100) is None
    assert fastest(table, 99) == "1-0.0"  # at the floor is within it
    assert fastest(table, 0) == "5-0.9"
    assert fastest(table, 89) == "2-0.9"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    settings = settings_for(tmp_path_factory.mktemp("budgets"), sizes=["base"], pruned=PRUNED)
    fabricate(settings, "budgets")
    tables.build("budgets", settings)
    return settings


def measured(settings, model: str, task: str) -> tuple[float, float]:
    """(score, speed-up) from the results themselves."""
    runs = read_json(settings.paths.scores(model, task))["scores"]
    score = 100 * np.mean([run["metrics"]["accuracy"] for run in runs])
    timed = read_json(settings.paths.throughput("pruned"))["models"]
    return score, timed[model]["speedup"]["median"]


def test_each_row_by_hand(world):
    table = pd.read_csv(world.paths.table("budgets", "csv"))
    wanted = set(product(PRUNED["tasks"], PRUNED["by"], LOSSES))
    assert {*zip(table["task"], table["by"], table["loss_allowed"], strict=True)} == wanted
    whole = ["bert-base", "mux-bert-base-n2", "mux-bert-base-n5"]
    others = ["mux-bert-base-n10"]  # which is not pruned
    for _, row in table.iterrows():
        names = [*whole, *others, *(f"{name}-{row['by']}{s}" for name in whole for s in (0.6, 0.8))]
        points = {name: measured(world, name, row["task"]) for name in names}
        plain, _ = points["bert-base"]
        within = {name: p for name, p in points.items() if plain - p[0] <= row["loss_allowed"]}
        best = max(within, key=lambda name: within[name][1])
        assert row["best"] == best
        assert row["best_speedup"] == pytest.approx(points[best][1], rel=1e-4)
        assert row["best_loss"] == pytest.approx(plain - points[best][0], abs=1e-3)
        score, speed = points[row["pick"]]
        assert row["pick_loss"] == pytest.approx(plain - score, abs=1e-3)
        assert row["regret"] == pytest.approx(points[best][1] / speed, rel=1e-4)
        assert row["guessed"] == 6  # of ten, four are corners
        assert row["score_error"] > 0 and row["speedup_error"] > 0


def test_the_page_says_what_interpolation_missed(world):
    text = world.paths.table("budgets", "md")
    with open(text) as file:
        page = file.read()
    assert "Left out, scores are missed by" in page and "CoFi" in page and "SST-2" in page


def test_two_by_two_interpolates_nothing(tmp_path):
    pruned = PRUNED | {"sparsities": [0.6], "instances": [1, 2], "by": ["cofi"]}
    settings = settings_for(tmp_path, sizes=["base"], instances=[1, 2], pruned=pruned)
    fabricate(settings, "budgets")
    tables.build("budgets", settings)
    table = pd.read_csv(settings.paths.table("budgets", "csv"))
    assert table["pick"].isna().all() and table["best"].notna().all()
    with open(settings.paths.table("budgets", "md")) as file:
        assert "none is interpolated" in file.read()
