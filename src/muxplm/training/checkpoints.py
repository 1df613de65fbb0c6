"""Checkpoints of a training that may be killed at any time, by which it goes on to the same end.

`scratch/checkpoint-STEP` holds state.safetensors (weights, optimiser), progress.json (the logs so far)
and a manifest of both. It appears whole or not at all. Randomness has no state (see `rows`).
"""

import errno
import fcntl
import os
import shutil
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from muxplm import files
from muxplm.files import DataError

MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each parameter
KEPT = 2  # should one be damaged, there is the one before it
# What flock says on network disks that know no locks; there nothing keeps two trainings apart.
NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)


@dataclass
class Progress:
    """Where a training stands. `loss` is summed over the steps since the log's last entry."""

    step: int = 0
    seconds: float = 0.0
    loss: float = 0.0
    log: list = field(default_factory=list)
    validation_log: list = field(default_factory=list)


@contextmanager
def alone(scratch):
    """Waits while another process trains with `scratch`: what that one leaves may be all that is wanted.

    So a cluster's job that outlived its Snakemake and the one that is submitted in its place do not
    get into each other's way. A killed process holds nothing. DataError where one of several processes
    would have to wait, since the others cannot.
    """
    if int(os.environ.get("RANK", 0)):
        yield
        return
    lock = Path(f"{scratch}.lock")
    with files.written(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = _locked(lock, may_wait="WORLD_SIZE" not in os.environ)
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(held)


def _locked(lock: Path, may_wait: bool) -> int:
    """The descriptor of a file that no other process has locked."""
    while True:
        file = os.open(lock, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not may_wait:
                raise DataError(
                    f"{lock} is held by another training: wait for its end, then run again"
                ) from None
            print(f"{lock} is held by another training: waiting for its end", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
        # Who held it has removed it by now, and someone else may hold a new one.
        if lock.exists() and os.path.samestat(lock.stat(), os.fstat(file)):
            return file
        os.close(file)


def write(scratch, model, optimizer, progress: Progress):
    """Adds a checkpoint and removes all but the last two. DataError if the disk does not take it."""
    tensors = {f"model.{name}": tensor for name, tensor in _named(model).items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}.{name}"] = value
    tensors = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
    folder = Path(scratch) / f"checkpoint-{progress.step}"
    with files.atomic_folder(folder) as draft:
        save_file(tensors, draft / "state.safetensors")
        files.write_json(draft / "progress.json", asdict(progress))
        files.write_manifest(draft)
    for folder in _checkpoints(scratch)[:-KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def last_whole(scratch, model) -> int:
    """The step of the newest checkpoint that is whole and fits `model`; 0 if there is none.

    Each that is not is named in a line on stderr.
    """
    for folder in reversed(_checkpoints(scratch)):
        try:
            files.check_manifest(folder)
            _read(folder, model)
            return _step(folder)
        except (DataError, SafetensorError, OSError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            print(f"checkpoint {folder} is passed over: {reason}", file=sys.stderr, flush=True)
    return 0


def resume(scratch, step: int, model, optimizer) -> Progress:
    """Fills model and optimiser from the checkpoint of a step that `last_whole` found; 0: from none."""
    if not step:
        return Progress()
    progress, tensors = _read(Path(scratch) / f"checkpoint-{step}", model)
    with torch.no_grad():
        for name, tensor in _named(model).items():
            tensor.copy_(tensors[f"model.{name}"])
    for name, parameter in model.named_parameters():
        for key in MOMENTS:
            if (tensor := tensors.get(f"{key}.{name}")) is not None:
                optimizer.state[parameter][key] = tensor.to(parameter.device, copy=True)
    return progress


def discard(scratch):
    """Removes a finished training's checkpoints, and the lock that a killed process left."""
    shutil.rmtree(scratch, ignore_errors=True)
    Path(f"{scratch}.lock").unlink(missing_ok=True)


def _named(model) -> dict:
    """Everything that a model holds, tied weights once."""
    return dict(model.named_parameters()) | dict(model.named_buffers())


def _read(folder: Path, model):
    progress = Progress(**files.read_json(folder / "progress.json"))
    tensors = load_file(folder / "state.safetensors")
    for name, tensor in _named(model).items():
        found = tensors.get(f"model.{name}")
        if found is None or found.shape != tensor.shape:
            raise DataError(f"it holds no {name} of the shape {tuple(tensor.shape)}")
    kept = [[f"{key}.{name}" in tensors for key in MOMENTS] for name, _ in model.named_parameters()]
    if [True] * 3 not in kept or any(any(keys) and not all(keys) for keys in kept):
        raise DataError("it lacks some of the optimiser's state")
    return progress, tensors


def _checkpoints(scratch) -> list[Path]:
    folders = Path(scratch).glob("checkpoint-*")
    return sorted((f for f in folders if f.name.partition("-")[2].isdigit()), key=_step)


def _step(folder: Path) -> int:
    return int(folder.name.partition("-")[2])
