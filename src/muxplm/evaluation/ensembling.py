"""Ensembles: a multiplexed model reads each row k times and decides by the mean of its k logits.

Section 5.4 and Appendix D.1: k = N costs as many passes as a plain model. The paper names the models
between, 1 < k < N, and leaves them; they are scored here too. k = 1 is the ordinary score.
"""

from muxplm import files
from muxplm.evaluation.score import (
    describe,
    multiplexed,
    score_orders,
    validation_rows,
)
from muxplm.grouping import duplicated
from muxplm.tasks import TASKS


def write_ensembles(settings, name: str, tasks):
    """One summary per task: every training and composition seed with 1 to N copies of each row.

    Raises DataError for a model of N = 1.
    """
    n = multiplexed(settings, name)
    for task_name in tasks:
        task = TASKS[task_name]
        rows = validation_rows(settings, task)
        orders = [
            ({"composition_seed": seed, "copies": copies}, duplicated(len(rows), copies, seed))
            for seed in settings.composition_seeds
            for copies in range(1, n + 1)
        ]
        runs = score_orders(settings, name, task, rows, orders)
        summary = describe(settings, "ensembles", name, task, rows)
        summary |= {"instances": n, "runs": runs}
        files.write_json(settings.paths.ensembles(name, task_name), summary)
        print(f"ensemble {name} {task_name}: {len(runs)} runs", flush=True)
