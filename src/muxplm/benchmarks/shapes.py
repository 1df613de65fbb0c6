"""Shapes that are timed and their models, with random weights."""

from transformers import AutoConfig

# BERT base, with its own vocabulary: the paper's reference, and the encoder of MUX-BERT base.
BASE = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}


def base_config(n: int, base: dict):
    """Plain BERT at N = 1, else MUX-BERT with its defaults: Hadamard keys and RSA."""
    if n == 1:
        return AutoConfig.for_model(**base)
    dropout = base.get("hidden_dropout_prob", 0.1)
    return AutoConfig.for_model("muxplm", encoder=base, num_instances=n, classifier_dropout=dropout)
