"""A training step as it is taken here beside the plain one, and the memory that it takes.

Plain is what the formulas say: float32, logits of every position, the whole last layer, AdamW operation
by operation. Both train the same model, with random weights and ids, side by side.
"""

from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import pandas
import torch
from torch.nn import functional as F
from torch.profiler import profile
from torch.utils.flop_counter import FlopCounterMode

from muxplm.benchmarks.shapes import BASE, base_config
from muxplm.data.collation import MaskTokens
from muxplm.evaluation.throughput import device_name, speedup, time_interleaved
from muxplm.files import write_json
from muxplm.models.build import new_model
from muxplm.models.first_positions import read_first_positions
from muxplm.models.modeling import IGNORED
from muxplm.precision import has_bf16
from muxplm.training.loop import adamw, take_step
from muxplm.training.processes import join
from muxplm.training.rows import Rows

MASK_RATE = 0.15
RECIPE = SimpleNamespace(learning_rate=1e-4, weight_decay=0.01, adam_epsilon=1e-8)
# The default preset's base size and a wider one; at the paper's own plain logits take 24 GB at N = 10.
SMALL = {
    "model_type": "bert",
    "vocab_size": 1000,
    "hidden_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 256,
    "max_position_embeddings": 64,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
}
WIDER = {
    "vocab_size": 8192,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "intermediate_size": 1024,
}
SHAPES = {  # an encoder, rows of it, their length, and the objectives that are timed
    "2x128": (SMALL, 32, 32, ("mlm", "classification")),
    "4x256": (SMALL | WIDER, 16, 64, ("mlm", "classification")),
    "12x768": (BASE, 8, 512, ("mlm",)),
}
LARGE = "12x768"  # without a plain step beside it


def run_benchmark(output: str, rounds: int, shapes, n_values, profiled: bool = False):
    """Writes all measurements to `output` and prints them.

    profiled: each step is taken once more under torch's profiler.
    """
    device = join().device
    precisions = ["fp32", "bf16"] if has_bf16() else ["fp32"]
    result = {
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "rounds": rounds,
        "products": {precision: rate_of_products(precision, device) for precision in precisions},
        "steps": [
            entry
            for shape in shapes
            for objective in SHAPES[shape][3]
            for n in n_values
            for entry in time_steps(shape, objective, n, precisions, rounds, profiled)
        ],
        "data": rate_of_data(),
        "memory": {precision: peaks(precision) for precision in precisions},
    }
    write_json(output, result)
    print(report(result))


# --- Steps -------------------------------------------------------------------------------------


def time_steps(shape, objective, n, precisions, rounds, profiled=False) -> list[dict]:
    """Seconds of a step in each precision, and of a plain one; floating-point operations a second."""
    encoder, rows, length, _ = SHAPES[shape]
    processes = join()
    batch = make_batch(objective, encoder["vocab_size"], rows * n, length, processes.device)
    runs = {} if shape == LARGE else {"plain": plain_step(objective, n, encoder, batch)}
    for precision in precisions:
        runs[precision] = own_step(objective, n, encoder, batch, precision)
    operations = {}
    for name, run in runs.items():
        with FlopCounterMode(display=False) as counter:
            run()
        operations[name] = counter.get_total_flops()
    seconds = time_interleaved(runs, rounds, 1)
    shared = {"shape": shape, "objective": objective, "n": n, "rows": rows, "length": length}
    return [
        shared
        | {"step": name, "seconds": median(seconds[name])}
        | {"operations_per_second": operations[name] / median(seconds[name])}
        | {"of_plain": speedup(seconds, "plain", name) if "plain" in runs else None}
        | ({"profile": shares(run)} if profiled else {})
        for name, run in runs.items()
    ]


def shares(run, most: int = 8) -> dict[str, float]:
    """By operation, the part of one step's time that is spent in it itself; the largest first."""
    with profile() as profiler:
        run()
    on_gpu = torch.cuda.is_available()
    spent = {
        event.key: event.self_device_time_total if on_gpu else event.self_cpu_time_total
        for event in profiler.key_averages()
    }
    largest = sorted(spent, key=spent.get, reverse=True)[:most]
    return {name: spent[name] / sum(spent.values()) for name in largest}


def make_batch(objective, vocabulary, rows, length, device) -> dict:
    """Random ids (rows, length); the same number of masked tokens in each row, or two classes."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary, (rows, length), generator=generator).to(device)
    if objective == "mlm":
        labels = torch.full_like(ids, IGNORED)
        masked = round(MASK_RATE * length)
        labels[:, 1 : 1 + masked] = ids[:, 1 : 1 + masked]
        return {"input_ids": ids, "labels": labels}
    return {"input_ids": ids, "labels": torch.arange(rows, device=device) % 2}


def own_step(objective, n, encoder, batch, precision):
    """The step of training/loop.py, on one part."""
    processes, model = join(), fresh(objective, n, encoder)
    if objective == "classification":
        read_first_positions(model)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = adamw(parameters, RECIPE)
    for group in optimizer.param_groups:
        group["lr"] = RECIPE.learning_rate
    parts = [(batch, np.array([(batch["labels"] != IGNORED).sum().item(), 0]))]
    return partial(take_step, model, parameters, optimizer, parts, processes, precision)


def plain_step(objective, n, encoder, batch):
    model = fresh(objective, n, encoder)
    model.sparse_prediction = False
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    lr, eps, decay = RECIPE.learning_rate, RECIPE.adam_epsilon, RECIPE.weight_decay
    optimizer = torch.optim.AdamW(parameters, lr, eps=eps, weight_decay=decay, foreach=False)

    def step():
        logits = model(batch["input_ids"]).logits  # (R, L, V) or (R, labels)
        loss = F.cross_entropy(logits.flatten(0, -2), batch["labels"].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def fresh(objective, n, encoder):
    torch.manual_seed(0)
    return new_model(objective, base_config(n, encoder)).to(join().device).train()


def rate_of_products(precision: str, device, size: int = 2048, rounds: int = 10) -> float:
    """Floating-point operations a second of a product of two square matrices: the machine's bound."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = time_interleaved({"product": lambda: left @ right}, rounds, 1)["product"]
    return 2 * size**3 / min(seconds)


