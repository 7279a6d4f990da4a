"""Where it runs, and how exactly: float32, or bfloat16 where that is faster here."""

import os
import time
from functools import cache

import torch
from torch.nn import functional as F


def choose_device(name: str | None = None) -> torch.device:
    """cuda, mps or cpu, the first that is there; `name` overrides. Raises ValueError if `name` is not there.

    Of several processes on a machine each has a GPU of its own.
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
    """Whether this device multiplies bfloat16 in hardware; where it does not, autocast only costs."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


@cache
def bfloat16_pays(device: torch.device) -> bool:
    """Measured, in about a tenth of a second: whether a convolution and a matrix product are faster in bfloat16."""
    if not native_bfloat16(device):
        return False
    x, w = torch.ones(1, 512, 1024, device=device), torch.ones(512, 512, 3, device=device)  # no draw of a user's

    def seconds(kind: torch.dtype) -> float:
        a, b, times = x.to(kind), w.to(kind), []
        for _ in range(6):
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            started = time.perf_counter()
            value = F.conv1d(a, b, padding=1).mT @ b[..., 0]
            value.sum().item()  # an accelerator has to be waited for
            times.append(time.perf_counter() - started)
        return min(times[1:])

    with torch.no_grad():
        return seconds(torch.bfloat16) < 0.9 * seconds(torch.float32)


def set_gpu_precision(precision: str) -> None:
    """What a GPU may do in this process: with "float32" the same sum every time, with "fast" TF32 as well.

    Other words change nothing. For a command: a library does not set what belongs to the whole process.
    """
    if precision not in ("float32", "fast"):
        return
    fast = precision == "fast"
    torch.backends.cuda.matmul.allow_tf32 = fast
    torch.backends.cudnn.allow_tf32 = fast
    torch.backends.cudnn.deterministic = not fast
    torch.backends.cudnn.benchmark = fast


def chosen(precision: str, device: torch.device) -> torch.dtype:
    """bfloat16 with "auto" where the hardware has it, with "fast" where it was measured to pay; else float32."""
    pays = {"auto": native_bfloat16, "fast": bfloat16_pays}.get(precision)
    return torch.bfloat16 if pays is not None and pays(device) else torch.float32


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """What is wrapped in it multiplies in the `chosen` precision.

    Not accelerate's own: its precision is the same for a whole process, and a second model may want another.
    """
    return torch.autocast(device.type, torch.bfloat16, chosen(precision, device) == torch.bfloat16)
