"""Multiplexers: N embedded sequences in, one out. Shapes: B groups, N instances, L tokens, E wide."""

import torch
from torch import nn


class HadamardMultiplexer(nn.Module):
    """Sum over instances of embedding * key, equations (1) and (2), scaled by 1 / sqrt(N).

    Equation (1) scales by 1 / N, but then the mixture shrinks as N grows, next to the position
    embeddings that the encoder adds: at N = 10, 19 % of tokens were retrieved after 600 steps of
    priming against 96 % with 1 / sqrt(N), which keeps the variance of a single embedding.

    The keys are drawn once from N(0, I) and never trained, hence a buffer: a parameter that does not
    require gradients would come back trainable from `from_pretrained`.
    """

    def __init__(self, config):
        super().__init__()
        keys = torch.empty(config.num_instances, config.embedding_size)
        self.register_buffer("keys", keys)  # (N, E)
        self.masks_padding = config.masks_padding
        self.scale = len(keys) if config.released else len(keys) ** 0.5

    def forward(self, embedded, mask):
        """embedded (B, N, L, E), mask (B, N, L) of 0 and 1 -> (B, L, E). Padding adds nothing."""
        keys = self.keys[:, None]  # (N, 1, E)
        if self.masks_padding:
            keys = keys * mask[..., None]  # (N, 1, E) * (B, N, L, 1) -> (B, N, L, E)
        mixed = (embedded * keys.to(embedded.dtype)).sum(dim=1)  # (B, N, L, E) -> (B, L, E)
        return mixed / self.scale


class ContextualMultiplexer(HadamardMultiplexer):
    """Attention within each instance, keys, then attention across instances: equations (4), (5).

    Figure 3: the N contextualised instances are averaged at the end. Word embeddings know no
    positions, so TRANS_ctx gets position embeddings of its own.
    """

    def __init__(self, config):
        super().__init__(config)
        self.positions = nn.Embedding(config.encoder.max_position_embeddings, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size)
        self.within = _bert_layer(config)  # TRANS_ctx
        self.across = _bert_layer(config)  # TRANS_inst

    def forward(self, embedded, mask):
        """embedded (B, N, L, E), mask (B, N, L) of 0 and 1 -> (B, L, E)."""
        groups, n, length, width = embedded.shape
        rows = self.norm(embedded + self.positions.weight[:length]).flatten(0, 1)  # (B*N, L, E)
        context = _layer(self.within, rows, mask.flatten(0, 1))
        context = context.view(groups, n, length, width)  # (B*N, L, E) -> (B, N, L, E)
        keyed = (context * self.keys[:, None]).transpose(1, 2)  # (B, N, L, E) -> (B, L, N, E)
        instances = keyed.flatten(0, 1)  # (B, L, N, E) -> (B*L, N, E): N is the sequence now
        instance_mask = mask.transpose(1, 2).flatten(0, 1)  # (B, N, L) -> (B*L, N)
        mixed = _layer(self.across, instances, instance_mask) * instance_mask[..., None]
        return mixed.mean(dim=1).view(groups, length, width)  # (B*L, N, E) -> (B, L, E)


class ReleasedContextualMultiplexer(HadamardMultiplexer):
    """Contextual multiplexing as in the authors' checkpoints, over the encoder's complete embeddings.

    Each layer's input is added to its output; `masks_instances` (the classification head alone sets it)
    says whether instances of which only padding is left are kept from the attention across instances.
    """

    masks_instances = False

    def __init__(self, config):
        super().__init__(config)
        self.within, self.across = _bert_layer(config), _bert_layer(config)

    def forward(self, embedded, mask):
        """embedded (B, N, L, E), mask (B, N, L) of 0 and 1 -> (B, L, E)."""
        groups, n, length, width = embedded.shape
        rows = embedded.flatten(0, 1)  # (B, N, L, E) -> (B*N, L, E)
        context = _layer(self.within, rows, mask.flatten(0, 1)) + rows
        context = context.view(groups, n, length, width)  # (B*N, L, E) -> (B, N, L, E)
        keyed = (context * self.keys[:, None]).transpose(1, 2)  # (B, N, L, E) -> (B, L, N, E)
        instances = keyed.flatten(0, 1)  # (B, L, N, E) -> (B*L, N, E): N is the sequence now
        seen = mask.transpose(1, 2).flatten(0, 1)  # (B, N, L) -> (B*L, N)
        seen = seen if self.masks_instances else torch.ones_like(seen)
        mixed = _layer(self.across, instances, seen) + instances
        return mixed.mean(dim=1).view(groups, length, width)  # (B*L, N, E) -> (B, L, E)


def _bert_layer(config):
    # Imported late: transformers may be importing its BERT when this module is registered.
    from transformers import BertConfig
    from transformers.models.bert.modeling_bert import BertLayer

    dropouts = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    return BertLayer(
        BertConfig(
            hidden_size=config.embedding_size,
            num_attention_heads=config.encoder.num_attention_heads,
            intermediate_size=config.encoder.intermediate_size,
            **{name: getattr(config.encoder, name, 0.0) for name in dropouts},
            hidden_act=getattr(config.encoder, "hidden_act", "gelu"),
            layer_norm_eps=getattr(config.encoder, "layer_norm_eps", 1e-12),
            attn_implementation="sdpa",
        )
    )


def _layer(layer, hidden, mask):
    """One Transformer layer over (rows, length, E) in which nothing attends to masked positions."""
    blocked = torch.finfo(hidden.dtype).min  # finite: a row of nothing but padding stays finite too
    bias = (1 - mask[:, None, None, :].to(hidden.dtype)) * blocked
    return layer(hidden, attention_mask=bias)


MULTIPLEXERS = {"hadamard": HadamardMultiplexer, "contextual": ContextualMultiplexer}
RELEASED_MULTIPLEXERS = {
    "hadamard": HadamardMultiplexer,
    "contextual": ReleasedContextualMultiplexer,
}