# --- Data --------------------------------------------------------------------------------------


def rate_of_data(rows: int = 2560, length: int = 512, rounds: int = 10) -> float:
    """Tokens a second that one process draws, masks and stacks, beside the steps: one thread."""
    vocabulary, start = Vocabulary(), count()
    random = np.random.default_rng(0)
    blocks = random.integers(5, len(vocabulary), (8 * rows, length), dtype=np.uint16)
    drawn = Rows(blocks, MaskTokens(vocabulary, MASK_RATE), 10, seed=0)

    def draw():
        drawn.batch(next(start) * rows, rows)

    return rows * length / median(time_interleaved({"rows": draw}, rounds, 1)["rows"])


class Vocabulary:
    """What a collator asks a tokenizer for."""

    all_special_ids, mask_token_id = [0, 1, 2, 3, 4], 4

    def __len__(self):
        return BASE["vocab_size"]


# --- Memory ------------------------------------------------------------------------------------


def peaks(precision: str, rows: int = 30, length: int = 128, base=BASE) -> dict:
    """Peak memory of one masked-LM step at N = 1 and N = 10, each in a fresh process.

    Both at as many positions of the encoder, so that N = 10 has ten times the instances.
    """
    measured = {}
    for n in (1, 10):
        # One process per step: neither the peak nor the allocator's left-overs carry over.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peak = pool.submit(peak_of_step, n, n * rows, precision, length, base).result()
        measured[n] = {"n": n, "instances": n * rows, "mib": round(peak)}
    for step in measured.values():
        step["ratio"] = step["mib"] / measured[1]["mib"]
    return {"rows": rows, "length": length, "steps": list(measured.values())}


def peak_of_step(n, instances, precision, length, base) -> float:
    """MiB that a training step takes at most, weights and optimizer included.

    On a CPU the growth of the process since its imports, on a GPU what torch allocated there.
    """
    before, device = resident_mib("VmRSS"), join().device
    batch = make_batch("mlm", base["vocab_size"], instances, length, device)
    own_step("mlm", n, base, batch, precision)()
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    return resident_mib("VmHWM") - before


def resident_mib(field: str) -> float:
    """This process's memory now (VmRSS) or at its peak (VmHWM), from Linux.

    getrusage's ru_maxrss would not do: a process inherits it from the one that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024  # "VmHWM:   123456 kB"
    raise OSError(f"/proc/self/status has no {field}")


# --- Report ------------------------------------------------------------------------------------


def report(result: dict) -> str:
    """Markdown tables: steps and memory, where a step's time goes if it was profiled; the two rates."""
    steps, profiles = [], []
    for entry in result["steps"]:
        bound = result["products"].get(entry["step"], result["products"]["fp32"])
        ratio = entry["of_plain"]
        steps.append(
            {
                "encoder": entry["shape"],
                "rows x tokens": f"{entry['rows']} x {entry['length']}",
                "objective": entry["objective"],
                "N": entry["n"],
                "step": entry["step"],
                "ms": f"{1000 * entry['seconds']:.1f}",
                "of plain": f"{ratio['median']:.2f}" if ratio else "–",
                "low–high": f"{ratio['low']:.2f}–{ratio['high']:.2f}" if ratio else "–",
                "of the products' rate": f"{entry['operations_per_second'] / bound:.0%}",
            }
        )
        if "profile" in entry:
            parts = [f"{name} {share:.0%}" for name, share in entry["profile"].items()]
            step = {name: entry[name] for name in ("shape", "objective", "n", "step")}
            profiles.append(step | {"spent in": ", ".join(parts)})
    memory = [
        {
            "precision": precision,
            "N": step["n"],
            "instances": step["instances"],
            "peak MiB": step["mib"],
            "ratio": f"{step['ratio']:.2f}",
        }
        for precision, measured in result["memory"].items()
        for step in measured["steps"]
    ]
    tables = [pandas.DataFrame(rows) for rows in (steps, memory, profiles) if rows]
    parts = [table.to_markdown(index=False, disable_numparse=True) for table in tables]
    rates = [f"{name} {rate / 1e9:.0f}" for name, rate in result["products"].items()]
    bound = f"Products of matrices: {', '.join(rates)} billion operations a second."
    data = (
        f"Rows of 512 tokens drawn and masked: {result['data'] / 1e6:.0f} million tokens a second."
    )
    return "\n\n".join([*parts, bound, data])
