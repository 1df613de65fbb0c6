"""From scores files to the paper's statistics."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import pandas as pd

from muxplm.config import Settings
from muxplm.experiments import Variant
from muxplm.files import DataError, read_json
from muxplm.tasks import TASKS

COLUMNS = ["model", "task", "metric", "training_seed", "composition_seed", "value", "majority"]


def read_result(path) -> dict:
    """The JSON that a step of the DAG wrote; DataError tells how to make it if it is not there."""
    if not Path(path).exists():
        raise DataError(
            f"{path} is missing: make it with `snakemake --cores all {path}` "
            "and the same --configfile"
        )
    return read_json(path)


def read_scores(
    settings: Settings, variants: Iterable[Variant], tasks: Iterable[str]
) -> pd.DataFrame:
    """Every score of `variants` on `tasks` under the config's seeds, one row per number.

    `value` and `majority` (the score of always predicting the most frequent label) are in 0..100.
    Seeds that a file has and the config does not ask for are left out; DataError if one that it
    asks for is not there.
    """
    rows = [
        row
        for variant, task in product(variants, tasks)
        for row in _read(settings, variant.name, task)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _read(settings: Settings, model: str, task: str):
    path = settings.paths.scores(model, task)
    content = read_result(path)
    wanted = set(product(settings.training_seeds, settings.composition_seeds))
    missing = set(wanted)
    for run in content["scores"]:
        seeds = run["training_seed"], run["composition_seed"]
        missing.discard(seeds)
        if TASKS[task].metric not in run["metrics"]:
            raise DataError(f"{path} has no {TASKS[task].metric}: delete it and run again")
        if seeds in wanted:
            for metric, value in run["metrics"].items():
                baseline = content["majority"].get(metric, float("nan"))
                yield model, task, metric, *seeds, 100 * value, 100 * baseline
    if missing:
        raise DataError(
            f"{path} lacks (training seed, composition seed) {sorted(missing)}: "
            "delete it and run again"
        )


def headline(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of each task's own metric, the one that averages are made of."""
    return scores[scores["metric"] == scores["task"].map(lambda task: TASKS[task].metric)]


def aggregate(scores: pd.DataFrame) -> dict:
    """The paper's statistics of one model over the tasks in `scores` (one metric each), in 0..100.

    * `mean`: over tasks, training seeds and composition seeds.
    * `std`: of one task over composition seeds (ddof 0), averaged over training seeds, then over
      tasks. 0 for N = 1, where composition changes nothing.
    * `std_training`: of one task over training seeds (ddof 1, so NaN for a single one) of the mean
      over composition seeds, averaged over tasks.
    * `max`: of one task over all (training seed, composition seed), averaged over tasks. The paper
      has one training seed.
    * `average_std`, `average_std_training`, `average_max`: the same of the average over tasks
      rather than of each task. Luck cancels out between tasks, so these are smaller.
    * `majority`: mean over tasks. `n`: how many (training seed, composition seed) there are.

    That `std` and `max` are taken per task, and ddof, follow from the paper's numbers: see
    docs/paper-inconsistencies.md. Everything is NaN, and n 0, if `scores` is empty; an undefined
    score (NaN) makes `mean` and the maxima NaN rather than being left out.
    """
    seeds = ["training_seed", "composition_seed"]
    runs = scores.pivot(index=seeds, columns="task", values="value")
    by_task = _spread(runs).mean(skipna=False)
    average = runs.mean(axis="columns", skipna=False)
    of_average = _spread(average.to_frame("average")).loc["average"]
    return {
        "mean": average.mean(skipna=False),
        **by_task,
        **of_average.add_prefix("average_"),
        "majority": scores.groupby("task")["majority"].first().mean(skipna=False),
        "n": len(runs),
    }


def _spread(runs: pd.DataFrame) -> pd.DataFrame:
    """The spreads of each column of `runs`; its index is (training seed, composition seed)."""
    by_training = runs.groupby(level="training_seed")
    return pd.DataFrame(
        {
            "std": by_training.std(ddof=0).mean(),
            "std_training": by_training.mean().std(ddof=1),
            "max": runs.max(skipna=False),
        }
    )
