"""Demultiplexers: one encoded sequence in, N out. Shapes: B groups, N instances, L tokens, H wide.

Both kinds give every instance a key and run an MLP over [key ; hidden state]. The first linear layer
over a concatenation is the sum of two smaller ones, so its key half is computed once per instance and
its hidden half once per position, instead of both N * L times: the same numbers, several times faster.
"""

import torch
from torch import nn


def layer_norm(config):
    """Over the hidden width; in the released dialect with the encoder's epsilon."""
    eps = {"eps": config.encoder.layer_norm_eps} if config.released else {}
    return nn.LayerNorm(config.hidden_size, **eps)


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
        # Without norms, as in the released dialect, the last layer still has its own.
        kinds = [config.demultiplexer_norms] * (config.demultiplexer_layers - 1) + [True]
        self.norms = nn.ModuleList(
            layer_norm(config) if normed else nn.Identity() for normed in kinds
        )
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

    def instance_keys(self, prefix):
        return self.keys[None]  # (N, H) -> (1, N, H)


class PrefixDemultiplexer(Demultiplexer):
    """The keys are the encoder's outputs at N prefix positions (section 3.1, equation (3))."""

    def instance_keys(self, prefix):
        return prefix  # (B, N, H)


class ReleasedRSADemultiplexer(RSADemultiplexer):
    """RSA as in the authors' checkpoints: what demultiplexes is not what was pre-trained.

    `layers` and `norms` are shared with the retrieval head (`retrieve`). Demultiplexing skips the last
    of them, has dropout where the norms should be, and ends in a layer of its own.
    """

    def __init__(self, config):
        super().__init__(config)
        self.norms = nn.ModuleList(layer_norm(config) for _ in range(config.demultiplexer_layers))
        self.pre_decoder = nn.Linear(config.hidden_size, config.hidden_size)
        self.pre_decoder_norm = layer_norm(config)
        self.dropout = nn.Dropout(config.encoder.hidden_dropout_prob)
        self.normed = config.demultiplexer_norms
        self.skips = config.encoder.model_type != "bert"

    def refine(self, x):
        """(..., H) -> (..., H)."""
        between = self.norms if self.normed else [self.dropout] * len(self.norms)
        x = between[0](x)
        for layer, norm in zip(self.layers[:-1], between[1:-1], strict=True):
            x = norm(self.activation(layer(x))) + x
        return self.pre_decoder_norm(self.activation(self.pre_decoder(x))) + x

    def retrieve(self, hidden, where=None):
        """What the retrieval head reads: BERT's takes two layers without skips, ELECTRA's all."""
        x = self.norms[0](self.combine(hidden, where=where))
        if not self.skips:
            return self.norms[1](self.activation(self.layers[0](x)))
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            x = norm(self.activation(layer(x))) + x
        return x


class MLPDemultiplexer(nn.Module):
    """One MLP per instance, without keys: DataMUX's other demultiplexer, of its T-MUX checkpoints."""

    def __init__(self, config):
        super().__init__()
        hidden, self.num_instances = config.hidden_size, config.num_instances
        self.layers = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(self.num_instances))
        self.norms = nn.ModuleList(layer_norm(config) for _ in range(self.num_instances))
        self.dropout = nn.Dropout(config.encoder.hidden_dropout_prob)
        self.activation = nn.GELU()

    def forward(self, hidden, prefix=None, where=None):
        """As in `Demultiplexer`: hidden (B, L, H) -> (B*N, L, H), or (M, H) at `where`."""
        if where is not None:
            rows, positions = where
            hidden = hidden[rows // self.num_instances, positions]  # (M, H)
        of_instance = [
            norm(self.activation(layer(self.dropout(hidden))))
            for layer, norm in zip(self.layers, self.norms, strict=True)
        ]
        if where is None:
            return torch.stack(of_instance, dim=1).flatten(0, 1)  # N x (B, L, H) -> (B*N, L, H)
        instance = rows % self.num_instances  # row b*N + i -> i
        return torch.stack(of_instance)[instance, torch.arange(len(rows), device=rows.device)]


# By dialect and name.
DEMULTIPLEXERS = {"rsa": RSADemultiplexer, "prefix": PrefixDemultiplexer}
RELEASED_DEMULTIPLEXERS = {
    "rsa": ReleasedRSADemultiplexer,
    "prefix": PrefixDemultiplexer,
    "mlp": MLPDemultiplexer,
}
