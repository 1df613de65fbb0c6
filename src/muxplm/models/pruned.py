"""BERT with layers of different sizes, as pruning leaves them: an encoder and its two heads.

A layer may have no attention or no feed-forward part; the residual stream then passes by, and the
LayerNorm after that part is gone with it (CoFi, arXiv 2204.00408). Names of tensors are BERT's.
"""

from torch import nn
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.models.bert.modeling_bert import (
    BertForSequenceClassification,
    BertForTokenClassification,
    BertLayer,
    BertModel,
)

from muxplm.models.configuration import PrunedBertConfig


class NoAttention(nn.Module):
    """In the place of a layer's attention: (B, L, H) -> the same, and no attention weights."""

    def forward(self, hidden_states, *args, **kwargs):
        return hidden_states, None


class NoFeedForward(nn.Module):
    """In the place of a layer's second feed-forward matrix: the residual (B, L, H) alone."""

    def forward(self, hidden_states, input_tensor):
        return input_tensor


def small_layer(config, index: int) -> BertLayer:
    """The layer `index`, of config.heads[index] heads and config.intermediates[index] in between."""
    layer, hidden = BertLayer(config, index), config.hidden_size
    heads, between = config.heads[index], config.intermediates[index]
    if heads:
        attention, width = layer.attention, heads * (hidden // config.num_attention_heads)
        for name in ("query", "key", "value"):
            setattr(attention.self, name, nn.Linear(hidden, width))
        attention.output.dense = nn.Linear(width, hidden)
    else:
        layer.attention = NoAttention()
    if between:
        layer.intermediate.dense = nn.Linear(hidden, between)
        layer.output.dense = nn.Linear(between, hidden)
    else:
        layer.intermediate, layer.output = nn.Identity(), NoFeedForward()
    return layer


class PrunedBertModel(BertModel):
    config_class = PrunedBertConfig

    def __init__(self, config, add_pooling_layer=True):
        super().__init__(config, add_pooling_layer)
        layers = [small_layer(config, index) for index in range(config.num_hidden_layers)]
        self.encoder.layer = nn.ModuleList(layers)
        self.post_init()


class PrunedBertForSequenceClassification(BertForSequenceClassification):
    config_class = PrunedBertConfig

    def __init__(self, config):
        super().__init__(config)
        self.bert = PrunedBertModel(config)
        self.post_init()


class PrunedBertForTokenClassification(BertForTokenClassification):
    config_class = PrunedBertConfig

    def __init__(self, config):
        super().__init__(config)
        self.bert = PrunedBertModel(config, add_pooling_layer=False)
        self.post_init()


AutoModel.register(PrunedBertConfig, PrunedBertModel)
AutoModelForSequenceClassification.register(PrunedBertConfig, PrunedBertForSequenceClassification)
AutoModelForTokenClassification.register(PrunedBertConfig, PrunedBertForTokenClassification)
