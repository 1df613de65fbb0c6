"""transformers' pipelines over multiplexed models: `pipeline("text-classification", model=FOLDER)`.

The answers to a list do not depend on `batch_size`: N consecutive inputs share a pass, and whole groups
go through the model in the order of their length, so that little of a batch is padding. Arguments of
the pipeline or of a call that transformers' own have not:

composition_seed: None multiplexes neighbours of the list; a number, the list shuffled with that seed
    (`muxplm.grouping`).
copies: every input goes in that many times, up to N, and its logits are averaged (section 5.4).
whole_words: a tagger answers for each word, by its first piece, which is where it was trained to.

Importing muxplm puts these classes in the place of transformers' own; other models see no difference.
"""

import copy
from collections.abc import Iterable, Iterator, Sized
from itertools import chain, islice

import numpy as np
import torch
from transformers.pipelines import (
    PIPELINE_REGISTRY,
    FillMaskPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
)
from transformers.pipelines.base import ChunkPipeline
from transformers.pipelines.token_classification import AggregationStrategy
from transformers.tokenization_utils_base import (
    LARGE_INTEGER,
    PaddingStrategy,
    TruncationStrategy,
)

from muxplm.grouping import duplicated, whole_groups
from muxplm.models.modeling import MuxPreTrainedModel

# What models take, and what `tokenizers.Encoding` calls it.
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
NEEDLESS = ("token_type_ids",)  # multiplexed models know no segments
GROUPING = ("composition_seed", "copies")
PAIR = {"text", "text_pair"}


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

    window = 1024  # inputs of a list that are tokenised, and put in order of length, together

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        limit = token_limit(self.model.config) if self.multiplexed else None
        if limit and limit < self.tokenizer.model_max_length:
            self.tokenizer = copy.deepcopy(self.tokenizer)  # the caller's stays as it is
            self.tokenizer.model_max_length = limit  # what `truncation=True` cuts to

    @property
    def multiplexed(self) -> bool:
        return isinstance(self.model, MuxPreTrainedModel)

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
        return preprocess, forward | _given(grouping), postprocess

    def run_single(self, inputs, preprocess_params, forward_params, postprocess_params):
        """A single input is a list of one: its group is made of copies of it."""
        settings = (preprocess_params, forward_params, postprocess_params)
        return next(iter(self.get_iterator([inputs], 0, 1, *settings)))

    def get_iterator(self, inputs, num_workers, batch_size, preprocess, forward, postprocess):
        if self.multiplexed or "whole_words" in postprocess:
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
        for outputs in _batched(found, window):
            yield from self.conclude(outputs, **postprocess)

    def _outputs(self, stream: Iterable, size: int, window: int, preprocess) -> Iterator:
        """What transformers' `postprocess` takes, for each input: a dict, of a tagger a list of them."""
        windows = _batched(stream, window)
        rows = chain.from_iterable(self.rows(inputs, **preprocess) for inputs in windows)
        chunks = []
        for some in _batched(rows, window):
            for (_, kept), logits in zip(some, self._logits(some, size), strict=True):
                chunks.append({**kept, "logits": logits})
                if chunks[-1].pop("is_last", True):
                    yield chunks if isinstance(self, ChunkPipeline) else chunks[0]
                    chunks = []

    def rows(self, inputs: list, **preprocess) -> Iterator[tuple[dict, dict]]:
        """The rows of some inputs, one input after the other, as transformers prepares them."""
        for given in inputs:
            found = self.preprocess(given, **preprocess)
            for row in found if isinstance(self, ChunkPipeline) else [found]:
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


def _are_texts(inputs: list) -> bool:
    return all(isinstance(given, str) for given in inputs)


def _given(values: dict) -> dict:
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


class MuxTextClassificationPipeline(Grouped, TextClassificationPipeline):
    def rows(self, inputs, **preprocess):
        """Texts, or pairs of texts, tokenised in one call."""
        pairs = all(isinstance(given, dict) and set(given) == PAIR for given in inputs)
        texts = [(given["text"], given["text_pair"]) for given in inputs] if pairs else inputs
        usual = preprocess in ({}, {"truncation": False}, {"truncation": True})
        if not (usual and (pairs or _are_texts(inputs))):
            return super().rows(inputs, **preprocess)
        return ((row, {}) for row, _ in self.tokenised(texts, **preprocess))

    def conclude(self, outputs, **postprocess):
        """The likeliest label of each input, all at once; what else may be asked is transformers'."""
        kind, labels = self.model.config.problem_type, self.model.config.id2label
        if postprocess or len(labels) < 2 or kind not in (None, "single_label_classification"):
            return super().conclude(outputs, **postprocess)
        logits = torch.cat([output["logits"] for output in outputs])  # (R, labels)
        best = logits.softmax(dim=-1).max(dim=-1)
        scores, found = best.values.tolist(), best.indices.tolist()
        return [{"label": labels[i], "score": s} for i, s in zip(found, scores, strict=True)]


