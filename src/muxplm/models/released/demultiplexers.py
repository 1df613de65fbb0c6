"""Demultiplexers of the released dialect. Shapes as in the paper's: B groups, N instances, L, H wide."""

import torch
from torch import nn

from muxplm.models.demultiplexers import PrefixDemultiplexer, RSADemultiplexer


def layer_norm(config):
    """Over the hidden width, with the encoder's epsilon."""
    return nn.LayerNorm(config.hidden_size, eps=config.encoder.layer_norm_eps)


class ReleasedRSADemultiplexer(RSADemultiplexer):
    """RSA in which what demultiplexes is not what was pre-trained.

    `layers` and `norms` are shared with the retrieval head (`retrieve`). Demultiplexing skips the last
    of them, has dropout where the norms should be, and ends in a layer of its own.
    """

    def __init__(self, config):
        super().__init__(config)
        self.norms = nn.ModuleList(layer_norm(config) for _ in self.norms)
        self.pre_decoder = nn.Linear(config.hidden_size, config.hidden_size)
        self.pre_decoder_norm = layer_norm(config)
        self.dropout = nn.Dropout(config.encoder.hidden_dropout_prob)
        self.skips = config.encoder.model_type != "bert"

    def refine(self, x):
        """(..., H) -> (..., H)."""
        x = self.dropout(x)
        for layer in self.layers[:-1]:
            x = self.dropout(self.activation(layer(x))) + x
        return self.pre_decoder_norm(self.activation(self.pre_decoder(x))) + x

    def retrieve(self, hidden, where=None):
        """What the retrieval head reads: BERT's takes two layers without skips, ELECTRA's all."""
        x = self.norms[0](self.combine(hidden, where=where))
        if not self.skips:
            return self.norms[1](self.activation(self.layers[0](x)))
        for layer, norm in zip(self.layers, self.norms[1:], strict=True):
            x = norm(self.activation(layer(x))) + x
        return x


class ReleasedPrefixDemultiplexer(PrefixDemultiplexer):
    """The paper's, with the encoder's epsilon; the authors' has one layer."""

    def __init__(self, config):
        super().__init__(config)
        self.norms = nn.ModuleList(layer_norm(config) for _ in self.norms)


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


DEMULTIPLEXERS = {
    "rsa": ReleasedRSADemultiplexer,
    "prefix": ReleasedPrefixDemultiplexer,
    "mlp": MLPDemultiplexer,
}
