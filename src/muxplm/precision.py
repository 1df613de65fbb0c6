"""Which numbers a run computes with: float32, or bfloat16 where autocast finds that safe."""

import torch


def use_bf16(precision: str) -> bool:
    """True for "bf16", False for "fp32"; "auto" is bf16 where this machine computes it natively.

    A device without such instructions emulates them, several times slower than float32.
    """
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(precision: str, device_type: str) -> torch.autocast:
    """A context in which a model of float32 weights computes in `precision`.

    It keeps the weights it has cast until it is left, so enter it once around many passes.
    """
    return torch.autocast(device_type, torch.bfloat16, enabled=use_bf16(precision))
