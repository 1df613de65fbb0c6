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

    def resize(self, words: int):
        """To a vocabulary of `words`; the bias of a new word is 0, as in transformers."""
        self.bias.data = F.pad(self.bias.data, (0, words - len(self.bias)))

    def forward(self, states, embeddings):
        """Demultiplexed states (..., H), embeddings (V, E) -> (..., V)."""
        return F.linear(self.norm(F.gelu(self.dense(states))), embeddings, self.bias)


def classifier(config, of_sequences: bool):
    """Demultiplexed states (..., H) to labels, of whole rows or of each token: one linear layer."""
    return nn.Linear(config.hidden_size, config.num_labels)
