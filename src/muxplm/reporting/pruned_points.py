"""What table `budgets` and figure `frontier` are made of: each whole and pruned model, task by task."""

import pandas as pd

from muxplm.files import as_written
from muxplm.reporting.cells import Sources, single_tasks, throughputs, tidy

DENSE = "not pruned"


def measured_points(sources: Sources) -> pd.DataFrame:
    """A row for each variant, whole or pruned, on each task that models are pruned on.

    Those of a further precision come last: the first precision is the config's own. Where `auto` came to
    one of the further ones, they would say the same twice.
    """
    shown = [task for task in sources.tasks if task in sources.settings.pruned_tasks]
    table = tidy(sources, (single_tasks, throughputs)).set_index(["model", "column"])
    rows = []
    with as_written(sources.settings.paths.throughput(sources.timed)):
        own = sources.throughput["precision"]
    for variant in (v for v in sources.variants if v.precision != own):
        speed = table.loc[(variant.name, "speedup")]
        for task in shown:
            score = table.loc[(variant.name, task)]
            rows.append(
                {
                    "task": task,
                    "model": variant.name,
                    "label": variant.recipe.label,
                    "N": variant.n,
                    "sparsity": variant.sparsity,
                    "by": variant.pruner if variant.sparsity else DENSE,
                    "precision": variant.precision or own,
                    "speedup": speed["measured"],
                    "speedup_low": speed["low"],
                    "speedup_high": speed["high"],
                    "score": score["measured"],
                    "std": score["std"],
                    "std_training": score["std_training"],
                    "bar": score["std"]
                    if pd.isna(score["std_training"])
                    else score["std_training"],
                }
            )
    return pd.DataFrame(rows)
