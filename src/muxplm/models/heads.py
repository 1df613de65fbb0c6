"""Heads: encoded groups to scores over the vocabulary, demultiplexed states to scores over labels.

Shapes as in `modeling`: B groups of N rows, L tokens, H wide, V words; M chosen positions.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init


class LanguageModelHead(nn.Module):
    """Demultiplexed states to scores over the vocabulary; the output matrix is the word embeddings'.

    The embeddings are passed in at each call: owned once, they are saved once.
    """

    def __init__(self, config):
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.embedding_size)
        self.norm = nn.LayerNorm(config.embedding_size)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))

    def draw_weights(self, config):
        init.zeros_(self.bias)

    def forward(self, demultiplexer, encoded, embeddings, where=None):
        """embeddings (V, E) -> (B*N, L, V), or (M, V) at `where`."""
        hidden = demultiplexer(encoded.hidden, encoded.prefix, where)
        return F.linear(self.norm(F.gelu(self.dense(hidden))), embeddings, self.bias)


def classifier(config, of_sequences: bool):
    """Demultiplexed states (..., H) to labels, of whole rows or of each token: one linear layer."""
    return nn.Linear(config.hidden_size, config.num_labels)
