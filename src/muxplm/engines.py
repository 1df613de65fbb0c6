"""Models run by another engine than torch: an ONNX file by onnxruntime, on the CPU.

Needs the extra `onnx`. How such a file is made: `muxplm.tracing`.
"""

from importlib import import_module
from pathlib import Path

import torch
from transformers import AutoConfig

from muxplm.files import DataError, in_one_line

FILE = "model.onnx"


class OnnxModel:
    """An ONNX folder in a model's place: `pipeline(task, model=OnnxModel(F), tokenizer=F)`.

    It runs on as many threads as torch would. Raises DataError if the folder's file is missing or
    damaged, or onnxruntime is not installed.
    """

    device = torch.device("cpu")

    def __init__(self, folder):
        onnxruntime = engine("onnxruntime", f"{folder} holds an ONNX model")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 4  # what goes wrong is raised
        file = Path(folder, FILE)
        try:
            self.session = onnxruntime.InferenceSession(file, options, ["CPUExecutionProvider"])
        except Exception as error:  # a class of its own for each kind of damage
            raise DataError(
                f"{file} cannot be read ({in_one_line(error)}): copy it again"
            ) from None
        self.config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        self.taken = [given.name for given in self.session.get_inputs()]

    def __call__(self, **inputs) -> dict[str, torch.Tensor]:
        """Ids and masks (R, L), by name -> {"logits": (R, labels) or (R, L, labels)}."""
        given = {name: inputs[name].cpu().numpy() for name in self.taken}
        return {"logits": torch.from_numpy(self.session.run(None, given)[0])}

    def to(self, device):
        """Pipelines send their model to their device; this one stays on the CPU."""
        return self


def engine(name: str, reason: str):
    """The library `name`; DataError if it is not installed, though for some reason it is wanted."""
    try:
        return import_module(name)
    except ImportError:
        raise DataError(
            f"{reason} and {name} is not installed: install it with `pip install 'muxplm[onnx]'`"
        ) from None
