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
_NARROW = {"hidden_size": 512, "num_attention_heads": 8, "intermediate_size": 2048}
SIZES = {"small": BASE | _NARROW | {"num_hidden_layers": 4}, "base": BASE}  # the paper's
# What is multiplexed otherwise than MUX-BERT, whose keys are fixed and whose demultiplexer is RSA.
CHANGES = {
    "tmux": {"demultiplexer": "prefix"},
    "mux-bert": {},
    "contextual": {"multiplexer": "contextual"},
}
NAMES = {"bert": "BERT", "tmux": "T-MUX", "mux-bert": "MUX-BERT", "contextual": "contextual"}


def base_config(n: int, base: dict, family: str = "mux-bert"):
    """Plain BERT at N = 1, else a multiplexed model, MUX-BERT with its defaults unless named."""
    if n == 1:
        return AutoConfig.for_model(**base)
    changes = dict(CHANGES[family])
    if changes.get("demultiplexer") == "prefix":
        changes["prefix_token_ids"] = list(range(n + 1))
    dropout = base.get("hidden_dropout_prob", 0.1)
    return AutoConfig.for_model(
        "muxplm", encoder=base, num_instances=n, classifier_dropout=dropout, **changes
    )
