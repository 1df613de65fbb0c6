"""Models by what they are trained for: transformers' own class at N = 1, else a multiplexed one."""

import contextlib

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoModelForPreTraining,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from muxplm.files import DataError
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


def new_model(objective: str, config):
    """A model with fresh weights, drawn from torch's global generator."""
    cls = CLASSES[objective]
    return cls(config) if objective == "retrieval" else cls.from_config(config)


def load_config(folder, **changes):
    """The config of the model in `folder`, with `changes`. Raises DataError as `load_model` does."""
    with _whole(folder):
        return AutoConfig.from_pretrained(folder, **changes)


def load_model(objective: str, folder, **changes):
    """The model saved in `folder`, in float32; `changes` override values of its config.

    Weights that the new head needs and the folder lacks are drawn fresh; the rest must fit. A folder
    that is missing, damaged or of another shape is a DataError.
    """
    config = load_config(folder, **changes)
    with _whole(folder):
        return CLASSES[objective].from_pretrained(folder, config=config, dtype=torch.float32)


@contextlib.contextmanager
def _whole(folder):
    try:
        yield
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{folder}/model.safetensors cannot be loaded ({reason}): delete the folder and run the "
            "step that makes it again"
        ) from None


def check_vocabulary(model, tokenizer, folder):
    """DataError if the tokenizer gives ids that the model, read from `folder`, has no embedding for."""
    known = model.config.vocab_size
    if len(tokenizer) > known:
        raise DataError(
            f"{folder} knows {known} tokens and the tokenizer has {len(tokenizer)}: "
            "use the tokenizer that the model was trained with"
        )
