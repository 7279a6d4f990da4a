"""bfloat16 where the hardware multiplies it."""

import torch


def native_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware; where it does not, autocast only costs."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """ "auto": bfloat16 where the hardware has it; "float32", and hardware without: nothing changes.

    Not accelerate's own: its precision is the same for a whole process, and a second model may want another.
    """
    return torch.autocast(device.type, torch.bfloat16, precision == "auto" and native_bfloat16(device))
