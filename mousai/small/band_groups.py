"""One 1-D U-Net for all bands: groups of neighbouring bands are its batch items (ours).

With bands as channels each band learns its own rotation from frame to frame by itself, and the network learned nothing
in hours; shared, all bands teach one network (docs/small_stage_1.md).
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

Groups = Float[Tensor, "batch _ _ _"]  # groups, numbers, frames


class BandGroups(nn.Module):
    """Cuts an octave's bands into groups of `size`, with `halo` more on each side, mid and side together.

    What reaches the U-Net by inject is made here too: log g of the group's bands, `context` numbers from z, and
    `features` learned numbers that say which group it is. `octaves` as for `MagnitudeHead`; bands divide by `size`.
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
        """[batch, 2 x bands, frames] -> [batch, groups, 2 x (size + 2 halo), frames]; silence beyond the octave."""
        padded = F.pad(octave.unflatten(1, (2, -1)), (0, 0, self.halo, self.halo))
        windows = padded.unfold(2, self.size + 2 * self.halo, self.size)  # [batch, 2, groups, frames, window]
        return windows.permute(0, 2, 1, 4, 3).flatten(2, 3)

    def join(self, groups: Groups) -> Octave:
        """The groups' own bands side by side again, their halos dropped."""
        own = groups.unflatten(2, (2, -1))[:, :, :, self.halo : self.halo + self.size]
        return own.transpose(1, 2).flatten(1, 3)

    def latents(self, log_g: Bands, h: Hidden) -> list[Groups]:
        """What each group is given by inject, octave by octave."""
        found, first = [], 0
        for octave, count, layer in zip(log_g, self.counts, self.to_context, strict=True):
            sizes = self.split((octave + 2) / 2)
            shape = (len(sizes), count, -1, sizes.shape[-1])
            which = self.embedding.weight[first : first + count, :, None].expand(shape)
            found.append(torch.cat([sizes, layer(h)[:, None].expand(shape), which], dim=2))
            first += count
        return found


def network_input(groups: Groups) -> Groups:
    """The noisy bands of unit size, and their log energies: a band's variance shows in its neighbours' energies."""
    return torch.cat([groups, (torch.log(groups.square() + 0.03) + 1) / 2], dim=2)


def network_answer(change: Groups, groups: Groups) -> Groups:
    """v_hat = added + factor x: least squares found what is to be learned in products of a band and energies."""
    added, factor = change.chunk(2, dim=2)
    return added + factor * groups
