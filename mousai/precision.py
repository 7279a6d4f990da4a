"""Where it runs, and bfloat16 where the hardware multiplies it."""

import torch


def choose_device(name: str | None = None) -> torch.device:
    """cuda, mps or cpu, the first that is there; `name` overrides. Raises ValueError if `name` is not there."""
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    if name is None:
        return torch.device(available[0])
    if name.split(":")[0] not in available:
        raise ValueError(f"device {name!r} is not available: this machine has {', '.join(available)}")
    return torch.device(name)


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
