"""From a variant of the grid to a model: transformers' own class at N = 1, else a multiplexed one."""

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from muxplm import experiments
from muxplm.data.prepare import prefix_token_ids
from muxplm.files import DataError
from muxplm.mistakes import nearest
from muxplm.models.demultiplexers import DEMULTIPLEXERS
from muxplm.models.modeling import MuxForTokenRetrieval
from muxplm.models.multiplexers import MULTIPLEXERS

# The class that each objective trains; multiplexed and plain models share the Auto classes.
CLASSES = {
    "retrieval": MuxForTokenRetrieval,
    "mlm": AutoModelForMaskedLM,
    "rtd": AutoModelForPreTraining,
    "classification": AutoModelForSequenceClassification,
    "regression": AutoModelForSequenceClassification,
    "tagging": AutoModelForTokenClassification,
}


def model_config(settings, variant, tokenizer):
    """The transformers config of a variant.

    DataError if it names a part that is not registered, or if the tokenizer lacks spare ids.
    """
    encoder = _encoder_config(settings, variant, tokenizer)
    if not variant.recipe.multiplexed:
        return AutoConfig.for_model(**encoder)
    check_parts([variant])
    dialect = experiments.DIALECTS[variant.dialect]
    model, prefix = settings.model_of(variant.name), None
    if variant.demultiplexer == "prefix":
        prefix = prefix_token_ids(tokenizer, variant.n)
    return AutoConfig.for_model(
        "muxplm",
        encoder=encoder,
        num_instances=variant.n,
        multiplexer=variant.multiplexer,
        demultiplexer=variant.demultiplexer,
        demultiplexer_layers=model.demultiplexer_layers,
        prefix_token_ids=prefix,
        classifier_dropout=model.dropout,
        pad_token_id=tokenizer.pad_token_id,
        padded_length=settings.max_length if sees_padding(variant) else None,
        **dialect,
    )


def check_parts(variants):
    """DataError if one of them names a part that is not registered."""
    for variant in variants:
        for part, known in (("multiplexer", MULTIPLEXERS), ("demultiplexer", DEMULTIPLEXERS)):
            name = getattr(variant, part)
            if name not in known:
                raise DataError(
                    f"{part} {name!r}, asked for by ablations, is none{nearest(name, known)}"
                )


def sees_padding(variant) -> bool:
    """Whether padding changes what the model says, so that all rows have to be of one length."""
    dialect = experiments.DIALECTS[variant.dialect]
    return dialect.get("dialect") == "released" or dialect.get("masks_padding") is False


def _encoder_config(settings, variant, tokenizer) -> dict:
    shape, model = settings.shapes[variant.size], settings.model_of(variant.name)
    prefix = variant.n if variant.demultiplexer == "prefix" else 0
    config = {
        "model_type": variant.recipe.encoder,
        "vocab_size": len(tokenizer),
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        # A prefix comes on top of the text; it never costs a task its last words.
        "max_position_embeddings": max(settings.max_length, settings.task_length) + prefix,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": model.initializer_range,
    }
    if variant.recipe.encoder == "modernbert":
        special = {"bos": "cls", "cls": "cls", "eos": "sep", "sep": "sep"}
        config |= {f"{k}_token_id": getattr(tokenizer, f"{v}_token_id") for k, v in special.items()}
        # Gradients and logits only at masked positions; its dropouts are off in the original too.
        config |= {"sparse_prediction": True}
    else:
        names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
        config |= dict.fromkeys(names, model.dropout)
    if variant.recipe.encoder == "electra":
        config |= {"embedding_size": shape.embedding or shape.hidden}
    return config


def new_model(objective: str, config):
    """A model with fresh weights, drawn from torch's global generator."""
    cls = CLASSES[objective]
    return cls(config) if objective == "retrieval" else cls.from_config(config)


def load_model(objective: str, folder, **changes):
    """The model saved in `folder`, in float32; `changes` override values of its config.

    Weights that the new head needs and the folder lacks are drawn fresh; the rest must fit. A folder
    that is missing, damaged or of another shape is a DataError.
    """
    try:
        config = AutoConfig.from_pretrained(folder, **changes)
        return CLASSES[objective].from_pretrained(folder, config=config, dtype=torch.float32)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}/model.safetensors cannot be loaded ({reason}): delete the folder and run the "
            "step that makes it again"
        ) from None


def check_vocabulary(model, tokenizer, folder):
    """DataError if the tokenizer gives ids that the model, read from `folder`, has no embedding for."""
    known = model.get_input_embeddings().num_embeddings
    if len(tokenizer) > known:
        raise DataError(
            f"{folder} knows {known} tokens and the tokenizer has {len(tokenizer)}: "
            "use the tokenizer that the model was trained with"
        )
