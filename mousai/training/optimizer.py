"""What turns gradients into steps: the paper's AdamW, or the same with 8-bit moments; its memory as plain tensors."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mousai.config import TrainConfig

EIGHT_BIT = "adamw8bit"
OPTIMIZERS = ("adamw", EIGHT_BIT)
TABLE = 256  # numbers that a moment of 8 bits can be


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """AdamW, or that of bitsandbytes (Dettmers et al. 2022), which keeps a byte a moment instead of four.

    Raises ValueError for another name, ImportError with the mend where bitsandbytes is not installed.
    """
    if name == "adamw":
        return torch.optim.AdamW
    if name != EIGHT_BIT:
        raise ValueError(f"unknown optimizer {name!r}: choose one of {', '.join(OPTIMIZERS)}")
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError as error:
        mend = "pip install -e '.[large]', or choose --optimizer adamw"
        raise ImportError(f"optimizer {name} needs bitsandbytes, which is missing: {mend}") from error
    return AdamW8bit


def new_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """The profile's optimizer for all parameters of `model`, without memory yet."""
    kind: Any = optimizer_class(config.optimizer)
    groups = parameter_groups(model, config)
    return kind(groups, config.lr, config.betas, config.eps, weight_decay=config.weight_decay)


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """The encoder, where there is one, and the rest, each with its share of the learning rate."""
    parts: tuple[list, list] = ([], [])
    for name, parameter in model.named_parameters():
        parts[name.startswith("encoder.")].append(parameter)
    groups = ({"params": part, "share": share} for part, share in zip(parts, (1.0, config.encoder_lr_scale), strict=True))
    return [group for group in groups if group["params"]]


class OtherOptimizer(ValueError):
    """A run cannot be gone on from with this optimizer."""


def check_kind(optimizer: torch.optim.Optimizer, kept: str, path: Path) -> None:
    """Raises OtherOptimizer, with the mend, where `path` was saved by another kind: its memory would mean nothing."""
    now = type(optimizer).__name__
    if kept != now:
        mend = "go on with the --optimizer it began with, or train without --resume"
        raise OtherOptimizer(f"{path} was trained with {kept}, not {now}: {mend}")


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Its memory as "index.name" -> tensor: what safetensors can hold."""
    states = torch.optim.Optimizer.state_dict(optimizer)["state"]  # bitsandbytes' own hides some of it
    return {f"{index}.{name}": as_tensor(value) for index, state in states.items() for name, value in state.items()}


def as_tensor(value: Tensor | int) -> Tensor:
    """A count of steps becomes a tensor; a table that all 8-bit moments look into is copied, as files share nothing."""
    tensor = torch.as_tensor(value)
    return tensor.clone() if tensor.numel() <= TABLE else tensor


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """`state_tensors` undone, into an optimizer of the same kind."""
    states: dict[int, dict[str, Any]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        states.setdefault(int(index), {})[name] = tensor.item() if tensor.dtype == torch.int64 else tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
