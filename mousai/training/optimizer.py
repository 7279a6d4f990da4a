"""AdamW as in the authors' trainer, with a smaller rate for the encoder where the profile asks for one."""

import torch
from torch import Tensor, nn

from mousai.config import TrainConfig


def new_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW for all parameters of `model`. Each parameter group has "lr_scale", a factor that `Stepper` applies."""
    groups = parameter_groups(model, config.encoder_lr_scale)
    return torch.optim.AdamW(groups, config.lr, config.betas, config.eps, weight_decay=config.weight_decay)


def parameter_groups(model: nn.Module, encoder_lr_scale: float) -> list[dict]:
    """Parameter groups for AdamW: the rest, then the encoder where there is one."""
    encoder = [parameter for name, parameter in model.named_parameters() if name.startswith("encoder.")]
    rest = [parameter for name, parameter in model.named_parameters() if not name.startswith("encoder.")]
    groups = [{"params": rest, "lr_scale": 1.0}, {"params": encoder, "lr_scale": encoder_lr_scale}]
    return [group for group in groups if group["params"]]


def state_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's moments and step counts as "parameter index.name" -> tensor, for safetensors."""
    states = optimizer.state_dict()["state"]
    return {f"{index}.{name}": tensor for index, state in states.items() for name, tensor in state.items()}


def load_state_tensors(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Restore what `state_tensors` returned into an optimizer of the same parameters."""
    states: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        index, name = key.split(".")
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({**optimizer.state_dict(), "state": states})
