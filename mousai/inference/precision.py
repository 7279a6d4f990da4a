"""The device to run on, and its precision: float32, or bfloat16 where that is faster (ours)."""

import os
import time
from functools import cache

import torch
from torch.nn import functional as F


def choose_device(name: str | None = None) -> torch.device:
    """The device `name`, by default the first of cuda, mps and cpu that exists. Raises ValueError if it does not.

    Where several processes train on a machine (`LOCAL_RANK` is set), "cuda" is each process's own GPU.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available.insert(0, "cuda")
    name = name or available[0]
    if name.split(":")[0] not in available:
        raise ValueError(f"device {name!r} is not available: this machine has {', '.join(available)}")
    mine = os.environ.get("LOCAL_RANK") if name == "cuda" else None
    return torch.device(name if mine is None else f"cuda:{mine}")


def native_bfloat16(device: torch.device) -> bool:
    """Whether this device multiplies bfloat16 in hardware; elsewhere autocast only costs time."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Whether bfloat16 is over 10 % faster in a convolution and a product, measured in about a tenth of a second."""
    if not native_bfloat16(device):
        return False
    x, w = torch.ones(1, 512, 1024, device=device), torch.ones(512, 512, 3, device=device)  # not random: keeps seeds

    def seconds(kind: torch.dtype) -> float:
        a, b, times = x.to(kind), w.to(kind), []
        for _ in range(6):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            value = F.conv1d(a, b, padding=1).mT @ b[..., 0]
            value.sum().item()  # waits until an accelerator is done
            times.append(time.perf_counter() - started)
        return min(times[1:])

    with torch.no_grad():
        return seconds(torch.bfloat16) < 0.9 * seconds(torch.float32)


def set_gpu_precision(precision: str) -> None:
    """Set what GPUs do in this whole process: "float32" is repeatable, "fast" is not and allows TF32.

    Other values change nothing. Only commands call it, because a library must not change settings of the process.
    """
    if precision not in ("float32", "fast"):
        return
    fast = precision == "fast"
    torch.backends.cuda.matmul.allow_tf32 = fast
    torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cudnn.deterministic = not fast
    torch.backends.cudnn.benchmark = fast


def chosen(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 for "auto" if the hardware has it, and for "fast" if it is measured to be faster; else float32."""
    pays = {"auto": native_bfloat16, "fast": bfloat16_pays}.get(precision)
    return torch.bfloat16 if pays is not None and pays(device) else torch.float32


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which torch multiplies in the `chosen` precision.

    accelerate's own is not used, because its precision holds for a whole process, and two models may differ.
    """
    return torch.autocast(device.type, torch.bfloat16, chosen(precision, device) == torch.bfloat16)
