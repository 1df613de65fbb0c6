"""Inference with random weights and ids: multiplexing beside what else makes a CPU answer faster.

{BERT, T-MUX, MUX-BERT, contextual, pruned} x N x {sequence, token} x {fp32, bf16, int8} x {torch,
onnxruntime}, all of one size and task in one process and in each round. On a GPU torch alone, in fp32
and bf16.
"""

import copy
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from muxplm.benchmarks.shapes import SIZES, base_config
from muxplm.benchmarks.textbook import KINDS, time_versions
from muxplm.engines import FILE, OnnxModel
from muxplm.evaluation.throughput import device_name, speedup, time_interleaved
from muxplm.files import write_json
from muxplm.models.build import new_model
from muxplm.models.first_positions import read_first_positions
from muxplm.precision import autocast, for_inference, has_bf16
from muxplm.tracing import save, trace

PRECISIONS = {"torch": ("fp32", "bf16", "int8"), "onnxruntime": ("fp32", "int8")}
MICRO_BATCHES = (2, 4, 8, 16, 32)  # rows of the encoder
SWEEP_ROUNDS = 2


class Run(NamedTuple):
    """One model as it is timed."""

    family: str
    n: int
    engine: str
    precision: str


@dataclass(frozen=True)
class Plan:
    """What is timed. BERT, at N = 1, is in any case."""

    families: tuple[str, ...] = ("tmux", "mux-bert")
    n_values: tuple[int, ...] = (2, 10)
    tasks: tuple[str, ...] = ("sequence",)
    sizes: tuple[str, ...] = ("base",)
    precisions: tuple[str, ...] = ("fp32", "bf16", "int8")
    engines: tuple[str, ...] = ("torch", "onnxruntime")
    rounds: int = 3
    batch: int = 60
    length: int = 128

    def models(self) -> list[tuple[str, int]]:
        found = [(f, n) for f in self.families for n in self.n_values if n > 1]
        alone = [("pruned", 1)] if "pruned" in self.families else []
        return [("bert", 1), *alone, *found]

    def numbers(self, engine: str) -> list[str]:
        """The precisions that this machine computes in this engine."""
        native = {"fp32": True, "bf16": has_bf16(), "int8": _device().type == "cpu"}
        if engine != "torch" and _device().type != "cpu":
            return []
        return [p for p in PRECISIONS[engine] if p in self.precisions and native[p]]


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def run_benchmark(output: str, plan: Plan, tricks: bool):
    """Writes all measurements to `output`, their picture beside it, and prints them.

    tricks: whether MUX-BERT's passes are also timed against the formulas as they are written.
    """
    from muxplm.benchmarks.inference_report import report, write_picture

    result = {
        "device": device_name(_device()),
        "threads": torch.get_num_threads(),
        "plan": asdict(plan),
        "parts": [measure(task, size, plan) for size in plan.sizes for task in plan.tasks],
        "tricks": [
            version | {"size": size}
            for size in plan.sizes
            for task in plan.tasks
            for precision in plan.numbers("torch")
            if tricks and precision != "int8"
            for version in time_versions(
                *(task, precision, max(plan.n_values), plan.rounds, plan.batch, plan.length),
                *(SIZES[size], _device()),
            )
        ],
    }
    write_json(output, result)
    write_picture(result, Path(output).with_suffix(".png"))
    print(report(result))


