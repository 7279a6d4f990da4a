"""One 1-D U-Net for all frequency bands: its batch items are groups of neighbouring bands (ours).

With all bands as channels, each band has to learn on its own how its phase turns from frame to frame, and the network
learned nothing in hours. When groups share one network, all bands train it (docs/small_stage_1.md).
"""

from collections.abc import Sequence
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from mousai.small.head import Hidden, StepsToFrames
from mousai.small.octaves import Bands
from mousai.small.whitening import Octave

Groups = Float[Tensor, "batch _ _ _"]  # [batch, groups, numbers per group, frames]


class BandGroups(nn.Module):
    """Cuts an octave's bands into groups of `size`, with `halo` more bands on each side; mid and side go together.

    It also makes what the U-Net gets by inject: log g of the group's bands, `context` numbers from z, and `features`
    learned numbers that say which group it is. `inside`: channels of `MagnitudeHead.hidden`. `octaves` as for
    `MagnitudeHead`; each number of bands divides by `size`.
    """

    def __init__(
        self, inside: int, octaves: Sequence[tuple[int, Fraction]], size: int, halo: int, context: int, features: int
    ):
        super().__init__()
        self.size, self.halo = size, halo
        self.counts = [bands // size for bands, _ in octaves]
        self.embedding = nn.Embedding(sum(self.counts), features)
        self.to_context = nn.ModuleList(StepsToFrames(inside, context, rate) for _, rate in octaves)

    def split(self, octave: Octave) -> Groups:
        """[batch, 2 x bands, frames] -> [batch, groups, 2 x (size + 2 halo), frames]; zeros beyond the octave."""
        padded = F.pad(octave.unflatten(1, (2, -1)), (0, 0, self.halo, self.halo))
        windows = padded.unfold(2, self.size + 2 * self.halo, self.size)  # [batch, 2, groups, frames, window]
        return windows.permute(0, 2, 1, 4, 3).flatten(2, 3)

    def join(self, groups: Groups) -> Octave:
        """The inverse of `split`: the groups' own bands side by side, without their halos."""
        own = groups.unflatten(2, (2, -1))[:, :, :, self.halo : self.halo + self.size]
        return own.transpose(1, 2).flatten(1, 3)

    def latents(self, log_g: Bands, h: Hidden) -> list[Groups]:
        """What each group gets by inject, octave by octave; `h` is what `MagnitudeHead.hidden` made of z."""
        found, first = [], 0
        for octave, count, layer in zip(log_g, self.counts, self.to_context, strict=True):
            sizes = self.split((octave + 2) / 2)
            shape = (len(sizes), count, -1, sizes.shape[-1])
            which = self.embedding.weight[first : first + count, :, None].expand(shape)
            found.append(torch.cat([sizes, layer(h)[:, None].expand(shape), which], dim=2))
            first += count
        return found


def network_input(groups: Groups) -> Groups:
    """The noisy bands and their log energies, because a band's variance shows in its neighbours' energies."""
    return torch.cat([groups, (torch.log(groups.square() + 0.03) + 1) / 2], dim=2)


def network_answer(change: Groups, groups: Groups) -> Groups:
    """v_hat = added + factor * x, because by least squares v depends on products of a band and energies."""
    added, factor = change.chunk(2, dim=2)
    return added + factor * groups
