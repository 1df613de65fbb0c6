"""Strategies of putting rows together, which section 6.3 leaves to future work.

The same fine-tuned models read the same rows; only the company that each row keeps is chosen: at random
(the ordinary score), by length, or by how many words the rows of a group share.
"""

from itertools import product

import numpy as np
import torch
from sklearn.preprocessing import MultiLabelBinarizer

from muxplm import files
from muxplm.data.prepare import read_tokenizer
from muxplm.evaluation.score import (
    describe,
    multiplexed,
    score_orders,
    validation_rows,
)
from muxplm.grouping import shuffled
from muxplm.tasks import TASKS

STRATEGIES = ("random", "length", "clustered", "anti-clustered")


def write_compositions(settings, name: str, tasks):
    """One summary per task: every training and composition seed under every strategy.

    Raises DataError for a model of N = 1.
    """
    n, special = multiplexed(settings, name), set(read_tokenizer(settings).all_special_ids)
    for task_name in tasks:
        task = TASKS[task_name]
        rows = validation_rows(settings, task)
        texts = [row["input_ids"] for row in rows]
        orders = [
            (
                {"composition_seed": seed, "strategy": strategy},
                compose(strategy, texts, special, n, seed),
            )
            for seed, strategy in product(settings.composition_seeds, STRATEGIES)
        ]
        runs = score_orders(settings, name, task, rows, orders)
        summary = describe(settings, "compositions", name, task, rows) | {"runs": runs}
        files.write_json(settings.paths.compositions(name, task_name), summary)
        print(f"compose {name} {task_name}: {len(runs)} runs", flush=True)


def compose(strategy: str, texts, special: set[int], n: int, seed: int) -> torch.Tensor:
    """The row numbers in an order in which each N consecutive ones are a group.

    texts: each row's token ids, of which `special` are no words. The seed draws the rows in an order
    of its own, which settles all that the strategy leaves open. The last group may be incomplete.
    """
    drawn = shuffled(len(texts), seed)
    if strategy == "random":
        return drawn
    if strategy == "length":
        return drawn[torch.tensor([len(texts[i]) for i in drawn]).argsort(stable=True)]
    words = [set(texts[i]) - special for i in drawn]
    return drawn[_by_overlap(words, n, most={"clustered": True, "anti-clustered": False}[strategy])]


def _by_overlap(words: list[set[int]], n: int, most: bool) -> list[int]:
    """Greedy groups: the first free row, then the N - 1 free ones of most (or least) overlap with it.

    The overlap of two rows is the Jaccard index of their words. Of equals the first is taken.
    """
    has = MultiLabelBinarizer(sparse_output=True).fit_transform(words)  # (R, V)
    of_word, sizes = has.T.tocsr(), np.diff(has.indptr)  # (V, R), (R,)
    free, order = np.full(len(words), True), []
    for first in range(len(words)):
        if not free[first]:
            continue
        shared = (has[[first]] @ of_word).toarray()[0]  # (1, V) @ (V, R) -> (R,)
        overlap = shared / np.maximum(sizes + sizes[first] - shared, 1)
        wanted = np.where(free, overlap if most else -overlap, -np.inf)
        wanted[first] = np.inf
        for _ in range(min(n, free.sum())):
            order.append(int(wanted.argmax()))
            wanted[order[-1]], free[order[-1]] = -np.inf, False
    return order
