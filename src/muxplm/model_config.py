"""From settings and a variant of the grid, of which models/ knows nothing, to a transformers config."""

from itertools import count

from transformers import AutoConfig, PreTrainedTokenizerBase

from muxplm.files import DataError
from muxplm.mistakes import nearest
from muxplm.models.encoding import DIALECTS


def model_config(settings, variant, tokenizer):
    """The transformers config of a variant.

    DataError if it names a part that is not registered, or if the tokenizer lacks spare ids.
    """
    if not variant.recipe.multiplexed:
        return AutoConfig.for_model(**_encoder_config(settings, variant, tokenizer))
    check_parts([variant])
    dialect = DIALECTS[variant.dialect]
    model, prefix = settings.model_of(variant.name), None
    if variant.demultiplexer == "prefix":
        prefix = prefix_token_ids(tokenizer, variant.n)
        prefix += [tokenizer.cls_token_id] * dialect.ends_prefix
    positions = len(prefix) - 1 if prefix else 0  # one of the ids is the padding between the others
    return AutoConfig.for_model(
        "muxplm",
        encoder=_encoder_config(settings, variant, tokenizer, positions),
        num_instances=variant.n,
        multiplexer=variant.multiplexer,
        demultiplexer=variant.demultiplexer,
        demultiplexer_layers=model.demultiplexer_layers,
        prefix_token_ids=prefix,
        classifier_dropout=model.dropout,
        pad_token_id=tokenizer.pad_token_id,
        dialect=variant.dialect,
        padded_length=None if dialect.masks_padding else settings.max_length,
    )


def prefix_token_ids(tokenizer: PreTrainedTokenizerBase, n: int) -> list[int]:
    """The N + 1 ids a prefix demultiplexer needs: one for each instance, then the prefix's pad."""
    vocabulary = tokenizer.get_vocab()
    unused = next(i for i in count() if f"[unused{i}]" not in vocabulary)
    if unused < n + 1:
        raise DataError(
            f"the prefix demultiplexer for N = {n} needs {n + 1} unused ids but the tokenizer has "
            f"{unused}: set tokenizer.unused to {n + 1} or more"
        )
    return [vocabulary[f"[unused{i}]"] for i in range(n + 1)]


def check_parts(variants):
    """DataError if one of them names a part that is not registered."""
    for variant in variants:
        dialect = DIALECTS[variant.dialect]
        registries = {"multiplexer": dialect.multiplexers, "demultiplexer": dialect.demultiplexers}
        for part, known in registries.items():
            name = getattr(variant, part)
            if name not in known:
                raise DataError(
                    f"{part} {name!r}, asked for by ablations, is none{nearest(name, known)}"
                )


def _encoder_config(settings, variant, tokenizer, prefix=0) -> dict:
    """prefix: how many positions of the encoder's it takes."""
    shape, model = settings.shapes[variant.size], settings.model_of(variant.name)
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
    return config | ENCODERS.get(variant.recipe.encoder, _bert)(config, shape, model, tokenizer)


def _bert(config, shape, model, tokenizer) -> dict:
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    return dict.fromkeys(names, model.dropout)


def _electra(config, shape, model, tokenizer) -> dict:
    width = {"embedding_size": shape.embedding or shape.hidden}
    return _bert(config, shape, model, tokenizer) | width


def _roberta(config, shape, model, tokenizer) -> dict:
    # It counts positions from the padding id on.
    positions = config["max_position_embeddings"] + tokenizer.pad_token_id + 1
    return _bert(config, shape, model, tokenizer) | {"max_position_embeddings": positions}


def _modernbert(config, shape, model, tokenizer) -> dict:
    special = {"bos": "cls", "cls": "cls", "eos": "sep", "sep": "sep"}
    ids = {f"{k}_token_id": getattr(tokenizer, f"{v}_token_id") for k, v in special.items()}
    # Gradients and logits only at masked positions; its dropouts are off in the original too.
    return ids | {"sparse_prediction": True}


# What an encoder's config has beside or instead of the common values; BERT's, where it is not here.
ENCODERS = {"electra": _electra, "roberta": _roberta, "modernbert": _modernbert}
