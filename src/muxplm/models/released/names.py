"""The authors' names of tensors and ours.

Each table pairs a name of theirs with a name of ours; `*` stands for the rest of a name, `{k}` for a
number, to which the third entry is added; `A|B` on our side splits the columns of a tensor in two.
"""

OURS, THEIRS = "model.demultiplexer", "demux_module"
FIRST = f"{OURS}.from_key.weight|{OURS}.from_hidden.weight"

COMMON = [("instance_embedding", "model.multiplexer.keys", 0)]
CONTEXTUAL = [
    ("muxing_attention.*", "model.multiplexer.within.*", 0),
    ("muxing_attention_2.*", "model.multiplexer.across.*", 0),
]
BODY = {
    "rsa": [
        (f"{THEIRS}.demux_instance_embedding", f"{OURS}.keys", 0),
        (f"{THEIRS}.dense_1.weight", FIRST, 0),
        (f"{THEIRS}.dense_1.bias", f"{OURS}.from_hidden.bias", 0),
        (f"{THEIRS}.dense_{{k}}.*", f"{OURS}.layers.{{k}}.*", -2),
        (f"{THEIRS}.layer_norm_{{k}}.*", f"{OURS}.norms.{{k}}.*", -1),
        ("demultiplexer.pre_decoder.*", f"{OURS}.pre_decoder.*", 0),
        ("demultiplexer.pre_decoder_layer_norm.*", f"{OURS}.pre_decoder_norm.*", 0),
    ],
    "prefix": [
        ("demultiplexer.dense.weight", FIRST, 0),
        ("demultiplexer.dense.bias", f"{OURS}.from_hidden.bias", 0),
        ("demultiplexer.layer_norm.*", f"{OURS}.norms.0.*", 0),
    ],
    "mlp": [
        (f"demultiplexer.{THEIRS}.dense_{{k}}.*", f"{OURS}.layers.{{k}}.*", 0),
        (f"demultiplexer.{THEIRS}.layer_norm_{{k}}.*", f"{OURS}.norms.{{k}}.*", 0),
    ],
}
RETRIEVAL = {
    "rsa": [
        ("retrieval_head.pre_decoder.*", "lm_head.dense.*", 0),
        ("retrieval_head.pre_decoder_layer_norm.*", "lm_head.norm.*", 0),
    ],
    "prefix": [
        ("retrieval_head.dense.weight", FIRST.replace("model", "lm_head"), 0),
        ("retrieval_head.dense.bias", "lm_head.demultiplexer.from_hidden.bias", 0),
        ("retrieval_head.layer_norm.*", "lm_head.demultiplexer.norms.0.*", 0),
    ],
    "mlp": [
        (f"retrieval_head.{THEIRS}.dense_{{k}}.*", "lm_head.demultiplexer.layers.{k}.*", 0),
        (f"retrieval_head.{THEIRS}.layer_norm_{{k}}.*", "lm_head.demultiplexer.norms.{k}.*", 0),
        ("retrieval_head.dense_pre_vocab.*", "lm_head.dense.*", 0),
        ("retrieval_head.layer_norm_pre_vocab.*", "lm_head.norm.*", 0),
    ],
}
VOCABULARY = [
    ("retrieval_head.decoder.weight", "lm_head.weight", 0),
    ("retrieval_head.decoder.bias", "lm_head.bias", 0),
    ("retrieval_head.bias", "lm_head.bias", 0),  # where it has no alias
]
TASK = [
    ("classifier.*", "classifier.*", 0),
    ("discriminator_predictions.dense.*", "dense.*", 0),
    ("discriminator_predictions.dense_prediction.*", "discriminator.*", 0),
    # T-MUX keeps its classifier inside the demultiplexer.
    ("demultiplexer.dense_before_out_proj.*", "classifier.dense.*", 0),
    ("demultiplexer.layernorm_presoftmax.*", "classifier.norm.*", 0),
    ("demultiplexer.out_proj.*", "classifier.out_proj.*", 0),
    ("demultiplexer.decoder.*", "classifier.*", 0),
]
# Names under which a tensor may stand a second time: checked, then dropped.
ALIASES = [
    (f"demultiplexer.{THEIRS}.*", f"{THEIRS}.*", 0),
    (f"retrieval_head.{THEIRS}.*", f"{THEIRS}.*", 0),
    ("retrieval_head.bias", "retrieval_head.decoder.bias", 0),
    ("demultiplexer.bias", "demultiplexer.decoder.bias", 0),
]
NEEDLESS = "embeddings.position_ids"  # the backbone's: a buffer that transformers 4 saved


def tables(config) -> tuple[list, list]:
    """For a config of ours: names of what its models hold, and names of what only some of them do."""
    held = [*COMMON, (f"{config.encoder.model_type}.*", "model.encoder.*", 0)]
    held += [*BODY[config.demultiplexer], *TASK]
    held += CONTEXTUAL if config.multiplexer == "contextual" else []
    return held, [*RETRIEVAL[config.demultiplexer], *VOCABULARY]
