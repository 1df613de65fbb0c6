"""From scores files to the paper's statistics."""

from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd

from muxplm.experiments import Variant
from muxplm.files import DataError, as_written, read_json
from muxplm.settings import Settings
from muxplm.tasks import TASKS

COLUMNS = ["model", "task", "metric", "training_seed", "composition_seed", "value", "majority"]


def read_result(path, target=None) -> dict:
    """The JSON that a step of the DAG wrote; DataError tells how to make it if it is not there.

    target: the file to ask Snakemake for, where the DAG does not declare `path` itself.
    """
    if not Path(path).exists():
        raise DataError(
            f"{path} is missing: make it with `snakemake --cores all {target or path}` "
            "and the same --configfile"
        )
    return read_json(path)


def read_scores(
    settings: Settings, variants: Iterable[Variant], tasks: Iterable[str], published: bool = False
) -> pd.DataFrame:
    """Every score of `variants` on `tasks` under the config's seeds, one row per number.

    published: of the models that the authors fine-tuned, under training seed 0.

    `value` and `majority` (the score of always predicting the most frequent label) are in 0..100.
    Seeds that a file has and the config does not ask for are left out; DataError if one that it
    asks for is not there.
    """
    rows = [
        row
        for variant, task in product(variants, tasks)
        if settings.has_cells(variant, task)
        for row in _read(settings, variant.name, task, published)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _read(settings: Settings, model: str, task: str, published: bool):
    path = (settings.paths.published_scores if published else settings.paths.scores)(model, task)
    with as_written(path):
        yield from _of_file(settings, path, model, task, published)


def _of_file(settings: Settings, path: str, model: str, task: str, published: bool):
    content = read_result(path)
    training_seeds = [0] if published else settings.training_seeds
    wanted = set(product(training_seeds, settings.composition_seeds))
    missing = set(wanted)
    for run in content["scores"]:
        seeds = run["training_seed"], run["composition_seed"]
        missing.discard(seeds)
        if TASKS[task].metric not in run["metrics"]:
            raise DataError(f"{path} has no {TASKS[task].metric}: delete it and run again")
        if seeds in wanted:
            for metric, value in run["metrics"].items():
                baseline = content["majority"].get(metric, float("nan"))
                yield model, task, metric, *seeds, 100 * float(value), 100 * float(baseline)
    # MNLI's second validation split, beside the first: metrics of their own, "mismatched/accuracy".
    for part in (key for key in content if key.startswith("validation_")):
        for run in content[part]:
            seeds = run["training_seed"], run["composition_seed"]
            for metric, value in run["metrics"].items() if seeds in wanted else ():
                name = f"{part.removeprefix('validation_')}/{metric}"
                yield model, task, name, *seeds, 100 * value, float("nan")
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
    * `best`, `worst`: the highest and the lowest of one task over composition seeds, averaged over
      training seeds, then over tasks.
    * `average_std`, `average_max` and so on: the same of the average over tasks rather than of each
      task. Luck cancels out between tasks, so these spreads are smaller.
    * `majority`: mean over tasks. `n`: how many (training seed, composition seed) there are.

    That `std` and `max` are taken per task, and ddof, follow from the paper's numbers: see
    docs/paper-inconsistencies.md. Everything is NaN, and n 0, if `scores` is empty; an undefined
    score (NaN) makes `mean` and the maxima NaN rather than being left out.
    """
    axes = [pd.factorize(scores[name]) for name in ("training_seed", "composition_seed", "task")]
    runs = np.full([max(1, len(levels)) for _, levels in axes], np.nan)  # (T, C, tasks)
    runs[tuple(codes for codes, _ in axes)] = scores["value"]
    average = runs.mean(axis=2)  # (T, C, tasks) -> (T, C)
    of_average = _spread(average[:, :, None])
    return {
        "mean": average.mean(),
        **_spread(runs),
        **{f"average_{name}": value for name, value in of_average.items()},
        "majority": scores.groupby("task")["majority"].first().mean(skipna=False),
        "n": len(scores) // max(1, len(axes[2][1])),
    }


def _spread(runs: np.ndarray) -> dict[str, float]:
    """The spreads of each task in `runs` (T, C, tasks), averaged over tasks."""
    of_training = runs.mean(axis=1)  # (T, C, tasks) -> (T, tasks)
    lonely = len(runs) < 2  # no spread over a single training seed
    return {
        # Less its first value: equal scores have a std of exactly 0.
        "std": (runs - runs[:, :1]).std(axis=1).mean(),
        "std_training": np.nan if lonely else of_training.std(axis=0, ddof=1).mean(),
        "max": runs.max(axis=(0, 1)).mean(),
        "best": runs.max(axis=1).mean(),
        "worst": runs.min(axis=1).mean(),
    }
