"""Gradient checkpointing (Chen et al. 2016): what a block computes on the way there is forgotten, and computed again on
the way back.

Of each block only its input is kept for the gradients, which stay the same; a step costs one more pass through the
blocks, a quarter more operations at the paper's size (`mousai plan`). Sampling keeps nothing anyway and is as before.
"""

from torch import is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint


class Recomputed(nn.Module):
    """A block that forgets what it computed, where `recompute` is set and gradients are wanted. It draws no noise."""

    recompute = False

    def __call__(self, *args):
        if self.recompute and is_grad_enabled():
            return checkpoint(super().__call__, *args, use_reentrant=False, preserve_rng_state=False)
        return super().__call__(*args)


def recompute(model: nn.Module, on: bool) -> None:
    """Whether the blocks of `model` forget: the outermost, for what is inside one is computed again with it."""
    for module in model.children():
        if isinstance(module, Recomputed):
            module.recompute = on
        else:
            recompute(module, on)
