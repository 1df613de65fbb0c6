"""What a config asks of the grid in `experiments`, as plain data: a tuple for each axis."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PrunedAxes:
    """Which models are pruned: sparsities x N x tasks x how, and in which precisions they are shown."""

    sparsities: tuple[float, ...] = ()
    instances: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()  # beside the config's own


@dataclass(frozen=True)
class Axes:
    """The part of the grid that a config asks for. `released`: only what the authors released."""

    families: tuple[str, ...]
    sizes: tuple[str, ...]
    instances: tuple[int, ...]
    tasks: tuple[str, ...]
    ablations: tuple[dict, ...] = ()  # one's own rows in the ablation tables
    released: bool = False
    dialects: tuple[str, ...] = ()
    pretraining_seeds: tuple[int, ...] = ()
    pruned: PrunedAxes = PrunedAxes()
    without: tuple[str, ...] = ()  # names of variants that no target takes
