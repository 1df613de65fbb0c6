"""Models by what they are trained for: transformers' own class at N = 1, else a multiplexed one."""

import contextlib
import re

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from muxplm.files import DataError, in_one_line
from muxplm.models.modeling import MuxForTokenRetrieval

# The class that each objective trains; multiplexed and plain models share the Auto classes.
CLASSES = {
    "retrieval": MuxForTokenRetrieval,
    "mlm": AutoModelForMaskedLM,
    "rtd": AutoModelForPreTraining,
    "classification": AutoModelForSequenceClassification,
    "regression": AutoModelForSequenceClassification,
    "tagging": AutoModelForTokenClassification,
}


# Of an encoder; fine-tuning may leave out a layer of the demultiplexer.
LAYER = re.compile(r"^(?!.*multiplexer).*\blayers?\.\d+\.")


def new_model(objective: str, config):
    """A model with fresh weights, drawn from torch's global generator."""
    cls = CLASSES[objective]
    return cls(config) if objective == "retrieval" else cls.from_config(config)


def load_config(folder, **changes):
    """The config of the model in `folder`, with `changes`. Raises DataError as `load_model` does."""
    with _whole(folder):
        return AutoConfig.from_pretrained(folder, trust_remote_code=False, **changes)


def load_model(objective: str, folder, new_head: bool = False, **changes):
    """The model saved in `folder`, in float32; `changes` override values of its config.

    new_head: weights of the head (a pooler is a part of it), and of a demultiplexer to which `changes`
    give another depth, are drawn fresh where the folder lacks them. A folder that is missing, damaged,
    of another shape or that lacks anything else is a DataError.
    """
    config = load_config(folder, **changes)
    with _whole(folder):
        model, found = CLASSES[objective].from_pretrained(
            folder, config=config, dtype=torch.float32, output_loading_info=True
        )
    missing = found["missing_keys"]
    if more := sorted(name for name in found["unexpected_keys"] if LAYER.search(name)):
        raise DataError(
            f"{folder} has a layer that its config.json leaves out ({more[0]}): make it again"
        )
    if new_head:
        body, parts = f"{model.base_model_prefix}.", [".pooler."]
        if (
            "demultiplexer_layers" in changes
        ):  # fine-tuning may ask for one more, which it does not read
            parts += [".demultiplexer.layers.", ".demultiplexer.norms."]
        missing = {n for n in missing if n.startswith(body) and not any(p in n for p in parts)}
    check_weights(model, missing, folder)
    return model


def check_weights(model, missing, folder):
    """DataError if weights of `model` are `missing` in the folder it was read from, or no numbers."""
    if missing:
        names = ", ".join(sorted(missing)[:3])
        raise DataError(f"{folder} lacks weights that its model needs ({names}): make it again")
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and not weight.isfinite().all():
            raise DataError(f"{folder} has weights that are no numbers ({name}): make it again")


@contextlib.contextmanager
def _whole(folder):
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # what a damaged config or file makes of a model may raise anything
        raise DataError(
            f"{folder}/model.safetensors cannot be loaded ({in_one_line(error)}): delete the folder "
            "and run the step that makes it again"
        ) from None


def check_vocabulary(model, tokenizer, folder):
    """DataError if the tokenizer gives ids that the model, read from `folder`, has no embedding for."""
    known = model.config.vocab_size
    if len(tokenizer) > known:
        raise DataError(
            f"{folder} knows {known} tokens and the tokenizer has {len(tokenizer)}: "
            "use the tokenizer that the model was trained with"
        )