class MuxTokenClassificationPipeline(Grouped, TokenClassificationPipeline):
    def _sanitize_parameters(self, whole_words=None, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        return preprocess, forward, postprocess | _given({"whole_words": whole_words})

    def rows(self, inputs, **preprocess):
        """Sentences tokenised in one call; those that come as words, or in chunks, by transformers."""
        if preprocess != {"is_split_into_words": False} or not _are_texts(inputs):
            return super().rows(inputs, **preprocess)
        found = zip(inputs, self.tokenised(inputs, truncation=True, offsets=True), strict=True)
        return ((row, {"sentence": text, "encoding": encoding}) for text, (row, encoding) in found)

    def conclude(self, outputs, whole_words=False, **postprocess):
        """The tags of some sentences, all at once; what else may be asked is transformers'."""
        ours = all(len(chunks) == 1 and "encoding" in chunks[0] for chunks in outputs)
        if whole_words and not ours:
            raise ValueError("whole_words takes sentences as they are, and no stride")
        grouped = postprocess.get("aggregation_strategy", AggregationStrategy.NONE)
        if not ours or (grouped != AggregationStrategy.NONE and not whole_words):
            outputs = [[_unpacked(chunk) for chunk in chunks] for chunks in outputs]
            return super().conclude(outputs, **postprocess)
        logits = torch.cat([chunk["logits"][0] for (chunk,) in outputs])  # (sum of L, labels)
        best = logits.softmax(dim=-1).max(dim=-1)
        labels = [self.model.config.id2label[i] for i in best.indices.tolist()]
        tags = zip(labels, best.values.tolist(), strict=True)
        ignored = postprocess.get("ignore_labels", ["O"])
        tagged = self._words if whole_words else self._pieces
        return [
            [entity for entity in tagged(chunk, tags) if entity["entity"] not in ignored]
            for (chunk,) in outputs
        ]

    def _pieces(self, chunk, tags):
        """One entity a token: what transformers answers unless it is asked to aggregate."""
        sentence, encoding = chunk["sentence"], chunk["encoding"]
        special, unknown = encoding.special_tokens_mask, self.tokenizer.unk_token_id
        for index, (token, id_, (start, end)) in enumerate(
            zip(encoding.tokens, encoding.ids, encoding.offsets, strict=True)
        ):
            tag, score = next(tags)
            if not special[index]:
                word = sentence[start:end] if id_ == unknown else token
                place = {"index": index, "word": word, "start": start, "end": end}
                yield {"entity": tag, "score": score, **place}

    def _words(self, chunk, tags):
        """One entity a word, from where its first piece begins to where its last one ends."""
        sentence, encoding, found = chunk["sentence"], chunk["encoding"], {}
        for word, (start, end) in zip(encoding.word_ids, encoding.offsets, strict=True):
            tag, score = next(tags)
            if word in found:
                found[word] = (*found[word][:3], end)
            elif word is not None:  # [CLS] and [SEP] belong to none
                found[word] = (tag, score, start, end)
        for tag, score, start, end in found.values():
            place = {"word": sentence[start:end], "start": start, "end": end}
            yield {"entity": tag, "score": score, **place}


def _unpacked(chunk: dict) -> dict:
    """A tokenised sentence as transformers' postprocessing takes it."""
    if "encoding" not in chunk:
        return chunk
    encoding = chunk["encoding"]
    return {
        "logits": chunk["logits"],
        "sentence": chunk["sentence"],
        "input_ids": torch.tensor([encoding.ids]),
        "offset_mapping": torch.tensor([encoding.offsets]),
        "special_tokens_mask": torch.tensor([encoding.special_tokens_mask]),
    }


class MuxFillMaskPipeline(Grouped, FillMaskPipeline):
    window = 1  # logits over a vocabulary are large: no more of them at once than a batch


CLASSES = {
    "text-classification": MuxTextClassificationPipeline,
    "token-classification": MuxTokenClassificationPipeline,
    "fill-mask": MuxFillMaskPipeline,
}
for task, pipeline_class in CLASSES.items():
    PIPELINE_REGISTRY.supported_tasks[task]["impl"] = pipeline_class
