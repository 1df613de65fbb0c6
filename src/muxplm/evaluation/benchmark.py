"""Speed and memory at the paper's base size, with random weights and ids: it needs no data.

Two claims are checked. A forward pass over the same instances is nearly N times faster than plain
BERT's, and a masked-LM training step at N = 10 takes little more memory than one at N = 1.
"""

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch
from transformers import AutoConfig

from muxplm.evaluation.throughput import (
    device_name,
    prepare_model,
    speedup,
    time_models,
)
from muxplm.files import write_json
from muxplm.models.build import new_model
from muxplm.models.modeling import IGNORED
from muxplm.precision import autocast, use_bf16

# BERT base, with its own vocabulary: the paper's reference, and the encoder of MUX-BERT base.
BASE = {
    "model_type": "bert",
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
}
MICRO_BATCHES = (4, 8, 16, 32)  # rows of the encoder
MASK_RATE = 0.15
LENGTH = 128

# At least this many times plain BERT's speed, by N, and at most this multiple of its memory.
SPEED_TARGETS = {2: 1.9, 5: 4.7, 10: 9.3}
MEMORY_TARGET = 1.6


def run_benchmark(output: str, precision: str, rounds: int, batch: int):
    """Writes all measurements to `output` and prints them; "auto": in each native precision."""
    if precision == "auto":
        precisions = ["fp32", "bf16"] if use_bf16("auto") else ["fp32"]
    else:
        precisions = [precision]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    result = {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "memory": {name: benchmark_memory(name) for name in precisions},
        "forward": {name: benchmark_forward(name, rounds, batch) for name in precisions},
    }
    write_json(output, result)
    print_tables(result)


# --- Speed -------------------------------------------------------------------------------------


def benchmark_forward(
    precision: str,
    rounds: int,
    batch: int,
    n_values=(1, 2, 5, 10),
    length: int = LENGTH,
    base=BASE,
) -> dict:
    """Speed-ups of sequence classification over plain BERT, by N: at once and each at its best."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(base["vocab_size"], (batch, length), generator=generator).to(device)
    inputs = {"input_ids": ids}  # nothing is padded, so no mask: the fastest path of either model
    models = {n: new_model("classification", base_config(n, base)) for n in n_values}
    models = {n: prepare_model(model, precision, device) for n, model in models.items()}
    with torch.inference_mode(), autocast(precision, device):
        at_once, best, at_best = time_models(
            models, {n: n for n in models}, inputs, MICRO_BATCHES, rounds, 1
        )
    return {
        "batch": batch,
        "length": length,
        "rounds": rounds,
        "models": {
            f"n{n}": {
                "n": n,
                "target": SPEED_TARGETS.get(n),
                "seconds": median(at_once[n]),
                "speedup": speedup(at_once, n, 1),
                "best": {
                    "micro_batch": best[n],
                    "seconds": median(at_best[n]),
                    "speedup": speedup(at_best, n, 1),
                },
            }
            for n in models
        },
    }


def base_config(n: int, base: dict):
    """Plain BERT at N = 1, else MUX-BERT with its defaults: Hadamard keys and RSA."""
    if n == 1:
        return AutoConfig.for_model(**base)
    return AutoConfig.for_model("muxplm", encoder=base, num_instances=n)


# --- Memory ------------------------------------------------------------------------------------


def benchmark_memory(precision: str, rows: int = 30, length: int = LENGTH, base=BASE) -> dict:
    """Peak memory of one masked-LM training step at N = 1 and N = 10, each in a fresh process.

    "Equal positions" has two readings. Equal positions of the encoder: N = 10 has ten times the
    instances, `rows` x 10 of them. Equal positions of the instances: its encoder has a tenth.
    """
    steps = {
        "n1": (1, rows, False),
        "n1-all-scored": (1, rows, True),
        "n10-equal-encoder-positions": (10, 10 * rows, False),
        "n10-equal-instance-positions": (10, rows, False),
    }
    measured = {}
    for name, (n, instances, score_all) in steps.items():
        # One process per step: neither the peak nor the allocator's left-overs carry over.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            step = pool.submit(
                peak_of_step, n, instances, score_all, precision, length, base
            ).result()
        measured[name] = {"n": n, "instances": instances, **step}
    reference = measured["n1"]["mib"]
    for step in measured.values():
        step["ratio"] = step["mib"] / reference
    return {"rows": rows, "length": length, "target": MEMORY_TARGET, "steps": measured}


def peak_of_step(n, instances, score_all, precision, length, base) -> dict:
    """MiB that a training step takes at most, weights and optimizer included, and its loss.

    On a CPU the growth of the process since its imports, on a GPU what torch allocated there.
    """
    torch.manual_seed(0)
    before = resident_mib("VmRSS")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    ids = torch.randint(base["vocab_size"], (instances, length), device=device)
    masked = torch.rand(ids.shape, device=device) < MASK_RATE
    labels = ids.where(masked, IGNORED)
    model = new_model("mlm", base_config(n, base))
    if n == 1 and not score_all:  # as in training: only masked states reach the vocabulary
        model.cls.register_forward_pre_hook(lambda module, states: (states[0][masked],))
        labels = labels[masked]
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)  # as in training
    with autocast(precision, device):
        loss = model(input_ids=ids, labels=labels).loss
    loss.backward()
    optimizer.step()
    if device == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        peak = resident_mib("VmHWM") - before
    return {"mib": round(peak), "loss": loss.item()}


def resident_mib(field: str) -> float:
    """This process's memory now (VmRSS) or at its peak (VmHWM), from Linux.

    getrusage's ru_maxrss would not do: a process inherits it from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024  # "VmHWM:   123456 kB"
    raise OSError(f"/proc/self/status has no {field}")


# --- Report ------------------------------------------------------------------------------------


def print_tables(result: dict):
    """The targets beside what was measured, as two Markdown tables."""
    speed = [["precision", "N", "speed-up", "low–high", "best micro-batches", "target"]]
    for precision, forward in result["forward"].items():
        for model in forward["models"].values():
            ratio, best = model["speedup"], model["best"]
            speed.append(
                [
                    precision,
                    str(model["n"]),
                    f"{ratio['median']:.2f}",
                    f"{ratio['low']:.2f}–{ratio['high']:.2f}",
                    f"{best['speedup']['median']:.2f} (rows: {best['micro_batch']})",
                    f"≥ {model['target']}" if model["target"] else "reference",
                ]
            )
    memory = [["precision", "training step", "instances", "peak MiB", "ratio", "target"]]
    for precision, measured in result["memory"].items():
        for name, step in measured["steps"].items():
            target = f"≤ {measured['target']}" if step["n"] > 1 else "reference"
            cells = [step["instances"], step["mib"], f"{step['ratio']:.2f}", target]
            memory.append([precision, name, *map(str, cells)])
    for rows in (speed, memory):
        header, *body = rows
        print(
            *("| " + " | ".join(r) + " |" for r in (header, ["---"] * len(header), *body)), sep="\n"
        )
        print()
