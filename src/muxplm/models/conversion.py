"""The authors' checkpoints as muxplm models: `muxplm convert SOURCE DESTINATION`.

A checkpoint becomes a model of the released dialect (docs/dialects.md) by renaming. Each table pairs a
name of theirs with a name of ours; `*` stands for the rest of a name, `{k}` for a number, to which the
third entry is added; `A|B` on our side splits the columns of a tensor in two.
"""

import re
import shutil
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import StrictDataclassError
from safetensors.torch import load_file
from transformers import AutoConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from muxplm.files import DataError, atomic_folder, read_json
from muxplm.mistakes import nearest
from muxplm.models.configuration import MuxConfig
from muxplm.models.modeling import (
    MuxForMaskedLM,
    MuxForPreTraining,
    MuxForSequenceClassification,
    MuxForTokenClassification,
)

# --- Names of classes, parts and tensors ----------------------------------------------------------

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

# Of the encoder's config; everything else in their file is no business of the model.
ENCODER_KEYS = (
    *("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads"),
    *("intermediate_size", "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob"),
    *("max_position_embeddings", "type_vocab_size", "initializer_range", "layer_norm_eps"),
    *("pad_token_id", "embedding_size"),
)
REQUIRED = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")

# Ids that the authors' code spells out: bert-base-uncased's, and roberta-base's for T-MUX.
CLS, PREFIX_PAD = 101, 680
TMUX_CLS, TMUX_PREFIX_PAD = 49923, 50000
# Tokens of a row, padding included, in pre-training and in fine-tuning; nothing masks the padding.
LENGTHS = {"MaskedLM": 512, "PreTraining": 512}
TASK_LENGTH = 128


# --- Files ----------------------------------------------------------------------------------------


def convert(source: str, destination: str, revision: str | None = None):
    """Writes `destination` (config.json, model.safetensors and the tokenizer's files, if any).

    source: a folder in the authors' layout, or an id of the Hub, which needs a `revision` (a commit).
    Weights are written in float32. Raises DataError, and writes nothing, for a checkpoint that does not
    fit its config to the last tensor.
    """
    if Path(destination).exists():
        raise DataError(f"{destination} exists: delete it or name another folder")
    folder = Path(source) if Path(source).is_dir() else download(source, revision)
    model = converted(folder)
    with atomic_folder(destination) as draft:
        model.save_pretrained(draft)
        copy_tokenizer(folder, draft)
    print(f"{source} -> {destination}: {type(model).__name__}, N = {model.config.num_instances}")


def converted(folder: Path):
    """The model of a folder in the authors' layout, with float32 weights."""
    values, weights = read_json(folder / "config.json"), read_weights(folder)
    try:
        model_class, config = read_config(values, weights, folder)
        model = model_class(config)
    except (StrictDataclassError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, DataError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"{folder}/config.json describes no model ({reason})") from None
    model.load_state_dict(renamed(weights, model, config, folder), strict=True)
    return model


def copy_tokenizer(folder: Path, destination: Path):
    """The tokenizer's files, if `folder` has them."""
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "merges.txt"):
        if (folder / name).exists():
            shutil.copy(folder / name, destination)


def download(name: str, revision: str | None) -> Path:
    """The folder to which a repository of the Hub was downloaded, named after its commit."""
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise DataError(f"{name} is no folder; give one, or an id of the Hub such as owner/model")
    if not revision:
        raise DataError(f"{name} is not pinned: give --revision with a commit of its repository")
    files = ["config.json", "pytorch_model.bin", "model.safetensors", "tokenizer*", "*.txt"]
    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=files))
    except (OSError, ValueError) as error:  # its own errors, and those of the network, are OSErrors
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{name} at {revision} cannot be downloaded: {reason}") from None


def read_weights(folder: Path) -> dict:
    """The checkpoint's tensors, in float32. Nothing in a pickle but tensors is ever loaded."""
    found = [p for n in ("model.safetensors", "pytorch_model.bin") if (p := folder / n).exists()]
    if not found:
        nested = folder / "discriminator"
        hint = f"; its model lies in {nested}" if nested.is_dir() else ""
        raise DataError(f"{folder} has neither model.safetensors nor pytorch_model.bin{hint}")
    try:
        if found[0].suffix == ".safetensors":
            weights = load_file(found[0])
        else:
            weights = torch.load(found[0], map_location="cpu", weights_only=True)
    except Exception as error:  # the bytes of a damaged pickle may raise anything
        reason = " ".join(str(error).split())[:160]
        raise DataError(
            f"{found[0]} holds code or is damaged, and is not converted ({reason})"
        ) from None
    if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
        raise DataError(f"{found[0]} holds something other than named tensors: it is not converted")
    if any(key.startswith("discriminator.") for key in weights):
        raise DataError(f"{found[0]} holds a generator too: convert {folder}/discriminator instead")
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}


