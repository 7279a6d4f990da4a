"""One channel of z moved: only it, within the bounds, and what is heard of it."""

import pytest
import torch
from torch.testing import assert_close

from mousai.dmae import DMAE
from mousai.evaluation.latents import channel_changes, moved
from mousai.small.stages import new_dmae


def test_one_channel_moves_and_stays_within_what_tanh_gives():
    z = torch.tensor([[[-0.9, 0.0, 0.9], [0.1, 0.2, 0.3]]])
    assert_close(moved(z, 0, 0.5), torch.tensor([[[-0.4, 0.5, 1.0], [0.1, 0.2, 0.3]]]))
    assert_close(moved(z, 1, -2.0)[0, 1], torch.full((3,), -1.0))
    assert_close(z[0, 0], torch.tensor([-0.9, 0.0, 0.9]))


class Loudness(DMAE):
    """Noise, and the mean of channel 3 is the power of ten of its loudness; the other channels say nothing."""

    def decode(self, z, steps, generator, length=None):
        noise = 100 * torch.randn(len(z), 2, z.shape[-1] * 1024, generator=generator)
        return noise * 10 ** z[:, 3].mean(dim=-1)[:, None, None]


def test_a_channel_that_is_loudness_changes_every_band_alike_and_no_other_does(tiny, generator):
    z = 0.2 * torch.rand(1, 32, 8, generator=generator)
    changes = channel_changes(Loudness(tiny.dmae), z, 0.3, 1)
    assert changes.shape == (32, 80)
    assert_close(changes[3], torch.full((80,), 0.3), atol=1e-3, rtol=0)
    changes[3] = 0
    assert not changes.any()


@pytest.mark.parametrize("by", [0.5, -0.5])
def test_a_real_decoder_hears_a_channel(tiny, by):
    torch.manual_seed(0)
    changes = channel_changes(new_dmae(tiny.dmae).eval(), torch.zeros(1, 32, 16), by, 1)
    assert changes.isfinite().all() and changes.abs().amax(dim=1).min() > 0
