"""What one training step takes, without taking it: bytes at its fullest moment, and floating-point operations.

The true loss and its backward run on tensors that have shapes and no content (torch's FakeTensorMode): whatever each
operation would allocate is counted while it would live. So nothing is left out that the code does, and the paper's size
takes seconds and no memory. Not counted: what libraries take for themselves, as cuDNN's workspaces.
"""

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop, sdpa_flop
from torch.utils.weak import WeakIdKeyDictionary

from mousai.bench.paper_size import build
from mousai.config import Profile, TrainConfig
from mousai.training.activation_checkpointing import recompute
from mousai.training.optimizer import EIGHT_BIT
from mousai.unet import norm_channels_last

ATEN = torch.ops.aten
# Operations of an op's multiplications and additions; torch's own list has no attention on a CPU.
FORMULAS = flop_registry | {
    ATEN._scaled_dot_product_flash_attention_for_cpu: sdpa_flop,
    ATEN._scaled_dot_product_flash_attention_for_cpu_backward: sdpa_backward_flop,
}
BLOCK, SMALL = 256, 4096  # bitsandbytes: weights that share a scale; tensors below that size stay in 32 bits


@dataclass(frozen=True)
class Step:
    """Bytes of each part of a training step, of the step at its fullest moment, and floating-point operations.

    Gradients come while activations go, so `memory` is less than all parts; activations are what they are at most.
    """

    weights: int
    average: int
    optimizer: int
    gradients: int
    activations: int
    memory: int
    flop: int


class Live(TorchDispatchMode):
    """Counts the bytes of all storages alive, from `held` on, how many of them are gradients, and operations.

    Torch's FlopCounterMode holds on to what checkpointing lets go, so the operations are counted here.
    `peak` is the most there were, `gradients_then` the gradients among them.
    """

    def __init__(self, held: list[Tensor]):
        super().__init__()
        self.known = WeakIdKeyDictionary()
        self.now = self.peak = self.gradients = self.gradients_then = self.flop = 0
        for tensor in held:
            self.meet(tensor)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self.meet, made)
        if (formula := FORMULAS.get(func._overloadpacket)) is not None:
            self.flop += formula(*args, **(kwargs or {}), out_val=made)
        return made

    def meet(self, tensor: Tensor) -> None:
        """A storage not seen before is counted until it is gone."""
        storage = tensor.untyped_storage()
        if storage in self.known:
            return
        self.known[storage] = size = storage.nbytes()
        weakref.finalize(storage, self.forget, size)
        self.now += size
        if self.now > self.peak:
            self.peak, self.gradients_then = self.now, self.gradients

    def forget(self, size: int) -> None:
        self.now -= size

    def accumulated(self, parameter: Tensor) -> None:
        """What a parameter calls when its gradient is there."""
        assert parameter.grad is not None
        self.gradients += parameter.grad.nbytes


def reckon(stage: str, profile: Profile, batch: int, bfloat16: bool = False, gpu: bool = True) -> Step:
    """A training step of `stage`, "dmae" or "tcld", as the profile has it, after any warm start; on a GPU or a CPU.

    `bfloat16`: products and convolutions in it; weights and sums stay float32.
    """
    with torch.device("meta"):
        model, item, _, config = build(stage, profile, batch)
    with FakeTensorMode(allow_non_fake_inputs=True), as_on_a_gpu(gpu):
        model.to_empty(device="cpu").train()
        recompute(model, config.checkpointing)
        item = [torch.empty_like(tensor, device="cpu") for tensor in item]
        live = Live([*model.parameters(), *model.buffers(), *item])
        for parameter in model.parameters():
            parameter.register_post_accumulate_grad_hook(live.accumulated)
        with live:
            with torch.autocast("cpu", torch.bfloat16, bfloat16):
                loss = model(*item, torch.Generator())
            loss.backward()
        return step_of(model, config, live, gpu)


def step_of(model: nn.Module, config: TrainConfig, live: Live, gpu: bool) -> Step:
    """The two full moments of a step are in the backward, and when the optimizer has all gradients: the fuller one."""
    weights = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    moments, scratch = optimizer_bytes(model, config.optimizer, gpu)
    activations = live.peak - weights - live.gradients_then
    fullest = max(live.peak - weights, live.gradients + scratch)
    return Step(weights, weights, moments, live.gradients, activations, 2 * weights + moments + fullest, live.flop)


def optimizer_bytes(model: nn.Module, optimizer: str, gpu: bool = True) -> tuple[int, int]:
    """What it keeps, and what it takes while it updates.

    AdamW keeps two float32 a weight; on a GPU it takes the roots of all second moments at once, on a CPU two copies of
    one tensor at a time. With 8 bits two bytes a weight and a float32 for each block's scale; a CPU unpacks one tensor
    at a time: both moments, the gradient's share in each, and the step.
    """
    sizes = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    if optimizer == EIGHT_BIT:
        kept = sum(8 * n if n < SMALL else 2 * (n + 4 * -(-n // BLOCK)) for n in sizes)
        return kept, 0 if gpu else 4 * 4 * max(sizes)
    return 8 * sum(sizes), 4 * sum(sizes) if gpu else 2 * 4 * max(sizes)


@contextmanager
def as_on_a_gpu(gpu: bool) -> Iterator[None]:
    """The tensors say that they are a CPU's, as torch goes backward on no device that is not there. Where a GPU would
    do otherwise, this does as it would.
    """
    with ExitStack() as stack:
        if gpu:
            stack.enter_context(patch("mousai.unet.norm_by_products", norm_channels_last))
            stack.enter_context(NormsInFloat32())
        yield


class NormsInFloat32(TorchFunctionMode):
    """Autocast of a GPU gives norms float32, that of a CPU leaves them what they get."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.group_norm, torch.layer_norm) and torch.is_autocast_enabled("cpu"):
            args = (args[0].float(), *args[1:])
        return func(*args, **(kwargs or {}))
