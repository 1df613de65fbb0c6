"""CoFi (arXiv 2204.00408): masks and weights trained together towards a sparsity, under a teacher.

Heads, intermediate dimensions, and whole attention and feed-forward parts have masks; hidden dimensions
have none. Student and teacher start from the same fine-tuned model, as in PruMUX (arXiv 2305.14706).
Unlike CoFi's code, one sample of the masks serves a whole step.
"""

import torch
from torch import nn

from muxplm.models.masks import Masked, encoder_of, expected_sparsity, sparsity
from muxplm.pruning.distillation import Distilled
from muxplm.pruning.gates import Gates
from muxplm.training.loop import Beside


class CoFi(Distilled, Beside):
    """A student under masks, which is its own `Beside`.

    target: the sparsity. pruning: a `Pruning` section. The loss has l1 (s - t) + l2 (s - t)^2 beside
    the teacher's, s being the expected sparsity; weights and masks make it small, l1 and l2 large.
    """

    def __init__(self, student, teacher, kind: str, target: float, pruning, seed: int):
        super().__init__(student, teacher, kind, pruning.layer_weight)
        self.target, self.pruning = target, pruning
        self.gates = Gates(encoder_of(student).config, seed)
        self.multipliers = nn.Parameter(torch.zeros(2))
        self.hooks = Masked(student)
        self.begin(0, 1)

    def existing(self):
        """Under the masks of this step. A layer is there if one of its parts is (CoFi's issue 53)."""
        kept = self.hooks.masks.kept
        return kept.attention | kept.feed_forward

    def forward(self, input_ids, attention_mask, labels):
        self.hooks.masks = self.gates.sample(self.noise)
        found = super().forward(input_ids, attention_mask, labels)
        over = expected_sparsity(self.gates.probabilities(), self.gates.config) - self.now
        linear, square = self.multipliers
        return {"loss": found["loss"] + linear * over + square * over**2}

    # --- What the training loop asks -----------------------------------------------------------

    def groups(self):
        """AdamW each, at one rate throughout; the multipliers climb."""
        rate = {"lr": self.pruning.mask_learning_rate, "weight_decay": 0.0}
        masks = list(self.gates.parameters())
        return [{"params": masks, **rate}, {"params": [self.multipliers], **rate, "maximize": True}]

    def begin(self, step, steps):
        """The sparsity that is asked for rises linearly to the target, and stays."""
        warmup = self.pruning.sparsity_warmup * steps
        self.now = self.target * min(1.0, step / warmup if warmup else 1.0)
        self.noise = self.gates.noise(step)

    def end(self):
        self.gates.clamp()

    def report(self):
        expected = expected_sparsity(self.gates.probabilities(), self.gates.config)
        actual = sparsity(self.gates.settled(), self.gates.config)
        return {"sparsity": actual, "expected": expected.item(), "asked": self.now}
