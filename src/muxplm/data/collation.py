"""Batches: packed blocks for priming and pre-training, tokenised rows for the tasks.

R is the number of rows in a batch, L their length. Consecutive rows are multiplexed together, N at a
time, so the order in which the rows are drawn decides the composition.

What a collator draws it takes from `noise`, a function of a width: noise(W) are numbers of [0, 1), of
shape (R, W), those of a row always the same (`uniform`). So a row is corrupted in the same way whatever
batch it comes in.
"""

from itertools import chain

import numpy as np
import torch

from muxplm.files import DataError

IGNORED = -100  # label of a position that no loss reads


def uniform(key, first_row: int, rows: int, width: int) -> np.ndarray:
    """Numbers of [0, 1), (rows, width): those of row r depend on the key, the width and r alone.

    key: two integers below 2**64. Philox is a function of a key and a count, so it can start anywhere.
    """
    counts = -(-width // 4)  # it makes four numbers a count
    generator = np.random.Generator(np.random.Philox(key=key, counter=first_row * counts))
    return generator.random((rows, 4 * counts))[:, :width]


def stack(blocks) -> torch.Tensor:
    """R blocks of length L, as an array or a list -> ids (R, L), int64."""
    return torch.from_numpy(np.asarray(blocks).astype(np.int64))


def collate_retrieval(blocks, noise=None):
    """Every token is to be read back."""
    ids = stack(blocks)
    return {"input_ids": ids, "labels": ids}


def _is_special(tokenizer) -> np.ndarray:
    """By token id, (V,): whether nothing may corrupt it."""
    special = np.zeros(len(tokenizer), dtype=bool)
    special[tokenizer.all_special_ids] = True
    return special


class MaskTokens:
    """BERT's corruption: of `rate` of the tokens 80 % become [MASK], 10 % random, 10 % stay.

    Each row has the same number of masked tokens, as in BERT's own code: `rate` of its length, special
    tokens counted but never chosen. Only a row with fewer other tokens has fewer.
    """

    def __init__(self, tokenizer, rate: float):
        self.special, self.mask, self.rate = _is_special(tokenizer), tokenizer.mask_token_id, rate

    def __call__(self, blocks, noise):
        ids = np.asarray(blocks).astype(np.int64)  # (R, L)
        length = ids.shape[1]
        k = min(length, max(1, round(self.rate * length)))
        order, kind, word = np.split(noise(length + 2 * k), [length, length + k], axis=1)
        np.maximum(order, self.special[ids], out=order)  # special tokens behind all others
        chosen = np.sort(np.argpartition(order, k - 1, axis=1)[:, :k], axis=1)  # (R, k) positions
        original = np.take_along_axis(ids, chosen, axis=1)  # (R, k)
        free = ~self.special[original]
        drawn = (word * len(self.special)).astype(np.int64)
        corrupted = np.select(
            [~free, kind < 0.8, kind < 0.9], [original, self.mask, drawn], original
        )
        labels = np.full_like(ids, IGNORED)
        np.put_along_axis(labels, chosen, np.where(free, original, IGNORED), axis=1)
        np.put_along_axis(ids, chosen, corrupted, axis=1)
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


class ReplaceTokens:
    """ELECTRA without a generator: `rate` of the tokens become uniformly random ones (Appendix B).

    A label is 1 where the token differs from the original; a draw that hits the original counts as
    not replaced, as in ELECTRA's own definition.
    """

    def __init__(self, tokenizer, rate: float):
        self.special, self.rate = _is_special(tokenizer), rate

    def __call__(self, blocks, noise):
        original = np.asarray(blocks).astype(np.int64)  # (R, L)
        drawn = noise(original.shape[1]) / self.rate  # below 1 for those chosen, and uniform there
        chosen = (drawn < 1) & ~self.special[original]
        ids = original.copy()
        ids[chosen] = drawn[chosen] * len(self.special)
        labels = (ids != original).astype(np.int64)
        return {"input_ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


def shorter(batch, instances: int, length: int) -> dict:
    """A batch of blocks with each cut into P = L / `length` rows; N = `instances`.

    Those that are multiplexed together still come from N blocks. "instance" has one row a group.
    """

    def cut(tensor, together):
        rows = tensor.unflatten(0, (-1, together)).unflatten(2, (-1, length))  # (R/N, N, P, length)
        return rows.transpose(1, 2).flatten(0, 2)  # (R P, length)

    return {k: cut(tensor, 1 if k == "instance" else instances) for k, tensor in batch.items()}


COLLATORS = {"mlm": MaskTokens, "rtd": ReplaceTokens}


class PadRows:
    """Tokenised rows to a batch, padded to its longest row or to `length` (tag labels to -100)."""

    def __init__(self, pad_token_id: int, length: int | None = None):
        self.pad, self.length = pad_token_id, length

    def __call__(self, rows, noise=None):
        lengths = np.array([len(row["input_ids"]) for row in rows])
        real = np.arange(self.length or lengths.max()) < lengths[:, None]  # (R, L)
        labels = [row["labels"] for row in rows]
        if isinstance(labels[0], list):
            labels = _padded(labels, real, IGNORED)
        return {
            "input_ids": _padded([row["input_ids"] for row in rows], real, self.pad),
            "attention_mask": torch.from_numpy(real.astype(np.int64)),
            "labels": torch.as_tensor(labels),
        }


def _padded(lists, real, filler: int) -> torch.Tensor:
    """R lists of integers to (R, L), each at the places where `real` is true in its row."""
    padded = np.full(real.shape, filler)
    padded[real] = np.fromiter(chain.from_iterable(lists), np.int64, count=real.sum())
    return torch.from_numpy(padded)


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
        IGNORED if word is None or word == previous else tags[word]
        for word, previous in zip(word_ids, before, strict=True)
    ]
