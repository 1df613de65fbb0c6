"""The Pareto frontier of score against throughput (section 5.3, Figure 4)."""

import numpy as np


def frontier(points) -> np.ndarray:
    """How many points of score each (throughput, score) lies below the frontier; 0 on it.

    The frontier is a step function: at a throughput, the best score of all points at least as fast.
    """
    speeds, scores = np.asarray(points, dtype=float).reshape(-1, 2).T
    as_fast = speeds[None] >= speeds[:, None]  # (points, points): is the column as fast as the row?
    return np.where(as_fast, scores, -np.inf).max(axis=1, initial=-np.inf) - scores
