"""The rows of a training, in the order they are drawn, and everything that chance decides about them.

The data set is read as one endless stream: a permutation of it for each epoch. A row's place in the
stream and the seed decide what stands there and how it is corrupted, whatever was drawn before,
whichever process draws it and however the rows are cut into passes.
"""

from functools import lru_cache, partial

import numpy as np
import torch

from muxplm.data.collation import IGNORED, shorter, uniform

CORRUPTION, RETRIEVAL = 0, 1  # the noise of a row, the noise of a group


class Rows:
    """`dataset`: an array (number, L), or a list of rows. N = `instances` consecutive rows are a group.

    longest: of a model that reads back one instance's token at each position, the length of the longest
    row that it takes; None for others. in_order: nothing is permuted, and the stream ends. short:
    (number, length): the stream's first rows are given as rows of `length` tokens.
    """

    def __init__(
        self, dataset, collate, instances, seed, longest=None, in_order=False, short=(0, 0)
    ):
        self.dataset, self.collate, self.instances, self.seed = dataset, collate, instances, seed
        self.longest, self.in_order, self.short = longest, in_order, short
        self.epoch = lru_cache(maxsize=2)(self._epoch)

    def parts(self, first: int, last: int, share: int, processes) -> list:
        """This process's of the parts `first` to `last`, the stream cut into parts of `share` rows.

        Each is a batch, on the process's device, and what the losses over it are means over.
        """
        found = []
        for number in range(first + processes.rank, last, processes.count):
            place = number * share
            left = len(self.dataset) - place if self.in_order else share
            batch, items = self.batch(place, min(share, left))
            found.append(({k: _to(tensor, processes.device) for k, tensor in batch.items()}, items))
        return found

    def _epoch(self, number: int) -> np.ndarray:
        count = len(self.dataset)
        if self.in_order:
            return np.arange(count)
        return np.random.default_rng((self.seed, number)).permutation(count)

    def batch(self, first: int, count: int):
        """`count` rows from place `first` on: a batch, and what its losses are means over.

        The second is an array of two: the number of labels, and of tokens to read back.
        """
        epochs, places = np.divmod(np.arange(first, first + count), len(self.dataset))
        numbers = [self.epoch(int(e))[places[epochs == e]] for e in np.unique(epochs)]
        batch = self.collate(
            _take(self.dataset, np.concatenate(numbers)),
            partial(uniform, (self.seed, CORRUPTION), first, count),
        )
        items = [(batch["labels"] != IGNORED).sum().item(), 0]
        if self.longest:
            batch["instance"] = instance = self._instances(first, batch["input_ids"])
            items[1] = _shown(batch, instance)
        number, length = self.short
        if first < number:
            batch = shorter(batch, self.instances, length)
        return batch, np.array(items, dtype=np.float64)

    def _instances(self, first, ids):
        """Which instance is read back at each position of each group: (R, L) ids -> (R / N, L)."""
        groups, length = -(-len(ids) // self.instances), ids.shape[1]
        noise = uniform(
            (self.seed, RETRIEVAL), first // self.instances, groups, max(self.longest, length)
        )
        return torch.from_numpy((noise[:, :length] * self.instances).astype(np.int64))


def _to(tensor, device):
    """A copy to a GPU from pinned memory waits for nothing."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def _take(dataset, numbers):
    return dataset[numbers] if isinstance(dataset, np.ndarray) else [dataset[i] for i in numbers]


def _shown(batch, instance) -> int:
    """At how many positions the instance to be read back is not padding."""
    if "attention_mask" not in batch:
        return instance.numel()
    mask = batch["attention_mask"].unflatten(0, (len(instance), -1))  # (R, L) -> (R/N, N, L)
    return mask.gather(1, instance[:, None]).sum().item()
