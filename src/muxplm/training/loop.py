"""The training loop: AdamW, linear warm-up and decay, clipping, accumulation, logs, checkpoints.

One loop for every stage, and for one process or several. A step sees training.rows sequences a pass
and training.accumulation passes. It is the same step, to rounding, however many processes share its rows
and however it is cut into passes: the loss of a part has the weight of the items it is a mean over.
"""

import math
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

import numpy as np
import torch
from tqdm import tqdm

from muxplm.files import DataError
from muxplm.precision import training_math
from muxplm.sections import ADAM_BETAS
from muxplm.training import checkpoints
from muxplm.training.losses import part_of_loss
from muxplm.training.processes import join, share_of
from muxplm.training.rows import Rows

CLIP = 1.0  # the largest norm of a step's gradient
EVALUATIONS = 8  # in the course of a training, evenly spaced; the last one at its end
EVALUATION_SEED = 0
TERMINATED = 128 + signal.SIGTERM


def train(
    model,
    dataset,
    collate,
    training,
    *,
    steps,
    instances,
    seed,
    precision,
    scratch,
    title,
    validation=None,
    beside=None,
):
    """Trains `model` in place; returns the logs of training and of validation loss, and the seconds.

    dataset, validation: arrays of blocks (number, L), or lists of rows. The logs are lists of {"step",
    "loss", ...}; the second is empty without `validation`. training: a `Training`, `Finetuning` or
    `Pruning` section. Checkpoints go to `scratch`; a run that was killed goes on from the last of them,
    to the same weights and logs to the bit (on a GPU as far as its kernels repeat themselves). SIGTERM
    ends the step, writes a checkpoint and exits with 143. beside: what else learns, see `Beside`.

    DataError if the processes do not divide the rows, or if the loss is no longer finite.
    """
    processes = join()
    share = share_of(training.rows, processes.count) * instances  # rows of one process in a pass
    model.to(processes.device).train()
    processes.align(model)
    beside = beside or Beside()
    others = [parameter for group in beside.groups() for parameter in group["params"]]
    apart = set(map(id, others))
    parameters = [p for p in model.parameters() if p.requires_grad and id(p) not in apart]
    optimizer = adamw(parameters, training, beside.groups())
    resumed = processes.of_first(lambda: checkpoints.last_whole(scratch, model))
    progress = checkpoints.resume(scratch, resumed, model, optimizer)
    loss = torch.tensor(progress.loss, device=processes.device)  # of the steps since the last log
    start = time.perf_counter() - progress.seconds
    log_every, evaluate_every = max(10, steps // 20), math.ceil(steps / EVALUATIONS)

    longest = (model.config.max_tokens or 1) if getattr(model, "retrieves", False) else None
    per_step = training.accumulation * processes.count
    short = getattr(training, "short", None)  # of trainings on blocks
    first = (short.steps * per_step * share, short.length) if short else (0, 0)
    rows = Rows(dataset, collate, instances, seed, longest, short=first)
    if validation is not None:
        held_out = Rows(validation, collate, instances, EVALUATION_SEED, longest, in_order=True)
        followed = held_out.parts(0, math.ceil(len(validation) / share), share, processes)

    def parts_of(step):
        return rows.parts(step * per_step, (step + 1) * per_step, share, processes)

    hidden = None if processes.rank == 0 else True  # None: where stderr is no terminal
    bar = tqdm(desc=title, total=steps, initial=progress.step, disable=hidden)

    def report(**values):
        seconds = time.perf_counter() - start
        if processes.rank == 0:
            said = ", ".join(
                f"{name.replace('_', ' ')} {value:.3f}" for name, value in values.items()
            )
            bar.write(f"{title}: step {progress.step}/{steps}, {said}, {seconds:.0f} s")
            sys.stdout.flush()

    def save():
        progress.seconds, progress.loss = time.perf_counter() - start, loss.item()
        check_finite(progress.loss + norm.item(), title, progress.step, rate)
        if processes.rank == 0:
            checkpoints.write(scratch, model, optimizer, progress)

    with ThreadPoolExecutor(1) as ahead, bar, sigterm_asks() as asked:
        coming, stopped = ahead.submit(parts_of, progress.step), False
        while progress.step < steps and not stopped:
            parts = coming.result()
            if progress.step + 1 < steps:
                coming = ahead.submit(parts_of, progress.step + 1)  # while this step computes
            reseed(processes.device, seed, progress.step, processes.rank)  # for dropout
            rate = learning_rate(training, progress.step, steps)
            for group in optimizer.param_groups[:2]:
                group["lr"] = rate
            beside.begin(progress.step, steps)
            of_step, norm = take_step(
                model, parameters, optimizer, parts, processes, precision, others
            )
            beside.end()
            loss += of_step
            progress.step += 1
            bar.update()

            if progress.step % log_every == 0 or progress.step == steps:
                since = progress.log[-1]["step"] if progress.log else 0
                entry = {"step": progress.step, "loss": loss.item() / (progress.step - since)}
                entry |= {"grad_norm": norm.item(), "learning_rate": rate}
                check_finite(entry["loss"] + entry["grad_norm"], title, progress.step, rate)
                also = beside.report()
                progress.log.append(entry | also)
                report(loss=entry["loss"], **also)
                loss.zero_()
            due = progress.step % evaluate_every == 0 or progress.step == steps
            if validation is not None and due:
                value = validation_loss(model, followed, processes, precision)
                check_finite(value, title, progress.step, rate)
                progress.validation_log.append({"step": progress.step, "loss": value})
                report(validation_loss=value)
            stopped = processes.add([asked.is_set()]).item() > 0
            # With `validation` an evaluation follows, in which a training must not be lost.
            due = progress.step % training.save_every == 0 and progress.step < steps
            if stopped or due or (progress.step == steps and validation is not None):
                save()
    if stopped:
        if processes.rank == 0:
            print(f"{title}: stopped at step {progress.step}, to go on when run again", flush=True)
        sys.exit(TERMINATED)
    return progress.log, progress.validation_log, time.perf_counter() - start


class Beside:
    """What learns beside the weights and sees each step: here nothing (`pruning.cofi` has more)."""

    def groups(self) -> list[dict]:
        """Groups of the model's parameters for the optimiser: no schedule moves their rates, and
        their gradients are not clipped."""
        return []

    def begin(self, step: int, steps: int):
        """Before the step after `step` others of `steps`."""

    def end(self):
        """After the optimiser has moved."""

    def report(self) -> dict[str, float]:
        """What the log says beside the loss."""
        return {}


def adamw(parameters, training, others=()):
    """Weight decay on matrices alone, not on biases and norms; then the groups `others`."""
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups += others
    return torch.optim.AdamW(groups, eps=training.adam_epsilon, betas=ADAM_BETAS, fused=True)


def learning_rate(training, step: int, steps: int) -> float:
    """Of the step after `step` others: linear up to training.learning_rate, then linear down to 0."""
    warmup = int(training.warmup * steps)
    if step < warmup:
        return training.learning_rate * step / warmup
    return training.learning_rate * (steps - step) / max(1, steps - warmup)


def take_step(model, parameters, optimizer, parts, processes, precision, others=()):
    """One step on `parts`, see `losses`: its loss, and the norm of its gradient before clipping.

    others: parameters whose gradients are not clipped.
    """
    own = losses(model, parts, processes, precision, backward=True)
    loss = processes.add_gradients([*parameters, *others], own)
    norm = torch.nn.utils.clip_grad_norm_(parameters, CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss, norm


def losses(model, parts, processes, precision, backward=False):
    """This process's part of the loss of all `parts` of all processes, a scalar.

    parts: pairs of a batch and what its losses are means over. With `backward`, gradients are added up.
    """
    totals = processes.add(sum((items for _, items in parts), start=np.zeros(2))).numpy()
    total = torch.zeros((), device=processes.device)
    for batch, items in parts:
        length = batch["input_ids"].shape[1]
        with training_math(precision, processes.device.type, length):
            loss = part_of_loss(model, batch, (items / np.maximum(totals, 1)).tolist())
        if backward:
            loss.backward()
        total += loss.detach()
    return total


@torch.no_grad()
def validation_loss(model, parts, processes, precision) -> float:
    model.eval()
    value = processes.add([losses(model, parts, processes, precision).item()]).item()
    model.train()
    return value


def check_finite(value: float, title, step, rate):
    if not math.isfinite(value):
        raise DataError(
            f"{title}: the loss is not finite by step {step}, learning rate {rate:.3g}: "
            "lower learning_rate or lengthen warmup"
        )


def reseed(device, *numbers):
    """Dropout's generator starts anew from these numbers."""
    (state,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64).tolist()
    cuda = device.type == "cuda"
    generator = torch.cuda.default_generators[device.index] if cuda else torch.default_generator
    generator.manual_seed(state)


@contextmanager
def sigterm_asks():
    """Yields an event that SIGTERM sets, instead of ending the process."""
    asked = Event()
    before = signal.signal(signal.SIGTERM, lambda *_: asked.set())
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
