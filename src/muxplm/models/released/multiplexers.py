"""Multiplexers of the released dialect, of the encoder's complete embeddings: positions, norm and all.

Shapes as in the paper's: B groups, N instances, L tokens, E wide.
"""

import torch
from torch.nn import functional as F
from transformers import initialization as init

from muxplm.models.multiplexers import HadamardMultiplexer, bert_layer, masked_layer


class ReleasedHadamardMultiplexer(HadamardMultiplexer):
    """Keys of length 1, a mean as in equation (1), and padding is mixed like any other token."""

    def draw_weights(self, config):
        super().draw_weights(config)
        init.copy_(self.keys, F.normalize(self.keys, dim=-1))

    def forward(self, embedded, mask):
        """embedded (B, N, L, E) -> (B, L, E)."""
        keys = self.keys[:, None].to(embedded.dtype)  # (N, 1, E)
        return (embedded * keys).sum(dim=1) / len(keys)  # (B, N, L, E) -> (B, L, E)


class ReleasedContextualMultiplexer(ReleasedHadamardMultiplexer):
    """Contextual multiplexing in which each layer's input is added to its output.

    masks_instances: whether instances of which only padding is left are kept from the attention across
    instances. They are for the head that classifies sequences, and for no other.
    """

    masks_instances = False

    def __init__(self, config):
        super().__init__(config)
        self.within, self.across = bert_layer(config), bert_layer(config)

    def forward(self, embedded, mask):
        """embedded (B, N, L, E), mask (B, N, L) of 0 and 1 -> (B, L, E)."""
        groups, n, length, width = embedded.shape
        rows = embedded.flatten(0, 1)  # (B, N, L, E) -> (B*N, L, E)
        context = masked_layer(self.within, rows, mask.flatten(0, 1)) + rows
        context = context.view(groups, n, length, width)  # (B*N, L, E) -> (B, N, L, E)
        keyed = (context * self.keys[:, None]).transpose(1, 2)  # (B, N, L, E) -> (B, L, N, E)
        instances = keyed.flatten(0, 1)  # (B, L, N, E) -> (B*L, N, E): N is the sequence now
        seen = mask.transpose(1, 2).flatten(0, 1)  # (B, N, L) -> (B*L, N)
        seen = seen if self.masks_instances else torch.ones_like(seen)
        mixed = masked_layer(self.across, instances, seen) + instances
        return mixed.mean(dim=1).view(groups, length, width)  # (B*L, N, E) -> (B, L, E)


MULTIPLEXERS = {
    "hadamard": ReleasedHadamardMultiplexer,
    "contextual": ReleasedContextualMultiplexer,
}
