"""The authors' config.json as a class and a config of ours."""

import re
from math import inf

from transformers import AutoConfig
from transformers.activations import ACT2FN
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from muxplm.files import DataError
from muxplm.mistakes import nearest
from muxplm.models.configuration import MuxConfig
from muxplm.models.modeling import (
    MuxForMaskedLM,
    MuxForPreTraining,
    MuxForSequenceClassification,
    MuxForTokenClassification,
)
from muxplm.models.released.names import THEIRS

# What the name of their class, as `architectures` has it, contains.
CLASSES = {
    "MaskedLM": MuxForMaskedLM,
    "PreTraining": MuxForPreTraining,
    "SequenceClassification": MuxForSequenceClassification,
    "TokenClassification": MuxForTokenClassification,
}
MULTIPLEXERS = {
    "gaussian_hadamard": "hadamard",
    "binary_hadamard": "hadamard",  # other keys, which the checkpoint holds
    "gaussian_attention_v2": "contextual",
}
DEMULTIPLEXERS = {"index_pos": "rsa", "index": "prefix", "mlp": "mlp"}

# Of the encoder's config; everything else in their file is no business of the model.
ENCODER_KEYS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("max_position_embeddings", "type_vocab_size", "initializer_range", "layer_norm_eps"),
    *("pad_token_id", "embedding_size"),
)
# What is no size or no share would end in an error far from here, or in none.
SIZES = {
    **dict.fromkeys(("vocab_size", "max_position_embeddings"), 10**7),
    **dict.fromkeys(("hidden_size", "intermediate_size", "embedding_size"), 10**5),
    **dict.fromkeys(("num_hidden_layers", "num_attention_heads", "num_instances"), 1000),
    "type_vocab_size": 1000,
}
SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "layer_norm_eps")
REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")

# Ids that the authors' code spells out: bert-base-uncased's, and roberta-base's for T-MUX.
CLS, PREFIX_PAD = 101, 680
TMUX_CLS, TMUX_PREFIX_PAD = 49923, 50000
# Tokens of a row, padding included, in pre-training and in fine-tuning; nothing masks the padding.
LENGTHS = {"MaskedLM": 512, "PreTraining": 512}
TASK_LENGTH = 128


def read_config(values: dict, weights: dict, folder) -> tuple[type, MuxConfig]:
    """Our class and config from theirs."""
    where = f"{folder}/config.json"
    starts = {key.split(".")[0] for key in weights}
    families = [family for family in ("bert", "electra", "roberta") if family in starts]
    if len(families) != 1:
        raise DataError(f"{folder}: no tensor is named bert.*, electra.* or roberta.*")
    family = families[0]
    if values.get("model_type") not in (None, family):
        raise DataError(
            f"{where}: model_type is {values['model_type']!r}; the tensors are {family}'s"
        )
    for key in (*REQUIRED, "num_instances", "muxing_variant", "demuxing_variant", "architectures"):
        if values.get(key) in (None, []):
            raise DataError(f"{where} has no {key}")
    _check_numbers(values, where)
    multiplexer = _named(values, "muxing_variant", MULTIPLEXERS, where)
    demultiplexer = _named(values, "demuxing_variant", DEMULTIPLEXERS, where)
    title = str(values["architectures"])
    kinds = [name for name in CLASSES if name in title]
    if not kinds:
        raise DataError(f"{where}: architectures is {title}, which is no model of the authors'")
    if (multiplexer, demultiplexer) == ("contextual", "prefix"):
        raise DataError(f"{where}: contextual multiplexing and a prefix do not go together")
    layers = _layers(weights) if demultiplexer == "rsa" else 1
    if demultiplexer == "rsa" and layers < 2:
        raise DataError(f"{folder}: tensor {THEIRS}.dense_2.weight is missing")
    n, vocabulary = values["num_instances"], values["vocab_size"]
    prefix = _prefix(family, n, vocabulary) if demultiplexer == "prefix" else None
    encoder = _encoder(values, family)
    labels = {k: values[k] for k in ("id2label", "label2id") if values.get(k)}
    model_class = CLASSES[kinds[0]]
    weights_of_losses = values.get("retrieval_loss_coeff", 0.0), values.get("task_loss_coeff", 1.0)
    if any(type(weight) not in (int, float) for weight in weights_of_losses):
        raise DataError(f"{where}: retrieval_loss_coeff and task_loss_coeff have to be numbers")
    retrieval, task = map(float, weights_of_losses)
    if not (0 <= retrieval < inf and 0 <= task < inf):
        raise DataError(f"{where}: retrieval_loss_coeff and task_loss_coeff must not be below 0")
    if model_class is MuxForMaskedLM or not retrieval + task:
        retrieval, task = 0.0, 1.0  # the language-model head is there in any case
    config = AutoConfig.for_model(
        "muxplm",
        dialect="released",
        num_instances=n,
        multiplexer=multiplexer,
        demultiplexer=demultiplexer,
        demultiplexer_layers=layers,
        prefix_token_ids=prefix,
        first_token_id=_first(family, demultiplexer, kinds[0]),
        retrieval_weight=retrieval / (retrieval + task),
        padded_length=_padded_length(encoder, len(prefix or ()), kinds[0]),
        classifier_dropout=float(values.get("hidden_dropout_prob", 0.1)),
        pad_token_id=encoder["pad_token_id"],
        encoder=encoder,
        **labels,
    )
    return model_class, config


