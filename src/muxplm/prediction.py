"""`muxplm predict`: a file of texts through a model, to a file of answers, in constant memory."""

import contextlib
import gc
import sys
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)
from transformers.utils import logging

from muxplm import rows
from muxplm.batching import token_limit
from muxplm.engines import FILE, OnnxModel
from muxplm.files import DataError, in_one_line, replacing
from muxplm.grouping import whole_groups
from muxplm.models.build import check_vocabulary, check_weights
from muxplm.models.first_positions import read_first_positions
from muxplm.precision import autocast, cast_weights

# By the end of the model's name: its class, the pipeline's name, and what the pipeline is asked for.
TASKS = {
    "ForSequenceClassification": (
        AutoModelForSequenceClassification,
        "text-classification",
        {"truncation": True},
    ),
    "ForTokenClassification": (
        AutoModelForTokenClassification,
        "token-classification",
        {"whole_words": True},
    ),
}
WINDOW = 1024  # rows, in whole groups, that are read, composed, answered and written together


def predict(model, source, output, columns, batch_size, precision, composition_seed, copies):
    """Writes `output`: the rows of `source` with `prediction` and `score`, or a tagger's `entities`.

    columns: the column of the text, or those of a text and its pair.
    composition_seed, copies: as in `muxplm.pipelines`; a seed shuffles windows of WINDOW rows.
    Raises DataError, and leaves no output, for input that cannot be read to its end.
    """
    source, output = Path(source), Path(output)
    _check_files(source, output)
    answer, settings = load(model, columns, copies)
    prepare(answer.model, precision, model)
    if composition_seed is not None:
        settings["composition_seed"] = composition_seed
    answer_file(
        answer, settings | {"copies": copies}, source, output, columns, batch_size, precision
    )


def answer_file(answer, settings, source, output, columns, batch_size, precision):
    """`predict` with the pipeline and the settings that `load` gives."""
    gc.freeze()  # what is loaded stays, so the collector need not walk it again and again
    added = ["entities"] if "whole_words" in settings else ["prediction", "score"]
    windows = rows.read(source, columns, added, whole_groups(WINDOW, answer.instances))
    try:
        with (
            replacing(output) as file,
            rows.writer(file, output.suffix, source) as write,
            tqdm(unit=" rows", disable=not sys.stderr.isatty()) as bar,
        ):
            for window in windows:
                with autocast(precision, answer.device.type):
                    found = answer.answers(_inputs(window.texts), batch_size, **settings)
                write(window, [_row(answered) for answered in found])
                bar.update(len(window))
    except OSError as error:
        raise DataError(f"{output} cannot be written ({in_one_line(error)})") from None


def _check_files(source: Path, output: Path):
    for path in (source, output):
        if path.suffix not in rows.KINDS:
            raise DataError(f"{path} is none of {', '.join(rows.KINDS)}: convert or rename it")
        if path.is_dir():
            raise DataError(f"{path} is a folder: name a file")
    if output.exists() and source.exists() and output.samefile(source):
        raise DataError(f"{output} is the input: name another file for the output")


def load(folder, columns, copies):
    """The pipeline of the model in `folder`, and what to ask of it. Texts too long for it are cut.

    DataError for a folder whose model or tokenizer is not whole: nothing is drawn that it lacks.
    """
    if not Path(folder, "config.json").is_file():
        raise DataError(f"{folder} holds no model: name a folder that has a config.json")
    try:
        with _quiet():
            task, settings, model = _read_model(folder)
            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except DataError:
        raise
    except Exception as error:  # damage comes as anything: tokenizers raises Exception itself
        raise DataError(f"{folder} is damaged ({in_one_line(error)}): copy it again") from None
    if len(tokenizer) <= len(tokenizer.all_special_ids):  # what AutoTokenizer makes of no files
        raise DataError(f"{folder} has no tokenizer: copy its files beside the model")
    check_vocabulary(model, tokenizer, folder)
    n = getattr(model.config, "num_instances", 1)
    if copies > n:
        raise DataError(f"--copies is {copies} and {folder} takes {n} texts a pass: at most {n}")
    if len(columns) > (1 if "whole_words" in settings else 2):
        raise DataError(f"{folder} does not read {len(columns)} texts a row: name fewer columns")
    if limit := token_limit(model.config):
        tokenizer.model_max_length = min(limit, tokenizer.model_max_length)
    on_gpu = torch.cuda.is_available() and not isinstance(model, OnnxModel)
    device = 0 if on_gpu else "cpu"
    return pipeline(task, model=model, tokenizer=tokenizer, device=device), settings


def _read_model(folder):
    # Else transformers asks on the terminal whether code that lies there may run.
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    title = (config.architectures or ["model"])[0]
    kind = next((end for end in TASKS if title.endswith(end)), None)
    if kind is None:
        raise DataError(f"{folder} holds a {title}, which predicts no labels: fine-tune it first")
    model_class, task, settings = TASKS[kind]
    if Path(folder, FILE).exists():
        return task, dict(settings), OnnxModel(folder)
    model, found = model_class.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True
    )
    check_weights(model, found["missing_keys"], folder)
    return task, dict(settings), model


def prepare(model, precision: str, folder):
    """`model`, read from `folder`, for passes in `precision` whose logits alone are wanted."""
    if not isinstance(model, OnnxModel):
        if type(model).__name__.endswith("ForSequenceClassification"):
            read_first_positions(model)
        cast_weights(model, precision)
    elif precision != "auto":
        raise DataError(
            f"{folder} computes in the precision it was exported in: leave --precision out"
        )


@contextlib.contextmanager
def _quiet():
    """What transformers has to say of missing weights is said here in one sentence."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _inputs(texts: list[list[str]]) -> list:
    if len(texts) == 1:
        return texts[0]
    return [{"text": a, "text_pair": b} for a, b in zip(*texts, strict=True)]


def _row(answer) -> dict:
    if isinstance(answer, dict):
        return {"prediction": answer["label"], "score": answer["score"]}
    return {"entities": answer}