# --- Config ---------------------------------------------------------------------------------------


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
    multiplexer = _named(values, "muxing_variant", MULTIPLEXERS, where)
    demultiplexer = _named(values, "demuxing_variant", DEMULTIPLEXERS, where)
    title = values["architectures"][0]
    kinds = [name for name in CLASSES if name in title]
    if not kinds:
        raise DataError(f"{where}: architectures is {title!r}, which is no model of the authors'")
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
    retrieval = float(values.get("retrieval_loss_coeff", 0.0))
    task = float(values.get("task_loss_coeff", 1.0))
    if min(retrieval, task) < 0:
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


# --- Tensors --------------------------------------------------------------------------------------


def renamed(weights: dict, model, config: MuxConfig, folder) -> dict:
    """Their tensors under our names, all of those that `model` has and no other.

    DataError if a tensor is missing, unexpected, of another shape, or unequal to its own alias.
    """
    backbone = config.encoder.model_type
    expected = {name: tensor.shape for name, tensor in model.state_dict().items()}
    table = [*COMMON, (f"{backbone}.*", "model.encoder.*", 0), *BODY[config.demultiplexer], *TASK]
    table += CONTEXTUAL if config.multiplexer == "contextual" else []
    spare = [*RETRIEVAL[config.demultiplexer], *VOCABULARY]  # not every model has use for these
    found = {"model.prefix_ids": model.model.prefix_ids} if config.prefix_length else {}
    words = f"{backbone}.embeddings.word_embeddings.weight"
    for key, tensor in weights.items():
        target = _lookup(key, [*table, *spare])
        if key == f"{backbone}.{NEEDLESS}" or _is_alias(key, weights, folder):
            continue
        if target is None:
            raise DataError(f"{folder}: tensor {key} is unexpected in {_title(model, config)}")
        if target == "lm_head.weight" and backbone == "bert" and words in weights:
            _check_equal(key, words, weights, folder)  # tied, and kept once
            continue
        if not hasattr(model, "lm_head") and _lookup(key, spare):
            continue
        parts = target.split("|")
        halves = tensor.chunk(len(parts), dim=-1) if len(parts) > 1 else [tensor]
        for name, part in zip(parts, halves, strict=True):
            if name not in expected:
                raise DataError(f"{folder}: tensor {key} is unexpected in {_title(model, config)}")
            if part.shape != expected[name]:
                raise DataError(
                    f"{folder}: tensor {key} has shape {tuple(tensor.shape)}, which contradicts "
                    f"config.json: {tuple(expected[name])} would fit for {name}"
                )
            found[name] = part.contiguous()
    if missing := sorted(set(expected) - set(found)):
        key = _theirs(missing[0], [*table, *spare])
        raise DataError(f"{folder}: tensor {key} is missing ({len(missing)} in all)")
    return found


def _lookup(key: str, table) -> str | None:
    """The other name of `key`; None if the table has none."""
    for source, target, offset in table:
        pattern = re.escape(source).replace(r"\{k\}", r"(?P<k>\d+)").replace(r"\*", "(?P<rest>.+)")
        if match := re.fullmatch(pattern, key):
            groups = match.groupdict()
            number = str(int(groups["k"]) + offset) if "k" in groups else ""
            return target.replace("{k}", number).replace("*", groups.get("rest", ""))
    return None


def _theirs(name: str, table) -> str:
    """The tensor of theirs that holds `name` of ours."""
    back = [(part, key, -offset) for key, ours, offset in table for part in ours.split("|")]
    return _lookup(name, back) or name


def _is_alias(key: str, weights: dict, folder) -> bool:
    other = _lookup(key, ALIASES)
    if other not in weights:
        return False
    _check_equal(key, other, weights, folder)
    return True


def _check_equal(key, other, weights, folder):
    if not torch.equal(weights[key], weights[other]):
        raise DataError(f"{folder}: tensors {key} and {other} should be the same and are not")


def _title(model, config) -> str:
    return f"a {config.demultiplexer} {type(model).__name__} over {config.encoder.model_type}"
