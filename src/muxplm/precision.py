"""Which numbers a run computes with: float32, or bfloat16 where autocast finds that safe, or int8."""

import warnings
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from muxplm.files import DataError

SHORT = 256  # tokens, up to which attention in single operations trains faster (`training_math`)


def has_bf16() -> bool:
    """True where this machine has instructions for bfloat16; elsewhere they are emulated, slowly."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def use_bf16(precision: str) -> bool:
    """True for "bf16", False for "fp32" and "int8"; "auto" is bf16 where this machine is faster in it.

    An Intel CPU that has AVX-512's instructions alone, without AMX, multiplies with them at half of
    float32's rate, AMD's at twice of it: `muxplm benchmark training` shows both.
    """
    if precision != "auto":
        return precision == "bf16"
    cpu = not torch.cuda.is_available()
    if cpu and not torch.cpu._is_amx_tile_supported() and "AuthenticAMD" not in _cpuinfo():
        return False
    return has_bf16()


def _cpuinfo() -> str:
    """What Linux says of its processors; nothing elsewhere. torch does not tell whose they are."""
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def autocast(precision: str, device_type: str) -> torch.autocast:
    """A context in which a model of float32 weights computes in `precision`."""
    return torch.autocast(device_type, torch.bfloat16, enabled=use_bf16(precision))


@contextmanager
def training_math(precision: str, device_type: str, length: int):
    """`autocast` for a training's passes over sequences of `length` tokens.

    The backward pass of torch's fused attention takes a CPU six times as long in bfloat16 as in
    float32, more than all that bfloat16 gains in a small model: docs/benchmarks.md.
    """
    fused = device_type != "cpu" or not use_bf16(precision) or length > SHORT
    attention = nullcontext() if fused else sdpa_kernel(SDPBackend.MATH)
    with autocast(precision, device_type), attention:
        yield


def cast_weights(model: torch.nn.Module, precision: str) -> torch.nn.Module:
    """`model` for inference under `autocast`: linear weights are cast now, not at every pass.

    The results are the same to the bit. Autocast's casts cost as much for one row as for many, so
    they weigh N times more on a multiplexed model.
    """
    if use_bf16(precision):
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.bfloat16()
    return model


def quantised(model: torch.nn.Module) -> torch.nn.Module:
    """`model` with linear layers in int8 by torch's dynamic quantisation: a copy, for a CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is to move to another package
        kinds = {torch.nn.Linear}
        return torch.ao.quantization.quantize_dynamic(model, kinds, dtype=torch.qint8)


def for_inference(model: torch.nn.Module, precision: str) -> torch.nn.Module:
    """`model` with weights as `precision` has them ("fp32", "bf16", "int8", "auto"), to be run under
    `autocast` of the same. DataError for int8 beside a GPU: torch computes it on a CPU alone.
    """
    if precision == "int8" and torch.cuda.is_available():
        raise DataError("int8 runs on a CPU and this machine has a GPU: leave it out of precisions")
    return quantised(model) if precision == "int8" else cast_weights(model, precision)
