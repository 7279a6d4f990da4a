"""Seams: none where a decoder keeps the level, a dip where windows from other noise are cross-faded."""

import pytest
import torch

from mousai.evaluation import seams
from mousai.small.stages import new_dmae


def test_a_dip_in_the_overlaps_is_counted_in_decibels():
    w, inside = torch.ones(1, 2, 100), torch.zeros(100, dtype=torch.bool)
    inside[20:40] = True
    y = torch.where(inside, 0.5, 1.0) * w
    assert seams.gain_db(y, w, inside) - seams.gain_db(y, w, ~inside) == pytest.approx(-6.02, abs=0.01)


def test_overlaps_are_the_quarter_two_neighbours_see_and_not_the_last_windows(tiny):
    crop = tiny.dmae.crop
    inside = seams.overlaps(tiny, 4 * crop)
    assert (
        not inside[: 3 * crop // 4].any() and inside[3 * crop // 4 : crop].all() and not inside[crop : crop + 8].any()
    )


def test_noise_that_disagrees_loses_level_and_noise_blended_at_every_step_does_not(work, monkeypatch):
    """A decoder that gives its noise back: apart, two independent signals are cross-faded."""

    def noise(profile, model, z, seed):
        return torch.randn(len(z), 2, z.shape[-1] * 1024, generator=torch.Generator().manual_seed(seed))

    monkeypatch.setattr(seams, "decoded", noise)
    found = seams.seam_energy(work, new_dmae(work.profile.dmae).eval())
    assert abs(found["blended"]) < 0.5 and -3 < found["apart"] < -0.8
