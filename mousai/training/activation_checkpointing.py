"""Activation checkpointing (Chen et al. 2016): a block's activations are computed again in the backward pass.

Only the input of each block is kept in memory; the gradients stay the same. A step costs one more forward pass, about
a quarter more operations at the paper's size (`mousai plan`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from mousai.dmae import ResnetIn
from mousai.unet import Group, Resnet

BLOCKS = (Group, Resnet, ResnetIn)


def outermost_blocks(model: nn.Module) -> Iterator[nn.Module]:
    """The `BLOCKS` of `model` that are not inside another one, because inner ones are computed again with the outer."""
    for module in model.children():
        if isinstance(module, BLOCKS):
            yield module
        else:
            yield from outermost_blocks(module)


@contextmanager
def activation_checkpointing(model: nn.Module, on: bool = True) -> Iterator[None]:
    """Within the `with` block the outermost blocks of `model` are checkpointed; afterwards the model is as before.

    The blocks draw no random numbers, so no random state is kept.
    """
    blocks = list(outermost_blocks(model)) if on else []
    for block in blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward
