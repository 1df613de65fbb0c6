"""transformers' pipelines over multiplexed models: `pipeline("text-classification", model=FOLDER)`.

The answers to a list do not depend on `batch_size`. Two arguments, of the pipeline or of a call, say how
the inputs are composed (`muxplm.grouping`):

composition_seed: None multiplexes neighbours of the list; a number, the list shuffled with that seed.
copies: every input goes in that many times, up to N, and its logits are averaged (section 5.4).

Importing muxplm puts these classes in the place of transformers' own; other models see no difference.
"""

import copy
from collections.abc import Sized

import torch
from torch.nn import functional as F
from transformers.pipelines import (
    PIPELINE_REGISTRY,
    FillMaskPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
)

from muxplm.grouping import duplicated, whole_groups
from muxplm.models.modeling import MuxPreTrainedModel

INPUTS = ("input_ids", "attention_mask")
NEEDLESS = ("token_type_ids",)  # multiplexed models know no segments


class Grouped:
    """What the pipelines of this module add to transformers'."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        limit = self.model.config.max_tokens if self.multiplexed else None
        if limit and limit < self.tokenizer.model_max_length:
            self.tokenizer = copy.deepcopy(self.tokenizer)  # the caller's stays as it is
            self.tokenizer.model_max_length = limit  # what `truncation=True` cuts to

    @property
    def multiplexed(self) -> bool:
        return isinstance(self.model, MuxPreTrainedModel)

    def _sanitize_parameters(self, composition_seed=None, copies=None, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        grouping = {"composition_seed": composition_seed, "copies": copies}
        return preprocess, forward | _given(grouping), postprocess

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """A single input is a list of one: its group is made of copies of it."""
        settings = (preprocess_params, forward_params, postprocess_params)
        return next(iter(self.get_iterator([inputs], 0, 1, *settings)))

    def get_iterator(self, inputs, num_workers, batch_size, preprocess, forward, postprocess):
        forward = dict(forward)
        seed, copies = forward.pop("composition_seed", None), forward.pop("copies", 1)
        if not self.multiplexed:
            return super().get_iterator(
                inputs, num_workers, batch_size, preprocess, forward, postprocess
            )
        if copies < 1:
            raise ValueError(f"copies is {copies}; it must be at least 1")
        size = whole_groups(batch_size, self.model.config.num_instances)
        settings = (num_workers, size, preprocess, forward, postprocess)
        if seed is None and copies == 1:
            return super().get_iterator(inputs, *settings)
        if not isinstance(inputs, Sized):
            raise ValueError("composition_seed and copies need a list, whose length is known")
        order = duplicated(len(inputs), copies, seed or 0).tolist()
        found = [[] for _ in inputs]
        outputs = super().get_iterator([inputs[i] for i in order], *settings).loader
        for i, output in zip(order, outputs, strict=True):  # before transformers' postprocessing
            found[i].append(output)
        return (self.postprocess(_mean(same), **postprocess) for same in found)

    def _forward(self, model_inputs, **kwargs):
        if not self.multiplexed:
            return super()._forward(model_inputs, **kwargs)
        for name in NEEDLESS:
            model_inputs.pop(name, None)
        length = model_inputs["input_ids"].shape[1]
        outputs = super()._forward(self._padded(model_inputs, length), **kwargs)
        if outputs["logits"].ndim == 3:
            outputs["logits"] = outputs["logits"][:, :length]  # (R, padded, ...) -> (R, L, ...)
        return outputs

    def _padded(self, model_inputs, length: int):
        """Rows of the one length at which a model sees its padding (docs/dialects.md)."""
        wanted, limit = self.model.config.padded_length, self.model.config.max_tokens
        if limit and length > limit:
            raise ValueError(
                f"an input has {length} tokens and this model takes {limit}: "
                "shorten it, or pass truncation=True"
            )
        if wanted is None:
            return model_inputs
        values = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0}
        for name in INPUTS:
            row = (0, wanted - length)
            model_inputs[name] = F.pad(model_inputs[name], row, value=values[name])
        return model_inputs


def _given(values: dict) -> dict:
    return {name: value for name, value in values.items() if value is not None}


def _mean(outputs: list):
    """One output with the copies' mean logits. Copies are padded to different lengths.

    The outputs of a chunked pipeline are lists of chunks.
    """
    if isinstance(outputs[0], list):
        return [_mean(list(chunks)) for chunks in zip(*outputs, strict=True)]
    logits = [output["logits"] for output in outputs]
    if logits[0].ndim == 3:
        shortest = min(value.shape[1] for value in logits)
        logits = [value[:, :shortest] for value in logits]
    outputs[0]["logits"] = torch.stack([value.float() for value in logits]).mean(dim=0)
    return outputs[0]


class MuxTextClassificationPipeline(Grouped, TextClassificationPipeline):
    pass


class MuxTokenClassificationPipeline(Grouped, TokenClassificationPipeline):
    pass


class MuxFillMaskPipeline(Grouped, FillMaskPipeline):
    pass


CLASSES = {
    "text-classification": MuxTextClassificationPipeline,
    "token-classification": MuxTokenClassificationPipeline,
    "fill-mask": MuxFillMaskPipeline,
}
for task, pipeline_class in CLASSES.items():
    PIPELINE_REGISTRY.supported_tasks[task]["impl"] = pipeline_class
