"""Heads of the released dialect. Shapes as in the paper's: B groups, N rows each, L, H, V words."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

from muxplm.models.heads import mean_cross_entropy
from muxplm.models.released.demultiplexers import DEMULTIPLEXERS, layer_norm


class ReleasedLanguageModelHead(nn.Module):
    """The authors' retrieval head, which is their masked-LM head too.

    What it scores is demultiplexed for it alone (`ReleasedDialect.read_back`): with RSA through the
    demultiplexer's layers, in another way, otherwise by a demultiplexer of its own. Only BERT's output
    matrix is the word embeddings'.
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

    def resize(self, words: int):
        """To a vocabulary of `words`; a new word has the mean of the others' rows, and a bias of 0."""
        self.bias.data = F.pad(self.bias.data, (0, words - len(self.bias)))
        if self.weight is not None:
            rows = self.weight.data
            new = rows.mean(dim=0).expand(max(0, words - len(rows)), -1)
            self.weight.data = torch.cat([rows[:words], new])

    def forward(self, states, embeddings, words=None):
        """Demultiplexed states (..., H), embeddings (V, E) -> (..., V); `words`: as the paper's."""
        if self.dense is not None:
            states = self.norm(F.gelu(self.dense(states))) + (states if self.skips else 0)
        scored = (states, embeddings if self.weight is None else self.weight, self.bias)
        return F.linear(*scored) if words is None else mean_cross_entropy(*scored, words)


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
