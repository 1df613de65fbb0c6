"""What claims.yaml may say: claims as inequalities over cells, checked against the grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import inf
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from muxplm.experiments import Variant, targets
from muxplm.files import DataError
from muxplm.mistakes import explain, nearest
from muxplm.reporting import paper
from muxplm.reporting.quantities import EVERYTHING, QUANTITIES
from muxplm.sections import FamilyName, Fraction, Positive, Section, SizeName

FILE = Path(__file__).with_name("claims.yaml")
SIGNS = {"more_than": ">", "at_least": "≥", "less_than": "<", "at_most": "≤", "within": "within"}


@dataclass(frozen=True)
class Cited:
    """A row of one of the paper's tables that no variant of the grid measures."""

    name: str


class Cell(Section):
    """Fields of a Variant; those left out are as `for` says, or else Variant's defaults."""

    family: FamilyName = ""
    size: SizeName = "base"
    n: Positive = 1
    multiplexer: str = ""
    demultiplexer: str = ""
    retrieval_rate: Fraction = 0.0
    sparsity: Fraction = 0.0
    cited: str = ""

    def bound(self, values: dict) -> Variant | Cited:
        fields = values | self.model_dump(exclude_unset=True)
        if self.cited:
            return Cited(self.cited)
        if "family" not in fields:
            raise ValueError("a cell has no family: name it in `for`, or left and right")
        return Variant(**fields)


class Shared(Section):
    """Fields of a Variant, several values each."""

    family: list[FamilyName] = []
    size: list[SizeName] = []
    n: list[Positive] = []
    retrieval_rate: list[Fraction] = []

    def combinations(self) -> Iterator[dict]:
        axes = self.model_dump(exclude_unset=True)
        return (dict(zip(axes, values, strict=True)) for values in product(*axes.values()))


@dataclass(frozen=True)
class Inequality:
    """left - times x right stands in `relation` to `margin`; without right it is left alone."""

    quantity: str
    left: Variant | Cited
    relation: str
    margin: float
    times: float
    right: Variant | Cited | None

    @property
    def bounds(self) -> tuple[float, float]:
        if self.relation == "within":
            return -self.margin, self.margin
        up = self.relation in ("more_than", "at_least")
        return (self.margin, inf) if up else (-inf, self.margin)

    def true_of(self, difference: float) -> bool:
        low, high = self.bounds
        if self.relation in ("more_than", "less_than"):
            return low < difference < high
        return low <= difference <= high

    def __str__(self):
        left = f"{QUANTITIES[self.quantity].title}: {self.left.name} {SIGNS[self.relation]}"
        if self.right is None:
            return f"{left} {self.margin:g}"
        right = self.right.name if self.times == 1 else f"{self.times:g} × {self.right.name}"
        if self.relation == "within":
            return f"{left} {self.margin:g} of {right}"
        shift = f" {'+' if self.margin > 0 else '−'} {abs(self.margin):g}" if self.margin else ""
        return f"{left} {right}{shift}"


class Comparison(Section):
    of: list[Literal[tuple(QUANTITIES)]] = Field(min_length=1)
    shared: Shared = Field(Shared(), alias="for")
    left: Cell = Cell()
    more_than: float | None = None
    at_least: float | None = None
    less_than: float | None = None
    at_most: float | None = None
    within: float | None = Field(None, ge=0)
    times: float = 1.0
    right: Cell | None = None

    @model_validator(mode="after")
    def _one_relation(self):
        if len(self._relations()) != 1 or (self.within is not None and self.right is None):
            names = ", ".join(SIGNS)
            raise ValueError(f"give exactly one of {names}, and a right side to be within of")
        self.inequalities()  # finds out a cell without a family
        return self

    def _relations(self) -> dict[str, float]:
        return {name: margin for name in SIGNS if (margin := getattr(self, name)) is not None}

    def inequalities(self) -> list[Inequality]:
        ((relation, margin),) = self._relations().items()
        return [
            Inequality(
                quantity,
                self.left.bound(values),
                relation,
                margin,
                self.times,
                self.right and self.right.bound(values),
            )
            for quantity, values in product(self.of, self.shared.combinations())
        ]


class Claim(Section):
    id: str
    section: str
    target: Literal[tuple(targets())]
    statement: str
    note: str = ""
    ours: bool = False  # about the paper's numbers, but the paper does not say it
    compare: list[Comparison] = Field(min_length=1)

    @cached_property
    def inequalities(self) -> list[Inequality]:
        return [inequality for part in self.compare for inequality in part.inequalities()]

    @property
    def testable(self) -> bool:
        """Whether repetitions can decide it, whatever of them a config has."""
        cells = [cell for i in self.inequalities for cell in (i.left, i.right)]
        repeated = all(QUANTITIES[i.quantity].repetitions for i in self.inequalities)
        return repeated and not any(isinstance(cell, Cited) for cell in cells)

    @model_validator(mode="after")
    def _nothing_twice(self):
        stated = [str(inequality) for inequality in self.inequalities]
        for one in sorted({*stated}):
            if stated.count(one) > 1:
                raise ValueError(f"{one!r} is stated twice")
        return self

    @model_validator(mode="after")
    def _cells_exist(self):
        rows = [variant.name for variant in targets()[self.target].variants(EVERYTHING)]
        cells = [cell for i in self.inequalities for cell in (i.left, i.right) if cell]
        for cell in cells:
            if isinstance(cell, Variant) and cell.name not in rows:
                raise ValueError(
                    f"{cell.name!r} is no row of {self.target}{nearest(cell.name, rows)}"
                )
            if isinstance(cell, Cited):
                cited = list(paper.reference(self.target)["Model"].unique())
                if cell.name not in cited:
                    raise ValueError(f"the paper cites no {cell.name!r}{nearest(cell.name, cited)}")
        return self


def read_claims(path=FILE) -> list[Claim]:
    """The claims, checked; DataError with one line for each mistake."""
    entries, claims, mistakes = yaml.safe_load(Path(path).read_text(encoding="utf-8")), [], []
    for number, entry in enumerate(entries, 1):
        name = entry.get("id", number) if isinstance(entry, dict) else number
        try:
            claims.append(Claim.model_validate(entry))
        except ValidationError as error:
            lines = dict.fromkeys(explain(problem, Claim) for problem in error.errors())
            mistakes += [f"{path}: claim {name}: {line}" for line in lines]
    ids = [claim.id for claim in claims]
    mistakes += [f"{path}: two claims are called {i!r}" for i in sorted({*ids}) if ids.count(i) > 1]
    if mistakes:
        raise DataError("\n".join(mistakes))
    return claims
