"""Hard concrete masks: Louizos et al. (arXiv 1712.01312), with the constants of CoFi's code.

One parameter, log alpha, for each mask; shapes as in `models.masks`. With u uniform on (0, 1),

    z = clip(1.2 sigmoid((logit(u) + log alpha) / T) - 0.1, 0, 1)
    P(z > 0) = sigmoid(log alpha + T ln 11)
"""

import math
from dataclasses import replace

import torch
from torch import nn

from muxplm.data.collation import uniform
from muxplm.models.masks import Masks, sparsity

TEMPERATURE = 2 / 3
LOW, HIGH = -0.1, 1.1  # what the sigmoid is stretched to
EPSILON = 1e-6
BOUND = math.log(100)  # log alpha is kept within it
SHIFT = TEMPERATURE * math.log(-HIGH / LOW)  # P(z > 0) = sigmoid(log alpha + SHIFT)
# log alpha at the start. CoFi's code has 10, which its first clamping makes BOUND, and for intermediate
# dimensions 0, so that 17 % of them start closed ("mostly a typo", says its author, and harmless).
OPEN, HALF_OPEN = BOUND, 0.0
NOISE = 2  # the key of its random numbers, beside `training.rows`
TOLERANCE = 0.005  # of the target's sparsity


class Gates(nn.Module):
    """log alpha of every mask over an encoder of `config`, a BERT's."""

    def __init__(self, config, seed: int):
        super().__init__()
        self.config, self.seed = config, seed
        drawn = _masks(config, uniform((seed, NOISE), 0, 1, _count(config))[0])
        for name, noise in drawn.tensors().items():
            mean = HALF_OPEN if name == "intermediates" else OPEN
            spread = 0.01 * math.sqrt(2) * torch.erfinv(2 * noise - 1)  # N(0, 0.01)
            setattr(self, name, nn.Parameter((mean + spread).clamp(-BOUND, BOUND)))

    @property
    def log_alpha(self) -> Masks:
        return Masks(self.heads, self.attention, self.intermediates, self.feed_forward)

    def noise(self, step: int) -> Masks:
        """u of one step: the same in every process, and for every part of the step's batch."""
        count = _count(self.config)
        drawn = _masks(self.config, uniform((self.seed, NOISE), 1 + step, 1, count)[0])
        return _each(drawn, lambda u: u.to(self.heads.device))

    def sample(self, noise: Masks) -> Masks:
        """Masks as training sees them; gradients flow to log alpha."""

        def stretched(log_alpha, u):
            s = torch.sigmoid((torch.logit(u, EPSILON) + log_alpha) / TEMPERATURE)
            return (s * (HIGH - LOW) + LOW).clamp(0, 1)

        return _each(self.log_alpha, stretched, noise)

    def probabilities(self) -> Masks:
        """Of each mask not to be 0."""
        return _each(self.log_alpha, _open)

    @torch.no_grad()
    def settled(self, of_units: float = 0.0, of_parts: float = 0.0) -> Masks:
        """Masks without chance. Of each group (a layer's heads, its dimensions, each layer's part) as
        many are 0 as are expected to be, the smallest; the others are sigmoid(1.2 log alpha).

        of_units, of_parts: added to each log alpha where it is decided how many are 0.
        """

        def closed(log_alpha):
            parts = log_alpha.dim() == 1
            groups = log_alpha[:, None] if parts else log_alpha  # (layers, 1 or units)
            p = _open(groups + (of_parts if parts else of_units))
            zeros = (1 - p).sum(dim=1, keepdim=True).round()  # (layers, 1)
            place = groups.argsort(dim=1).argsort(dim=1)
            soft = torch.sigmoid(0.8 * groups / TEMPERATURE)
            return torch.where(place < zeros, 0.0, soft).view_as(log_alpha)

        return _each(self.log_alpha, closed)

    def at_sparsity(self, target: float) -> tuple[Masks, float]:
        """`settled` masks of the target's sparsity, and the shift of units that this takes.

        0 where they have it within TOLERANCE. A training that was long enough needs none; after a short
        one the order in which units were closing decides which others are closed, or opened again. Whole
        parts stay as they are, unless those that are there cannot hold so much.
        """

        def left_over(*shifts):
            return sparsity(self.settled(*shifts), self.config) - target

        if abs(left_over()) <= TOLERANCE:
            return self.settled(), 0.0
        most = 4 * BOUND  # opens everything; the other way round, closes it
        parts = (
            0.0 if left_over(most) <= 0 else _crossing(lambda x: left_over(most, x), 0.0, most)[1]
        )
        ends = _crossing(lambda x: left_over(x, parts), -most, most)
        shift = min(ends, key=lambda x: abs(left_over(x, parts)))
        return self.settled(shift, parts), shift

    @torch.no_grad()
    def clamp(self):
        for parameter in self.parameters():
            parameter.clamp_(-BOUND, BOUND)


def _open(log_alpha):
    return torch.sigmoid(log_alpha + SHIFT).clamp(EPSILON, 1 - EPSILON)


def _crossing(falling, low: float, high: float) -> tuple[float, float]:
    """Two numbers 1e-9 apart or less, between which a falling function comes to 0 or below."""
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return low, high


def _each(masks: Masks, function, *others: Masks) -> Masks:
    named = masks.tensors().items()
    return replace(masks, **{k: function(t, *(getattr(o, k) for o in others)) for k, t in named})


def _count(config) -> int:
    return sum(mask.numel() for mask in Masks.ones(config).tensors().values())


def _masks(config, numbers) -> Masks:
    """A vector of as many numbers as there are masks, in the masks' shapes."""
    left = torch.from_numpy(numbers).float().clamp(EPSILON, 1 - EPSILON)
    found = {}
    for name, mask in Masks.ones(config).tensors().items():
        found[name], left = left[: mask.numel()].view_as(mask), left[mask.numel() :]
    return Masks(**found)
