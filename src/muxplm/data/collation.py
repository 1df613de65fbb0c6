"""Batches: packed blocks for priming and pre-training, tokenised rows for the tasks.

R is the number of rows in a batch, L their length. Consecutive rows are multiplexed together, N at a
time, so the order in which a sampler draws the rows decides the composition.
"""

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import DataCollatorForLanguageModeling

from muxplm.files import DataError


class Blocks(Dataset):
    """Memory-mapped blocks of token ids, (number of blocks, L)."""

    def __init__(self, blocks: np.ndarray):
        self.blocks = blocks

    def __len__(self):
        return len(self.blocks)

    def __getitem__(self, index):
        return self.blocks[index]


def stack(blocks) -> torch.Tensor:
    """A list of R blocks of length L -> ids (R, L), int64."""
    return torch.from_numpy(np.stack(blocks).astype(np.int64))


def collate_retrieval(blocks):
    """Every token is to be read back."""
    ids = stack(blocks)
    return {"input_ids": ids, "labels": ids}


class MaskTokens:
    """BERT's corruption: of `rate` of the tokens 80 % become [MASK], 10 % random, 10 % stay."""

    def __init__(self, tokenizer, rate: float):
        self.special = torch.tensor(tokenizer.all_special_ids)
        self.library = DataCollatorForLanguageModeling(tokenizer, mlm_probability=rate)

    def __call__(self, blocks):
        ids = stack(blocks)
        special = torch.isin(ids, self.special)
        ids, labels = self.library.torch_mask_tokens(ids, special_tokens_mask=special)
        return {"input_ids": ids, "labels": labels}


class ReplaceTokens:
    """ELECTRA without a generator: `rate` of the tokens become uniformly random ones (Appendix B).

    A label is 1 where the token differs from the original; a draw that hits the original counts as
    not replaced, as in ELECTRA's own definition.
    """

    def __init__(self, tokenizer, rate: float):
        self.special = torch.tensor(tokenizer.all_special_ids)
        self.vocab_size, self.rate = len(tokenizer), rate

    def __call__(self, blocks):
        original = stack(blocks)
        chosen = torch.rand(original.shape) < self.rate
        chosen &= ~torch.isin(original, self.special)
        ids = torch.where(chosen, torch.randint(self.vocab_size, original.shape), original)
        return {"input_ids": ids, "labels": (ids != original).long()}


COLLATORS = {"mlm": MaskTokens, "rtd": ReplaceTokens}


class PadRows:
    """Tokenised rows to a batch, padded to its longest row or to `length` (tag labels to -100)."""

    def __init__(self, pad_token_id: int, length: int | None = None):
        self.pad, self.length = pad_token_id, length

    def __call__(self, rows):
        length = self.length or max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), length), self.pad)
        for i, row in enumerate(rows):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        # No token of a text has the padding id, so the mask can be read off the ids.
        batch = {"input_ids": ids, "attention_mask": (ids != self.pad).long()}
        if isinstance(rows[0]["labels"], list):
            labels = torch.full((len(rows), length), -100)
            for i, row in enumerate(rows):
                labels[i, : len(row["labels"])] = torch.tensor(row["labels"])
            return batch | {"labels": labels}
        return batch | {"labels": torch.tensor([row["labels"] for row in rows])}


def tokenize_task(task, dataset, tokenizer, max_length: int) -> list[dict]:
    """Rows {"input_ids": list of ints, "labels": a class, a float, or one tag per token}.

    A word's tag stands on its first piece; its other pieces and the special tokens have -100.
    """
    tagging = task.kind == "tagging"
    texts = [list(dataset[column]) for column in task.columns]
    if tagging:  # the space in front of a word is a part of it to byte-level tokenizers
        texts = [[[f" {word}" for word in words] for words in column] for column in texts]
    encoded = tokenizer(*texts, truncation=True, max_length=max_length, is_split_into_words=tagging)
    labels = list(dataset[task.label])
    if tagging:
        labels = [_first_piece(encoded.word_ids(i), tags) for i, tags in enumerate(labels)]
    if not labels:
        raise DataError(f"task {task.name} has no rows: check its data")
    return [
        {"input_ids": ids, "labels": label}
        for ids, label in zip(encoded["input_ids"], labels, strict=True)
    ]


def _first_piece(word_ids, tags):
    before = [None, *word_ids[:-1]]
    return [
        -100 if word is None or word == previous else tags[word]
        for word, previous in zip(word_ids, before, strict=True)
    ]
