"""A classifier or tagger as an ONNX file, for any number of rows of any length. Needs the extra `onnx`.

int8 is onnxruntime's dynamic quantisation: products of a state and a weight, the weights' scales found
once, the states' as they come; all else, attention's products too, stays in float32. There is no bf16:
onnxruntime has no such products for x86.
"""

import contextlib
import copy
import logging
import warnings
from pathlib import Path

import torch
from torch import nn

from muxplm.batching import token_limit
from muxplm.engines import FILE, engine
from muxplm.files import DataError, atomic_folder
from muxplm.models.first_positions import read_first_positions
from muxplm.prediction import load
from muxplm.trained import WEIGHTS

LENGTH = 8  # tokens, at most, of the rows by which a model is traced


def convert_folder(source, destination, precision: str = "fp32"):
    """The folder of a fine-tuned model and its tokenizer as one that holds an ONNX file.

    DataError if `source` is not whole or `destination` exists.
    """
    destination = Path(destination)
    if destination.exists():
        raise DataError(f"{destination} exists: delete it or name another folder")
    answer, _ = load(source, ["text"], 1)
    with atomic_folder(destination) as draft:
        answer.model.config.save_pretrained(draft)
        answer.tokenizer.save_pretrained(draft)
        save(trace(answer.model, answer.taken), draft / FILE, precision)


def replace_weights(folder: Path, precision: str):
    """An ONNX file in the place of the folder's weights, which `muxplm.prediction.load` reads."""
    answer, _ = load(folder, ["text"], 1)
    save(trace(answer.model, answer.taken), folder / FILE, precision)
    (folder / WEIGHTS).unlink()


def trace(model, names=("input_ids", "attention_mask")):
    """`model`, multiplexed or not, as a program that `save` writes: ids and masks (R, L) to logits.

    names: of what it takes. A classifier of rows computes its last layer where it is read.
    """
    for library in ("onnx", "onnxscript", "onnxruntime"):
        engine(library, "an ONNX file was asked for")
    model = copy.deepcopy(model).cpu().float().eval()
    if "SequenceClassification" in type(model).__name__:
        read_first_positions(model)
    # torch's own attention is traced as these operations too, and one more for rows without a token.
    model.set_attn_implementation("eager")
    n = getattr(model.config, "num_instances", 1)
    length = min(LENGTH, token_limit(model.config) or LENGTH)
    example = {name: torch.ones(2 * n + 1, length, dtype=torch.long) for name in names}
    any_size = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with _quiet():
        return torch.onnx.export(
            AnyRows(model, n).eval(),
            kwargs=example,
            dynamic_shapes=dict.fromkeys(names, any_size),
            input_names=list(names),
            output_names=["logits"],
            dynamo=True,
            verbose=False,
        )


def save(program, path, precision: str):
    """Writes what was traced; precision: fp32 or int8. Quantising changes the program: int8 last."""
    if precision == "fp32":
        program.save(path)
        return
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph = program.model_proto
    # torch notes the shapes of some weights as they were before it transposed them.
    graph.graph.ClearField("value_info")
    of_weights = {"op_types_to_quantize": ["MatMul", "Gemm"], "weight_type": QuantType.QInt8}
    with _quiet():
        quantize_dynamic(graph, path, **of_weights)


class AnyRows(nn.Module):
    """A model's logits; its last group is completed as `MuxModel.encode` does it, but in the graph.

    The model asks whether a group lacks rows, and a trace would keep the answer of its one batch.
    """

    def __init__(self, model, n: int):
        super().__init__()
        self.model, self.n = model, n

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        """Ids and masks (R, L) -> (R, labels) or (R, L, labels)."""
        if self.n == 1:
            return self.model(input_ids, attention_mask, token_type_ids).logits
        rows, n = input_ids.shape[0], self.n
        row = torch.arange((rows + n - 1) // n * n)  # (B*N,)
        last = torch.full_like(row, (rows - 1) % n + 1)  # how many rows the last group has
        filler = rows - last + torch.remainder(row - rows, last)
        filled = torch.where(row < rows, row, filler)
        return self.model(input_ids[filled], attention_mask[filled]).logits[:rows]


@contextlib.contextmanager
def _quiet():
    """torch and onnxruntime advise on what was decided here, through the root logger too."""
    loggers = [logging.getLogger(name) for name in (None, "torch.onnx")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
