"""Heads: encoded groups to scores over the vocabulary, demultiplexed states to scores over labels.

Shapes as in `modeling`: B groups of N rows, L tokens, H wide, V words; M chosen positions.
"""

import torch
from torch import nn
from torch.nn import functional as F
from transformers import initialization as init

# More logits than these are made a few rows at a time: fewer stay in the cache, and one piece is faster.
MANY_LOGITS = 2**22
CPU_CHUNKS = nn.LinearCrossEntropyOptions(batch_chunk_size=256, acc_policy="accurate")


def mean_cross_entropy(states, matrix, bias, words):
    """Of the right `words` (M,), where states (M, H) are scored by matrix (V, H) and bias (V,).

    In training many logits never exist at once: each piece's gradients are made with its loss. Under
    autocast the loss is then rounded as the logits are.
    """
    device, many = states.device.type, len(states) * len(matrix) > MANY_LOGITS
    if not many or not torch.is_grad_enabled() or torch.compiler.is_compiling():
        return F.cross_entropy(F.linear(states, matrix, bias).float(), words)
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        states, matrix, bias = states.to(dtype), matrix.to(dtype), bias.to(dtype)
    # torch's own choice was measured by its authors on GPUs; it is half as fast on our CPUs.
    chunks = CPU_CHUNKS if device == "cpu" else nn.LinearCrossEntropyOptions()
    return F.linear_cross_entropy(states, matrix, words, linear_bias=bias, options=chunks).float()


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

    def forward(self, states, embeddings, words=None):
        """Demultiplexed states (..., H), embeddings (V, E) -> (..., V).

        Given the right words, (M,) of states (M, H): the mean cross-entropy in the logits' place.
        """
        scored = (self.norm(F.gelu(self.dense(states))), embeddings, self.bias)
        return F.linear(*scored) if words is None else mean_cross_entropy(*scored, words)


def classifier(config, of_sequences: bool):
    """Demultiplexed states (..., H) to labels, of whole rows or of each token: one linear layer."""
    return nn.Linear(config.hidden_size, config.num_labels)
