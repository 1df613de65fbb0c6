"""Multiplexers: N embedded sequences in, one out. Shapes: B groups, N instances, L tokens, E wide."""

import torch
from torch import nn
from transformers import initialization as init


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

    def draw_weights(self, config):
        init.normal_(self.keys, mean=0.0, std=1.0)  # equation (1): v ~ N(0, I)

    def forward(self, embedded, mask):
        """embedded (B, N, L, E), mask (B, N, L) of 0 and 1 -> (B, L, E). Padding adds nothing."""
        keys = self.keys[:, None] * mask[..., None]  # (N, 1, E) * (B, N, L, 1) -> (B, N, L, E)
        mixed = (embedded * keys.to(embedded.dtype)).sum(dim=1)  # (B, N, L, E) -> (B, L, E)
        return mixed / len(self.keys) ** 0.5


class ContextualMultiplexer(HadamardMultiplexer):
    """Attention within each instance, keys, then attention across instances: equations (4), (5).

    Figure 3: the N contextualised instances are averaged at the end. Word embeddings know no
    positions, so TRANS_ctx gets position embeddings of its own.
    """

    def __init__(self, config):
        super().__init__(config)
        self.positions = nn.Embedding(config.encoder.max_position_embeddings, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size)
        self.within = bert_layer(config)  # TRANS_ctx
        self.across = bert_layer(config)  # TRANS_inst

    def forward(self, embedded, mask):
        """embedded (B, N, L, E), mask (B, N, L) of 0 and 1 -> (B, L, E)."""
        groups, n, length, width = embedded.shape
        rows = self.norm(embedded + self.positions.weight[:length]).flatten(0, 1)  # (B*N, L, E)
        context = masked_layer(self.within, rows, mask.flatten(0, 1))
        context = context.view(groups, n, length, width)  # (B*N, L, E) -> (B, N, L, E)
        keyed = (context * self.keys[:, None]).transpose(1, 2)  # (B, N, L, E) -> (B, L, N, E)
        instances = keyed.flatten(0, 1)  # (B, L, N, E) -> (B*L, N, E): N is the sequence now
        instance_mask = mask.transpose(1, 2).flatten(0, 1)  # (B, N, L) -> (B*L, N)
        mixed = masked_layer(self.across, instances, instance_mask) * instance_mask[..., None]
        return mixed.mean(dim=1).view(groups, length, width)  # (B*L, N, E) -> (B, L, E)


def bert_layer(config):
    """A post-norm Transformer layer over embeddings, with the encoder's heads, width and dropout."""
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


def masked_layer(layer, hidden, mask):
    """One Transformer layer over (rows, length, E) in which nothing attends to masked positions."""
    # Finite, in autocast's bfloat16 too, so that a row of nothing but padding stays finite.
    blocked = max(torch.finfo(hidden.dtype).min, torch.finfo(torch.bfloat16).min)
    bias = (1 - mask[:, None, None, :].to(hidden.dtype)) * blocked
    return layer(hidden, attention_mask=bias)


MULTIPLEXERS = {"hadamard": HadamardMultiplexer, "contextual": ContextualMultiplexer}