def measure(task: str, size: str, plan: Plan, base: dict | None = None) -> dict:
    """All runs of one task and size (`base`: of other shapes), each at once and at its best."""
    base = base or SIZES[size]
    torch.manual_seed(0)
    ids = torch.randint(base["vocab_size"], (plan.batch, plan.length)).to(_device())
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        made = {}
        for family, n in plan.models():
            torch.manual_seed(0)
            model = new_model(KINDS[task], base_config(n, base, family)).eval()
            for engine in plan.engines:
                for precision, answer in MAKERS[engine](model, plan.numbers(engine), folder):
                    made[Run(family, n, engine, precision)] = answer
        best = {run: best_micro_batch(answer, ids, run.n) for run, answer in made.items()}
        whole = {run: partial(answer, ids) for run, answer in made.items()}
        parts = {run: partial(in_chunks, made[run], ids, best[run] * run.n) for run in made}
        at_once, at_best = (time_interleaved(passes, plan.rounds, 1) for passes in (whole, parts))
    berts = (run for run in made if run.family == "bert")
    fastest = min(berts, key=lambda run: median(at_best[run]))
    operations = {model: count(task, base, *model, plan.length) for model in plan.models()}
    entries = []
    for run in made:
        bert = Run("bert", 1, run.engine, run.precision)
        bound = operations["bert", 1] / operations[run.family, run.n]
        entries.append(
            run._asdict()
            | {"bound": bound, "best_micro_batch": best[run]}
            | {"at_once": summary(at_once, run, plan.batch, bert=bert)}
            | {"at_best": summary(at_best, run, plan.batch, bert=bert, fastest=fastest)}
        )
    return {"task": task, "size": size, "fastest": fastest._asdict(), "runs": entries}


def summary(seconds: dict, run: Run, batch: int, **references: Run) -> dict:
    """Instances a second, and the ratio to each reference, round by round."""
    ratios = {f"over_{name}": speedup(seconds, run, other) for name, other in references.items()}
    return {"instances_per_second": batch / median(seconds[run])} | ratios


# --- Models, as they are served ----------------------------------------------------------------


def in_torch(model: nn.Module, precisions: list[str], folder):
    """A copy for each precision. BERT is transformers' own; ours reads its last layer where it must."""
    for precision in precisions:
        own = copy.deepcopy(model).to(_device())
        if hasattr(own, "of_sequences") and own.of_sequences:
            read_first_positions(own)
        yield precision, partial(_logits, for_inference(own, precision), precision)


def _logits(model, precision, ids):
    with autocast(precision, ids.device.type):
        return model(ids).logits  # nothing is padded, so no mask: the fastest path of either model


def in_onnxruntime(model: nn.Module, precisions: list[str], folder):
    program = trace(model) if precisions else None
    for precision in precisions:
        with tempfile.TemporaryDirectory(dir=folder) as draft:  # the engine keeps no file open
            save(program, Path(draft, FILE), precision)
            model.config.save_pretrained(draft)
            engine = OnnxModel(draft)
        yield precision, partial(_answer, engine)


def _answer(engine: OnnxModel, ids):
    return engine(input_ids=ids, attention_mask=torch.ones_like(ids))["logits"]


MAKERS = {"torch": in_torch, "onnxruntime": in_onnxruntime}


# --- Measures ----------------------------------------------------------------------------------


def in_chunks(answer: Callable, ids, size: int):
    """All of ids (R, L), `size` rows at a time."""
    for part in ids.split(size):
        answer(part)


def best_micro_batch(answer: Callable, ids, n: int) -> int:
    """The rows of the encoder, of MICRO_BATCHES, at which a row takes least time.

    Timed on one such batch each, not on all instances: a sweep over these takes longer than the rest.
    """
    most = -(-len(ids) // n)
    sizes = sorted({min(m, most) for m in MICRO_BATCHES} | {most})
    passes = {m: partial(answer, ids[: m * n]) for m in sizes}
    seconds = time_interleaved(passes, SWEEP_ROUNDS, 1)
    return min(sizes, key=lambda m: min(seconds[m]) / m)


def count(task: str, base: dict, family: str, n: int, length: int) -> float:
    """Floating-point operations of one instance's products of matrices, as served by torch."""
    with torch.device("meta"):
        model = new_model(KINDS[task], base_config(n, base, family)).eval().requires_grad_(False)
        ids = torch.zeros(n, length, dtype=torch.long)
    if n > 1 and model.of_sequences:
        read_first_positions(model)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(ids)
    return counter.get_total_flops() / n
