"""Shapes that are timed and their models, with random weights."""

from random import Random

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
SPARSITY = 0.6  # of the pruned ones
# What is multiplexed otherwise than MUX-BERT, whose keys are fixed and whose demultiplexer is RSA.
CHANGES = {
    "tmux": {"demultiplexer": "prefix"},
    "mux-bert": {},
    "contextual": {"multiplexer": "contextual"},
    "pruned": {},
}
NAMES = {
    "bert": "BERT",
    "tmux": "T-MUX",
    "mux-bert": "MUX-BERT",
    "contextual": "contextual",
    "pruned": f"pruned {SPARSITY:.0%}",
}


def pruned(base: dict, sparsity: float = SPARSITY) -> dict:
    """An encoder of a random structure such as CoFi leaves: `sparsity` of its layers' weights is gone.

    Each layer draws 5 to 9 of 12 heads, and its share of the intermediate dimensions that are left. At
    base size it has 6 to 9 heads and 456 to 1,243 dimensions.
    """
    random, layers = Random(0), range(base["num_hidden_layers"])
    width, heads = base["hidden_size"], base["num_attention_heads"]
    left = [round(random.uniform(5, 9) / 12 * heads) for _ in layers]
    weights = 4 * width * width + 2 * width * base["intermediate_size"]  # of a layer
    between = (1 - sparsity) * weights * len(layers) - sum(left) * 4 * width * width / heads
    shares = [random.uniform(200, 1350) for _ in layers]
    intermediates = [round(between / (2 * width) * share / sum(shares)) for share in shares]
    return base | {"model_type": "pruned-bert", "heads": left, "intermediates": intermediates}


def base_config(n: int, base: dict, family: str = "mux-bert"):
    """Plain BERT at N = 1, else a multiplexed model, MUX-BERT with its defaults unless named."""
    if family == "pruned":
        base = pruned(base)
    if n == 1:
        return AutoConfig.for_model(**base)
    changes = dict(CHANGES[family])
    if changes.get("demultiplexer") == "prefix":
        changes["prefix_token_ids"] = list(range(n + 1))
    dropout = base.get("hidden_dropout_prob", 0.1)
    return AutoConfig.for_model(
        "muxplm", encoder=base, num_instances=n, classifier_dropout=dropout, **changes
    )
