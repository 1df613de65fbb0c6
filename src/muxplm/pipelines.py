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

from itertools import islice

import torch
from transformers.pipelines import (
    PIPELINE_REGISTRY,
    FillMaskPipeline,
    TextClassificationPipeline,
    TokenClassificationPipeline,
)
from transformers.pipelines.token_classification import AggregationStrategy

from muxplm.batching import Grouped, given

PAIR = {"text", "text_pair"}
USUAL = ({}, {"truncation": False}, {"truncation": True})  # how texts are mostly tokenised


def _are_texts(inputs: list) -> bool:
    return all(isinstance(given, str) for given in inputs)


class MuxTextClassificationPipeline(Grouped, TextClassificationPipeline):
    def rows(self, inputs, **preprocess):
        """Texts, or pairs of texts, tokenised in one call."""
        pairs = all(isinstance(given, dict) and set(given) == PAIR for given in inputs)
        texts = [(given["text"], given["text_pair"]) for given in inputs] if pairs else inputs
        usual = self.tokenizer.is_fast and preprocess in USUAL
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
    in_chunks = True

    def _sanitize_parameters(self, whole_words=None, **kwargs):
        preprocess, forward, postprocess = super()._sanitize_parameters(**kwargs)
        return preprocess, forward, postprocess | given({"whole_words": whole_words})

    def rows(self, inputs, **preprocess):
        """Sentences tokenised in one call; those that come as words, or in chunks, by transformers."""
        usual = self.tokenizer.is_fast and preprocess == {"is_split_into_words": False}
        if not (usual and _are_texts(inputs)):
            return super().rows(inputs, **preprocess)
        found = zip(inputs, self.tokenised(inputs, truncation=True, offsets=True), strict=True)
        kept = {"unknown": self.tokenizer.unk_token_id}
        return ((row, kept | {"sentence": text, "encoding": e}) for text, (row, e) in found)

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
        names = self.model.config.id2label  # looked up once: a config's attributes are slow
        labels = [names[i] for i in best.indices.tolist()]
        tags = zip(labels, best.values.tolist(), strict=True)
        entities = _words if whole_words else _pieces
        ignored = postprocess.get("ignore_labels", ["O"])
        answers = []
        for (chunk,) in outputs:
            found = entities(chunk, islice(tags, chunk["logits"].shape[1]))
            answers.append([entity for entity in found if entity["entity"] not in ignored])
        return answers


def _pieces(chunk: dict, tags) -> list[dict]:
    """One entity a token: what transformers answers unless it is asked to aggregate."""
    sentence, encoding = chunk["sentence"], chunk["encoding"]
    places = zip(encoding.tokens, encoding.ids, encoding.offsets, tags, strict=True)
    special, found = encoding.special_tokens_mask, []
    for index, (token, id_, (start, end), (tag, score)) in enumerate(places):
        if not special[index]:
            word = sentence[start:end] if id_ == chunk["unknown"] else token
            entity = {"entity": tag, "score": score, "index": index, "word": word}
            found.append({**entity, "start": start, "end": end})
    return found


def _words(chunk: dict, tags) -> list[dict]:
    """One entity a word, from where its first piece begins to where its last one ends."""
    sentence, encoding, found, last = chunk["sentence"], chunk["encoding"], [], None
    for word, (start, end), (tag, score) in zip(
        encoding.word_ids, encoding.offsets, tags, strict=True
    ):
        if word is None:  # [CLS] and [SEP]
            continue
        if word != last:
            found.append({"entity": tag, "score": score, "word": "", "start": start, "end": end})
        found[-1]["end"], last = end, word
    for entity in found:
        entity["word"] = sentence[entity["start"] : entity["end"]]
    return found


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
