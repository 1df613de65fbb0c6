"""Heads: encoded groups to scores over the vocabulary, demultiplexed states to scores over labels.

Shapes as in `modeling`: B groups of N rows, L tokens, H wide, V words; M chosen positions.
"""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from muxplm.models.demultiplexers import RELEASED_DEMULTIPLEXERS, layer_norm


class LanguageModelHead(nn.Module):
    """Demultiplexed states to scores over the vocabulary; the output matrix is the word embeddings'.

    The embeddings are passed in at each call: owned once, they are saved once.
    """

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, demultiplexer, encoded, embeddings, where=None):
        """embeddings (V, E) -> (B*N, L, V), or (M, V) at `where`."""
        hidden = demultiplexer(encoded.hidden, encoded.prefix, where)
        return F.linear(self.norm(F.gelu(self.dense(hidden))), embeddings, self.bias)


class ReleasedLanguageModelHead(nn.Module):
    """The authors' retrieval head, which is their masked-LM head too.

    It demultiplexes by itself: with RSA through the demultiplexer's layers, in another way, otherwise
    with a demultiplexer of its own. Only BERT's output matrix is the word embeddings'.
    """

    def __init__(self, config):
        super().__init__()
        hidden, is_bert = config.hidden_size, config.encoder.model_type == "bert"
        rsa = config.demultiplexer == "rsa"
        self.demultiplexer = None if rsa else RELEASED_DEMULTIPLEXERS[config.demultiplexer](config)
        self.dense = None
        if config.demultiplexer != "prefix":
            self.dense, self.norm = nn.Linear(hidden, hidden), layer_norm(config)
        self.skips = rsa and not is_bert
        self.weight = None if is_bert else nn.Parameter(torch.empty(config.vocab_size, hidden))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def forward(self, demultiplexer, encoded, embeddings, where=None):
        """embeddings (V, E) -> (B*N, L, V), or (M, V) at `where`."""
        if self.demultiplexer is None:
            x = demultiplexer.retrieve(encoded.hidden, where)
        else:
            x = self.demultiplexer(encoded.hidden, encoded.prefix, where)
        if self.dense is not None:
            x = self.norm(F.gelu(self.dense(x))) + (x if self.skips else 0)
        return F.linear(x, embeddings if self.weight is None else self.weight, self.bias)


def classifier(config, of_sequences: bool):
    """Demultiplexed states (..., H) to labels: one linear layer, in some released models two."""
    width, last = config.hidden_size, nn.Linear(config.hidden_size, config.num_labels)
    encoder = config.encoder.model_type
    layers = {"dense": nn.Linear(width, width), "activation": nn.GELU()}
    if config.released and config.demultiplexer == "mlp":
        layers["norm"] = layer_norm(config)
    elif config.released and of_sequences and encoder == "electra":
        layers["dropout"] = nn.Dropout(config.classifier_dropout)
    elif not (config.released and of_sequences and encoder == "roberta"):
        return last
    return nn.Sequential(OrderedDict(layers, out_proj=last))
