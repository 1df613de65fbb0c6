"""Heads of the released dialect. Shapes as in the paper's: B groups, N rows each, L, H, V words."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from muxplm.models.released.demultiplexers import DEMULTIPLEXERS, layer_norm


class ReleasedLanguageModelHead(nn.Module):
    """The authors' retrieval head, which is their masked-LM head too.

    It demultiplexes by itself: with RSA through the demultiplexer's layers, in another way, otherwise
    with a demultiplexer of its own. Only BERT's output matrix is the word embeddings'.
    """

    def __init__(self, config):
        super().__init__()
        hidden, is_bert = config.hidden_size, config.encoder.model_type == "bert"
        rsa = config.demultiplexer == "rsa"
        self.demultiplexer = None if rsa else DEMULTIPLEXERS[config.demultiplexer](config)
        self.dense = None
        if config.demultiplexer != "prefix":
            self.dense, self.norm = nn.Linear(hidden, hidden), layer_norm(config)
        self.skips = rsa and not is_bert
        self.weight = None if is_bert else nn.Parameter(torch.empty(config.vocab_size, hidden))
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def draw_weights(self, config):
        init.zeros_(self.bias)
        if self.weight is not None:
            init.normal_(self.weight, mean=0.0, std=config.initializer_range)

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
    """Demultiplexed states (..., H) to labels: one linear layer for BERT, for some others two."""
    width, last = config.hidden_size, nn.Linear(config.hidden_size, config.num_labels)
    encoder = config.encoder.model_type
    if config.demultiplexer == "mlp":
        extra = {"norm": layer_norm(config)}
    elif of_sequences and encoder == "electra":
        extra = {"dropout": nn.Dropout(config.classifier_dropout)}
    elif of_sequences and encoder == "roberta":
        extra = {}
    else:
        return last
    first = {"dense": nn.Linear(width, width), "activation": nn.GELU()}
    return nn.Sequential(OrderedDict(first | extra, out_proj=last))
