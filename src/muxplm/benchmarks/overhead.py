"""What answering costs beside the model: tokenising, grouping, padding, answers, files.

Core-seconds of the whole process, less those inside the model's forward; the model is tiny.
"""

import csv
import json
import random
import tempfile
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from string import ascii_lowercase as LETTERS
from time import process_time

import pandas
import torch
from transformers import AutoConfig, BertTokenizer, pipeline

from muxplm import prediction
from muxplm.files import write_json
from muxplm.models.build import new_model

TINY = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}
TASKS = {
    "text-classification": ("classification", {"truncation": True}),
    "token-classification": ("tagging", {"whole_words": True}),
}
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
BATCH = 64


def run_benchmark(output: str, count: int, n_values: tuple[int, ...], rounds: int):
    """Writes the figures to `output` and prints them. torch has one thread: another would spin
    between its parts of such small passes, which is no work and counts as core-seconds.
    """
    torch.set_num_threads(1)
    result = {"texts": count, "rounds": rounds, "runs": measure(count, n_values, rounds)}
    write_json(output, result)
    print(report(result))


def measure(count: int, n_values, rounds: int) -> list[dict]:
    """By task, N and way: microseconds a text outside the model, and in it, medians over rounds."""
    words, texts = draw(count)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for task, n in product(TASKS, n_values):
            # At N = 1 it is multiplexed too: transformers' own models keep transformers' pipeline.
            config = AutoConfig.for_model("muxplm", encoder=dict(TINY), num_instances=n)
            model = save(Path(folder, f"{task}-{n}"), task, config, words)
            for way, answer in ways(model, task, texts, Path(folder)).items():
                outside, inside = zip(*(answer() for _ in range(rounds + 1)), strict=True)
                figures = {"outside": median(outside[1:]), "inside": median(inside[1:])}
                scaled = {name: 1e6 * seconds / count for name, seconds in figures.items()}
                found.append({"task": task, "n": n, "way": way} | scaled)
    return found


def draw(count: int) -> tuple[list[str], list[str]]:
    """3 000 words of 2 to 8 letters, and texts of 5 to 20 of them."""
    generator = random.Random(0)

    def word():
        return "".join(generator.choices(LETTERS, k=generator.randint(2, 8)))

    words = sorted({word() for _ in range(3000)})
    return words, [
        " ".join(generator.choices(words, k=generator.randint(5, 20))) for _ in range(count)
    ]


def save(folder: Path, task: str, config, words: list[str]) -> Path:
    """A model with random weights and a tokenizer of these words."""
    pieces = [*SPECIAL, *words]
    config.vocab_size = len(pieces)
    new_model(TASKS[task][0], config).save_pretrained(folder)
    names = ["input_ids", "attention_mask"]
    vocabulary = {piece: i for i, piece in enumerate(pieces)}
    BertTokenizer(vocab=vocabulary, model_input_names=names).save_pretrained(folder)
    return folder


def ways(model: Path, task: str, texts: list[str], folder: Path) -> dict:
    """Callables that answer all texts and say what it took: core-seconds outside the model, inside."""
    with open(folder / "in.csv", "w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    with open(folder / "in.jsonl", "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    answer = pipeline(task, str(model), device="cpu", batch_size=BATCH)
    found = {"the tokenizer alone": partial(timed_tokenizer, answer.tokenizer, texts)}
    found["pipeline"] = partial(timed, answer, partial(answer, texts, **TASKS[task][1]))
    for suffix in (".csv", ".jsonl"):
        found[f"predict, {suffix}"] = partial(
            timed_prediction, model, folder / f"in{suffix}", folder / f"out{suffix}"
        )
    return found


def timed(answer, run) -> tuple[float, float]:
    """Core-seconds of `run` outside and inside the passes of the pipeline `answer`."""
    inside, forward = 0.0, answer.model.forward

    def counted(*args, **kwargs):
        nonlocal inside
        start = process_time()
        try:
            return forward(*args, **kwargs)
        finally:
            inside += process_time() - start

    answer.model.forward = counted
    start = process_time()
    try:
        run()
    finally:
        answer.model.forward = forward
    return process_time() - start - inside, inside


def timed_tokenizer(tokenizer, texts: list[str]) -> tuple[float, float]:
    """The part of it that no pipeline can do without: one call of the tokenizers library."""
    start = process_time()
    tokenizer.backend_tokenizer.encode_batch(texts)
    return process_time() - start, 0.0


def timed_prediction(model: Path, source: Path, output: Path) -> tuple[float, float]:
    """The same of `muxplm predict`, without what loading the model takes."""
    answer, settings = prediction.load(model, ["text"], 1)
    files = (source, output, ["text"], BATCH, "fp32")
    return timed(answer, partial(prediction.answer_file, answer, settings, *files))


def report(result: dict) -> str:
    lines = [
        {
            "task": run["task"],
            "N": run["n"],
            "by": run["way"],
            "outside, µs a text": f"{run['outside']:.1f}",
            "in the model": f"{run['inside']:.1f}",
        }
        for run in result["runs"]
    ]
    return pandas.DataFrame(lines).to_markdown(index=False, disable_numparse=True)
