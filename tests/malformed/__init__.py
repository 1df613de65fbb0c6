"""Malformed inputs, as data: what is damaged, what is then typed, and what the refusal has to name.

`test_malformed.py` runs them, a sample of them unless `--every-input` is given (`make test-faults`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """`muxplm COMMAND` in a copy of the world after `damage(folder)`; `named` has to be in what is said.

    named: several names mean any of them.
    """

    title: str
    command: str
    named: tuple[str, ...]
    damage: Callable[[Path], None] = lambda folder: None
