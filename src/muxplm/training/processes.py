"""One training in several processes: each works on its own rows, and all take the same step.

The processes are torch.distributed's: `muxplm pretrain MODEL --processes 8` starts them on one machine,
`torch.distributed.run` or `accelerate launch` on several. Every process holds the whole model.
"""

import ctypes
import os
import sys
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import distributed

from muxplm.files import DataError


@dataclass(frozen=True)
class Processes:
    rank: int
    count: int
    device: torch.device

    def add(self, values) -> torch.Tensor:
        """The sums over all processes of a few numbers on the CPU."""
        values = torch.as_tensor(values, dtype=torch.float64)
        if self.count > 1:
            distributed.all_reduce(values)
        return values

    def of_first(self, make) -> int:
        """What make() gives in the first process."""
        value = torch.tensor(make() if self.rank == 0 else 0)
        if self.count > 1:
            distributed.broadcast(value, 0)
        return value.item()

    def align(self, model):
        """Every process starts from the first one's weights."""
        if self.count > 1:
            for parameter in model.parameters():
                distributed.broadcast(parameter.data, 0)

    def add_gradients(self, parameters, loss):
        """Each gradient becomes the sum of all processes'; returns the sum of their losses."""
        if self.count == 1:
            return loss
        trained = [parameter for parameter in parameters if parameter.grad is not None]
        flat = torch.cat([*(parameter.grad.flatten() for parameter in trained), loss[None]])
        distributed.all_reduce(flat)
        *gradients, loss = flat.split([*(parameter.numel() for parameter in trained), 1])
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return loss[0]


def is_first() -> bool:
    """Whether this process is the one that writes."""
    return int(os.environ.get("RANK", 0)) == 0


def join() -> Processes:
    """Meets the other processes of a launched training; alone where none was launched.

    DataError where a machine's processes outnumber its GPUs. One process takes one GPU.
    """
    rank, count = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    here, number = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cpu")
    keep_freed_memory()
    if torch.cuda.is_available():
        if here > torch.cuda.device_count():
            raise DataError(
                f"{here} processes for {torch.cuda.device_count()} GPUs: start as many as GPUs"
            )
        device = torch.device("cuda", number)
        torch.cuda.set_device(device)
    if count > 1 and not distributed.is_initialized():
        distributed.init_process_group()  # gloo for what is on the CPU, NCCL for GPUs
    return Processes(rank, count, device)


def keep_freed_memory():
    """Keeps glibc from returning each step's memory to the system, to fault it in again at the next."""
    with suppress(OSError, AttributeError):  # another libc
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD, at its largest
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD


def share_of(rows: int, count: int) -> int:
    """How many of a pass's `rows` sequences each of `count` processes takes."""
    if rows % count:
        raise DataError(f"rows: {rows} is no multiple of the {count} processes")
    return rows // count


def launch(count: int, rows: int):
    """Runs this command in `count` processes and ends as they do; returns where it is one of them.

    rows: of one pass, see `share_of`.
    """
    if count == 1 or "LOCAL_RANK" in os.environ:
        return
    share_of(rows, count)
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = ["--standalone", f"--nproc-per-node={count}", "--module", "muxplm", *sys.argv[1:]]
    try:
        run.run(run.parse_args(options))
    except ChildFailedError as error:
        sys.exit(error.get_first_failure()[1].exitcode)
    except SignalException as signal:
        sys.exit(128 + signal.sigval)
    sys.exit(0)
