"""The magnitude head: frames in order, each answer at its own pace; groups of bands and what reaches the network."""

from fractions import Fraction

import pytest
import torch
from torch.testing import assert_close

from mousai.small.band_groups import BandGroups, network_answer, network_input
from mousai.small.head import MagnitudeHead, StepsToFrames, frames_in_time

RATES = [(4, Fraction(1, 2)), (8, Fraction(1)), (4, Fraction(2))]


@pytest.fixture
def head() -> MagnitudeHead:
    torch.manual_seed(0)
    return MagnitudeHead(4, 16, RATES, 5, 3).double()


@pytest.fixture
def groups() -> BandGroups:
    torch.manual_seed(0)
    return BandGroups(20, RATES, size=4, halo=2, context=3, features=2).double()


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_a_step_is_laid_out_number_by_number_the_frames_of_each_together():
    x = torch.arange(2 * 3 * 4.0).reshape(1, 6, 4)  # 2 numbers, 3 frames a step, 4 steps
    expected = torch.stack([torch.cat([x[0, 3 * n : 3 * n + 3, step] for step in range(4)]) for n in (0, 1)])
    assert_close(frames_in_time(x, 2)[0], expected, atol=0, rtol=0)


def test_each_octave_and_the_magnitude_are_told_at_their_own_pace(head):
    h = head.hidden(noise(2, 4, 6))
    assert [octave.shape for octave in head.log_g(h)] == [(2, 8, 3), (2, 16, 6), (2, 8, 12)]
    assert head.magnitude(h).shape == (2, 5, 18)


def test_beside_its_trunk_every_latent_step_gives_its_own_frames(head):
    head.to_magnitude.conv.weight.data[:, 4:] = 0
    z = noise(1, 4, 6)
    other = z.clone()
    other[..., 2] += 1
    changed = (head.magnitude(head.hidden(z)) != head.magnitude(head.hidden(other))).any(dim=1)[0]
    assert changed.nonzero().flatten().tolist() == [6, 7, 8]


def test_the_trunk_takes_in_the_neighbours(head):
    z = noise(1, 4, 12)
    other = z.clone()
    other[..., 6] += 1
    assert (head.magnitude(head.hidden(z)) - head.magnitude(head.hidden(other)))[..., 30].abs().max() > 1e-6


def test_a_slow_octave_sees_both_steps_of_its_frame():
    layer = StepsToFrames(2, 3, Fraction(1, 2)).double()
    x = noise(1, 2, 8)
    for step in (4, 5):
        other = x.clone()
        other[..., step] += 1
        assert (layer(x) != layer(other)).any(dim=1)[0][2]


def test_groups_side_by_side_again_are_the_octave(groups):
    octave = noise(2, 16, 7)
    split = groups.split(octave)
    assert split.shape == (2, 2, 2 * 8, 7)
    assert_close(groups.join(split), octave, atol=0, rtol=0)


def test_a_group_sees_its_neighbours_bands_and_silence_beyond_the_octave(groups):
    octave = torch.arange(1.0, 17.0).double().reshape(1, 16, 1)  # mid 1 to 8, side 9 to 16
    first, second = groups.split(octave)[0, :, :, 0].long().tolist()
    assert first == [0, 0, 1, 2, 3, 4, 5, 6, 0, 0, 9, 10, 11, 12, 13, 14]
    assert second == [3, 4, 5, 6, 7, 8, 0, 0, 11, 12, 13, 14, 15, 16, 0, 0]


def test_the_network_is_given_sizes_z_and_which_group_it_is(groups, head):
    h = head.hidden(noise(2, 4, 6))
    log_g = head.log_g(h)
    found = groups.latents(log_g, h)
    assert [part.shape for part in found] == [(2, 1, 21, 3), (2, 2, 21, 6), (2, 1, 21, 12)]
    assert_close(found[1][:, :, :16], groups.split((log_g[1] + 2) / 2))
    assert_close(found[1][:, 0, 16:19], groups.to_context[1](h))
    assert_close(found[2][0, 0, 19:, 0], groups.embedding.weight[3])
    assert (found[1][0, 0, 19:] != found[1][0, 1, 19:]).all()


def test_the_network_can_add_to_a_band_and_multiply_it():
    groups = noise(1, 1, 4, 3)
    ones, zeros = torch.ones_like(groups), torch.zeros_like(groups)
    assert_close(network_answer(torch.cat([ones, zeros], 2), groups), ones)
    assert_close(network_answer(torch.cat([zeros, 2 * ones], 2), groups), 2 * groups)
    seen = network_input(groups)
    assert_close(seen[:, :, :4], groups)
    assert_close(seen[:, :, 4:], network_input(-groups)[:, :, 4:])
