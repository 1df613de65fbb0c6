"""How a pipeline's inputs become batches: tokenised together, whole groups of N, by length.

transformers' own pipelines tokenise, collate and answer input by input, which takes longer than a
small multiplexed model.
"""

import copy
import gc
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from itertools import chain, islice

import numpy as np
import torch
from transformers.tokenization_utils_base import (
    LARGE_INTEGER,
    PaddingStrategy,
    TruncationStrategy,
)

from muxplm.engines import OnnxModel
from muxplm.grouping import duplicated, whole_groups
from muxplm.models.configuration import MuxConfig

# What models take, and what `tokenizers.Encoding` calls it.
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
NEEDLESS = ("token_type_ids",)  # multiplexed models know no segments
GROUPING = ("composition_seed", "copies")


def token_limit(config) -> int | None:
    """Tokens of the longest row that a model takes, multiplexed or not. None: any number."""
    if hasattr(config, "max_tokens"):
        return config.max_tokens
    positions = getattr(config, "max_position_embeddings", None)
    reserved = config.pad_token_id + 1 if config.model_type == "roberta" else 0
    return positions and positions - reserved


class Grouped:
    """What the pipelines of this module add to transformers'.

    A *row* is what the model sees of an input: its ids and masks, and what is kept for the answer. With
    `stride` an input of a tagger has several; otherwise it is one.
    """

    in_chunks = False  # whether transformers' pipeline makes several rows of an input
    window = 1024  # inputs of a list that are tokenised, and put in order of length, together

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        limit = token_limit(self.model.config) if self.multiplexed else None
        if limit and limit < self.tokenizer.model_max_length:
            self.tokenizer = copy.deepcopy(self.tokenizer)  # the caller's stays as it is
            self.tokenizer.model_max_length = limit  # what `truncation=True` cuts to

    @property
    def multiplexed(self) -> bool:
        return self.model.config.model_type == MuxConfig.model_type

    @property
    def instances(self) -> int:
        return self.model.config.num_instances if self.multiplexed else 1

    @property
    def taken(self) -> list[str]:
        """The names of what the model takes."""
        known = () if self.multiplexed else self.tokenizer.model_input_names
        return [name for name in INPUTS if name not in NEEDLESS or name in known]

    def _sanitize_parameters(self, composition_seed=None, copies=None, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        grouping = {"composition_seed": composition_seed, "copies": copies}
        return preprocess, forward | given(grouping), postprocess

    def check_model_type(self, supported_models):
        """transformers asks for a class that it knows; another engine's model is none."""
        if not isinstance(self.model, OnnxModel):
            super().check_model_type(supported_models)

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """A single input is a list of one: its group is made of copies of it."""
        settings = (preprocess_params, forward_params, postprocess_params)
        return next(iter(self.get_iterator([inputs], 0, 1, *settings)))

    def get_iterator(self, inputs, num_workers, batch_size, preprocess, forward, postprocess):
        elsewhere = isinstance(self.model, OnnxModel)
        if self.multiplexed or elsewhere or "whole_words" in postprocess:
            return self._answers(inputs, batch_size, preprocess, forward, postprocess)
        forward = {name: value for name, value in forward.items() if name not in GROUPING}
        settings = (num_workers, batch_size, preprocess, forward, postprocess)
        return super().get_iterator(inputs, *settings)

    def answers(self, inputs: list, batch_size: int, **settings) -> list:
        """What a call answers, in this module's way whatever the model is."""
        return list(self._answers(inputs, batch_size, *self._sanitize_parameters(**settings)))

    def _answers(self, inputs, batch_size, preprocess, forward, postprocess) -> Iterator:
        seed, copies = forward.get("composition_seed"), forward.get("copies", 1)
        if not 1 <= copies <= self.instances:
            raise ValueError(f"copies is {copies}; it must be from 1 to N = {self.instances}")
        known = isinstance(inputs, Sized)
        size = whole_groups(batch_size, self.instances)
        # What comes bit by bit is answered as it comes, a batch at a time.
        window = whole_groups(max(size, self.window), self.instances) if known else size
        if seed is None and copies == 1:
            stream = (inputs[i] for i in range(len(inputs))) if known else inputs
            found = self._outputs(stream, size, window, preprocess)
        elif known:
            order = duplicated(len(inputs), copies, seed or 0).tolist()
            stream = (inputs[i] for i in order)
            found = _averaged(order, self._outputs(stream, size, window, preprocess))
        else:
            raise ValueError("composition_seed and copies need a list, whose length is known")
        windows = _batched(found, window)

        def answered():
            with _without_collector():
                outputs = next(windows, None)
                return outputs and list(self.conclude(outputs, **postprocess))

        yield from chain.from_iterable(iter(answered, None))

    def _outputs(self, stream: Iterable, size: int, window: int, preprocess) -> Iterator:
        """What transformers' `postprocess` takes, for each input: a dict, of a tagger a list of them."""
        windows = _batched(stream, window)
        rows = chain.from_iterable(self.rows(inputs, **preprocess) for inputs in windows)
        chunks = []
        for some in _batched(rows, window):
            for (_, kept), logits in zip(some, self._logits(some, size), strict=True):
                chunks.append({**kept, "logits": logits})
                if chunks[-1].pop("is_last", True):
                    yield chunks if self.in_chunks else chunks[0]
                    chunks = []

    def rows(self, inputs: list, **preprocess) -> Iterator[tuple[dict, dict]]:
        """The rows of some inputs, one input after the other, as transformers prepares them."""
        for given in inputs:
            found = self.preprocess(given, **preprocess)
            for row in found if self.in_chunks else [found]:
                yield {name: row[name][0].tolist() for name in self.taken}, dict(row)

    def tokenised(self, texts: list, truncation: bool = False, offsets: bool = False) -> Iterator:
        """What the model sees of each text, or pair, and its `tokenizers.Encoding`.

        `self.tokenizer(texts)` finds the same, and makes a dictionary of lists of each on the way.
        """
        cut = truncation and self.tokenizer.model_max_length < LARGE_INTEGER
        strategy = TruncationStrategy.LONGEST_FIRST if cut else TruncationStrategy.DO_NOT_TRUNCATE
        self.tokenizer.set_truncation_and_padding(
            padding_strategy=PaddingStrategy.DO_NOT_PAD,
            truncation_strategy=strategy,
            max_length=self.tokenizer.model_max_length,
            stride=0,
            pad_to_multiple_of=None,
            padding_side=None,
        )
        backend = self.tokenizer.backend_tokenizer
        encode = backend.encode_batch if offsets else backend.encode_batch_fast
        taken = [(name, INPUTS[name]) for name in self.taken]
        for encoding in encode(texts):
            yield {name: getattr(encoding, theirs) for name, theirs in taken}, encoding

    def _logits(self, rows: list, size: int) -> list[torch.Tensor]:
        """The logits of each row, (1, labels) or (1, L, labels), L being its own length.

        N neighbours are a group. Groups go through the model by length, `size` rows at a time, the one
        that is not full last of all: it stands at the end of its batch, where the model completes it.
        """
        n = self.instances
        lengths = [len(inputs["input_ids"]) for inputs, _ in rows]
        groups = [range(i, min(i + n, len(rows))) for i in range(0, len(rows), n)]
        groups.sort(key=lambda group: (len(group) < n, max(lengths[i] for i in group)))
        found = [None] * len(rows)
        for batch in _batched(chain.from_iterable(groups), size):
            logits = self._pass([rows[i][0] for i in batch])
            for i, of_row in zip(batch, logits.split(1), strict=True):
                found[i] = of_row[:, : lengths[i]] if of_row.ndim == 3 else of_row
        return found

    def _pass(self, rows: list[dict]) -> torch.Tensor:
        """R rows, padded to the longest of them, through the model: its logits (R, ...), float32.

        A model that sees its padding has one length for all rows (docs/dialects.md).
        """
        length = max(len(row["input_ids"]) for row in rows)
        limit = token_limit(self.model.config)
        if limit and length > limit:
            raise ValueError(
                f"an input has {length} tokens and this model takes {limit}: "
                "shorten it, or pass truncation=True"
            )
        length = getattr(self.model.config, "padded_length", None) or length
        fill = {"input_ids": self.tokenizer.pad_token_id}
        inputs = {
            name: _padded([row[name] for row in rows], length, fill.get(name, 0)).to(self.device)
            for name in rows[0]
        }
        with self.device_placement(), torch.no_grad():
            return self.model(**inputs)["logits"].float().cpu()

    def conclude(self, outputs: list, **postprocess) -> Iterable:
        """The answers to some inputs."""
        return (self.postprocess(output, **postprocess) for output in outputs)


@contextmanager
def _without_collector():
    """Python's collector waits: for so many new objects it would walk all that was ever imported.

    What a window makes is gone at its end without it, but for the answers, which refer to nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def given(values: dict) -> dict:
    return {name: value for name, value in values.items() if value is not None}


def _batched(items: Iterable, size: int) -> Iterator[list]:
    """Lists of `size` items; the last one may be shorter."""
    items = iter(items)
    return iter(lambda: list(islice(items, size)), [])


def _padded(rows: list[list[int]], length: int, fill: int) -> torch.Tensor:
    """Rows of any length as one tensor (R, length)."""
    taken = np.fromiter(map(len, rows), np.int64, len(rows))
    values = np.full((len(rows), length), fill)
    values[np.arange(length) < taken[:, None]] = np.fromiter(chain.from_iterable(rows), np.int64)
    return torch.from_numpy(values)


def _averaged(order: list[int], outputs: Iterator) -> Iterator:
    """One output for each input, from those of its copies, which come in `order`."""
    found = {}
    for i, output in zip(order, outputs, strict=True):
        found.setdefault(i, []).append(output)
    return (_mean(found.pop(i)) for i in range(len(found)))


def _mean(outputs: list):
    """One output with the copies' mean logits. A tagger's outputs are lists of chunks."""
    if isinstance(outputs[0], list):
        return [_mean(list(chunks)) for chunks in zip(*outputs, strict=True)]
    logits = torch.stack([output["logits"] for output in outputs])
    return outputs[0] | {"logits": logits.mean(dim=0)}
