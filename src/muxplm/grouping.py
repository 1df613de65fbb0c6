"""Which rows share a pass of the encoder: the one place where that is decided.

A model takes the rows of a batch N at a time, in the order they stand in, and completes the last group
with the group's own rows. So whoever orders the rows decides the composition, and the size of batches
changes nothing as long as they hold whole groups.
"""

import torch


def shuffled(count: int, seed: int) -> torch.Tensor:
    """The numbers below `count` in the order of a composition seed."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def duplicated(rows: int, copies: int, seed: int) -> torch.Tensor:
    """Each row number `copies` times, (rows * copies,), permuted by the composition seed.

    Appendix D.1: in order, a group would hold one row N times, which no model was trained on.
    """
    each = torch.arange(rows).repeat_interleave(copies)
    return each[shuffled(len(each), seed)]


def whole_groups(batch_size: int, instances: int) -> int:
    """The next batch size that holds whole groups of N = `instances` rows."""
    return -(-batch_size // instances) * instances
