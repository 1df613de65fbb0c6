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
    """A context in which a model of float32 weights computes in `precision`."""
    return torch.autocast(device_type, torch.bfloat16, enabled=use_bf16(precision))


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
