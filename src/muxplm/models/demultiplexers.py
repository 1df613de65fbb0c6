"""Demultiplexers: one encoded sequence in, N out. Shapes: B groups, N instances, L tokens, H wide.

Both kinds give every instance a key and run an MLP over [key ; hidden state]. The first linear layer
over a concatenation is the sum of two smaller ones, so its key half is computed once per instance and
its hidden half once per position, instead of both N * L times: the same numbers, several times faster.
"""

import torch
from torch import nn
from transformers import initialization as init


class Demultiplexer(nn.Module):
    """h_j^i = MLP([key_i ; h_j]), equations (3) and (6); subclasses say what the keys are."""

    def __init__(self, config):
        super().__init__()
        hidden = config.hidden_size
        self.num_instances = config.num_instances
        self.from_key = nn.Linear(hidden, hidden, bias=False)
        self.from_hidden = nn.Linear(hidden, hidden)
        self.layers = nn.ModuleList(
            nn.Linear(hidden, hidden) for _ in range(config.demultiplexer_layers - 1)
        )
        norms = [nn.LayerNorm(hidden) for _ in range(config.demultiplexer_layers)]
        self.norms = nn.ModuleList(norms)
        self.activation = nn.GELU()

    def instance_keys(self, prefix):
        raise NotImplementedError

    def forward(self, hidden, prefix=None, where=None):
        """hidden (B, L, H) -> (B*N, L, H), row b*N + i being instance i of group b.

        prefix: (B, N, H), the encoder's output at the prefix, for the prefix demultiplexer alone.
        where: a pair (rows, positions) of index vectors of length M; only those M states are
        computed, (M, H). A loss over 15 % of the tokens needs no others.
        """
        return self.refine(self.combine(hidden, prefix, where))

    def combine(self, hidden, prefix=None, where=None):
        """The first layer, over [key ; hidden], and its activation: shapes as in `forward`."""
        mixed = self.from_hidden(hidden)  # (B, L, H)
        keys = self.from_key(self.instance_keys(prefix))  # (B or 1, N, H)
        if where is None:
            x = mixed[:, None] + keys[:, :, None]  # (B, 1, L, H) + (B, N, 1, H) -> (B, N, L, H)
            x = x.flatten(0, 1)  # (B, N, L, H) -> (B*N, L, H)
        else:
            rows, positions = where
            group = rows // self.num_instances  # row b*N + i -> b
            instance = rows % self.num_instances  # row b*N + i -> i
            keys = keys.expand(len(hidden), -1, -1)
            x = mixed[group, positions] + keys[group, instance]  # (M, H)
        return self.activation(x)

    def refine(self, x):
        """The other layers, (..., H) -> (..., H)."""
        x = self.norms[0](x)
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            x = norm(self.activation(layer(x))) + x
        return x


class RSADemultiplexer(Demultiplexer):
    """The keys are learned (section 3.2), so they carry over from one training stage to the next."""

    def __init__(self, config):
        super().__init__(config)
        self.keys = nn.Parameter(torch.empty(config.num_instances, config.hidden_size))  # (N, H)

    def draw_weights(self, config):
        init.normal_(self.keys, mean=0.0, std=1.0)

    def instance_keys(self, prefix):
        return self.keys[None]  # (N, H) -> (1, N, H)


class PrefixDemultiplexer(Demultiplexer):
    """The keys are the encoder's outputs at N prefix positions (section 3.1, equation (3))."""

    def instance_keys(self, prefix):
        return prefix  # (B, N, H)


DEMULTIPLEXERS = {"rsa": RSADemultiplexer, "prefix": PrefixDemultiplexer}