def _check_numbers(values, where):
    given = {key: value for key, value in values.items() if value is not None}
    for key, largest in SIZES.items():
        size = given.get(key, 1)
        if type(size) is not int or not 1 <= size <= largest:
            raise DataError(
                f"{where}: {key} is {size!r}, no whole number in 1..{largest}: correct it"
            )
    for key in SHARES:
        share = given.get(key, 0)
        if type(share) not in (int, float) or not 0 <= share <= 1:
            raise DataError(f"{where}: {key} is {share!r}, no number in 0..1: correct it")
    pad, act = given.get("pad_token_id", 0), given.get("hidden_act", "gelu")
    if type(pad) is not int or not 0 <= pad < given["vocab_size"]:
        raise DataError(f"{where}: pad_token_id is {pad!r}, no id of the vocabulary: correct it")
    if act not in list(ACT2FN):
        raise DataError(f"{where}: hidden_act is {act!r}{nearest(act, ACT2FN)}")
    if given["hidden_size"] % given["num_attention_heads"]:
        raise DataError(f"{where}: hidden_size is no multiple of num_attention_heads: correct one")


def _named(values, key, known, where):
    if values[key] not in known:
        raise DataError(f"{where}: {key} is {values[key]!r}{nearest(values[key], known)}")
    return known[values[key]]


def _layers(weights) -> int:
    """D, which their config may contradict: fine-tuning sets it anew."""
    numbers = [re.fullmatch(rf"{THEIRS}\.dense_(\d+)\.weight", key) for key in weights]
    return max((int(found[1]) for found in numbers if found), default=1)


def _prefix(family, n, vocabulary) -> list[int]:
    """Instance i's id, then the padding, then the [CLS] at the prefix's end."""
    if family == "roberta":
        return [*(vocabulary - (i + 2) for i in range(n)), TMUX_PREFIX_PAD, TMUX_CLS]
    return [*(PREFIX_PAD - (i + 2) for i in range(n)), PREFIX_PAD, CLS]


def _first(family, demultiplexer, kind) -> int | None:
    if demultiplexer == "prefix" or (family == "electra" and kind.endswith("Classification")):
        return None
    return TMUX_CLS if family == "roberta" else CLS


def _padded_length(encoder, prefix, kind) -> int:
    """Rows this long, padding included, were trained on; a prefix takes N + 1 positions more."""
    positions = encoder["max_position_embeddings"]
    if encoder["model_type"] == "roberta":
        positions -= encoder["pad_token_id"] + 1  # its first positions are for padding
    return min(LENGTHS.get(kind, TASK_LENGTH), positions - max(0, prefix - 1))


def _encoder(values, family) -> dict:
    given = {key: values[key] for key in ENCODER_KEYS if values.get(key) is not None}
    # What their file leaves out is transformers' default for the family.
    defaults = CONFIG_MAPPING[family]().to_dict()
    return {k: v for k, v in defaults.items() if k in ENCODER_KEYS} | given | {"model_type": family}
