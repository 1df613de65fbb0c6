"""Inference at the paper's base size, with random weights and ids: it needs no data.

A forward pass over the same instances is nearly N times faster than plain BERT's.
"""

from statistics import median

import pandas
import torch

from muxplm.benchmarks.shapes import BASE, base_config
from muxplm.evaluation.throughput import (
    device_name,
    prepare_model,
    speedup,
    time_models,
)
from muxplm.files import write_json
from muxplm.models.build import new_model
from muxplm.precision import autocast, use_bf16

MICRO_BATCHES = (4, 8, 16, 32)  # rows of the encoder
LENGTH = 128

# At least this many times plain BERT's speed, by N.
SPEED_TARGETS = {2: 1.9, 5: 4.7, 10: 9.3}


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
        "forward": {name: benchmark_forward(name, rounds, batch) for name in precisions},
    }
    write_json(output, result)
    print(report(result))


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


def report(result: dict) -> str:
    """The targets beside what was measured."""
    header = ["precision", "N", "speed-up", "low–high", "best micro-batches", "target"]
    rows = []
    for precision, forward in result["forward"].items():
        for model in forward["models"].values():
            ratio, best = model["speedup"], model["best"]
            rows.append(
                [
                    precision,
                    model["n"],
                    f"{ratio['median']:.2f}",
                    f"{ratio['low']:.2f}–{ratio['high']:.2f}",
                    f"{best['speedup']['median']:.2f} (rows: {best['micro_batch']})",
                    f"≥ {model['target']}" if model["target"] else "reference",
                ]
            )
    return pandas.DataFrame(rows, columns=header).to_markdown(index=False, disable_numparse=True)
