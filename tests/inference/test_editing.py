"""Sound that begins from sound: what is kept is kept to the bit, what is new follows from it, and levels mean far."""

from inspect import unwrap
from math import cos, pi, sin
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mousai.inference import codec
from mousai.inference.editing import EDGE, FADE, InitAudio, continuation, inpainting, variation
from mousai.inference.long import Run, decode
from mousai.inference.pipeline import Mousai, as_generators
from mousai.inference.sampling import Sampling


@pytest.fixture
def w() -> torch.Tensor:
    """1.3 s, no multiple of anything."""
    return 0.1 * torch.randn(2, 62_401, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def quick(stack) -> Sampling:
    return stack.sampling(tcld_steps=2, dmae_steps=1)


def outside(n: int, *gaps: tuple[int, int], edge: int = EDGE) -> torch.Tensor:
    """Samples [n] that are in no gap and not near one."""
    kept = torch.ones(n, dtype=torch.bool)
    for start, end in gaps:
        kept[max(0, start - edge) : end + edge] = False
    return kept


@pytest.mark.parametrize("regions", [[(0.4, 0.6)], [(0.9, 1.2), (0.1, 0.3)], [(0, 0.2)], [(1.0, 1.3)], [(0.02, 1.29)]])
def test_outside_of_regions_and_their_cross_fades_a_sound_is_itself_to_the_bit(stack, quick, w, regions):
    made = stack.generate(["metal", "pop"], seed=1, init_audio=inpainting(w, regions), sampling=quick)
    gaps = [(round(48_000 * start), round(48_000 * end)) for start, end in regions]
    assert made.shape == (2, 2, 62_401) and made.isfinite().all()
    kept = outside(62_401, *gaps)
    assert torch.equal(made[..., kept], w[:, kept].expand(2, -1, -1))
    for start, end in gaps:
        assert ((made[..., start:end] - w[:, start:end]).abs() > 1e-4).float().mean() > 0.9


def test_a_sound_goes_on_to_exactly_the_length_asked_for(stack, quick, w):
    made = stack.generate(["metal"], init_audio=continuation(w, 100_001), sampling=quick)
    assert made.shape == (1, 2, 100_001) and made.isfinite().all()
    assert torch.equal(made[0, :, : 62_401 - EDGE], w[:, :-EDGE])
    assert made[0, :, 62_401:].abs().max() > 1e-3


def test_at_noise_level_0_a_sound_is_its_reconstruction_to_the_bit(stack, quick, w):
    """Within a chunk, which is encoded at once; several prompts are the same sound, up to rounding in a batch."""
    begin = variation(w[:, :30_001], 0.0)
    z = stack.dmae.encode(w[None, :, :30_001])
    alone = decode(stack.dmae, z, Run(1, stack.profile.sampling.sampler), torch.Generator().manual_seed(4), 30_001)
    assert torch.equal(stack.generate("metal", seed=4, init_audio=begin, sampling=quick), alone)
    both = stack.generate(["metal", "pop"], seed=4, init_audio=begin, sampling=quick)
    assert_close(both, alone.expand(2, -1, -1), atol=1e-6, rtol=0)


def test_at_noise_level_1_nothing_is_left_of_a_sound_to_the_bit(stack, quick, w):
    made = stack.generate(["metal"], seed=4, init_audio=variation(w, 1.0), sampling=quick)
    assert torch.equal(made, stack.generate(["metal"], 62_401 / 48_000, seed=4, sampling=quick))


def begun(stack: Mousai, w: torch.Tensor, level: float, steps: int) -> torch.Tensor:
    """The latent of a variation, prompts and seed always the same."""
    sampling = stack.sampling(tcld_steps=steps)
    return stack.edited_latents(["metal"], variation(w, level), as_generators(7, 1), sampling)


def test_the_latent_begins_as_far_away_as_the_level_says_and_goes_down_in_so_much_of_the_steps(stack, w, monkeypatch):
    """A net that says 0 leaves the mixture at its angle, so all that happens is known."""
    monkeypatch.setattr(stack.tcld.unet, "forward", lambda x, *_: torch.zeros_like(x))
    z, padded, far = codec.encode(stack.dmae, w, stack.profile.tcld.crop), 64, []
    eps = torch.randn(1, 32, padded, generator=torch.Generator().manual_seed(7))[..., :61]
    for level, steps in ((0.01, 1), (0.2, 2), (0.4, 4), (0.6, 6), (0.8, 8)):  # of 10
        found = begun(stack, w, level, 10)
        kept = cos(pi / 2 * level / steps) ** steps
        assert_close(found, kept * (cos(pi / 2 * level) * z + sin(pi / 2 * level) * eps), atol=1e-5, rtol=0)
        far.append((found - z).square().mean().item())
    assert far == sorted(far)


def test_gaps_are_widened_to_whole_latent_steps_and_change_no_more_than_50_ms_around():
    w = torch.zeros(2, 62_401)
    assert inpainting(w, [(0.9, 1.3), (0.1, 0.2)]).regions == ((4 * 1024, 10 * 1024), (42 * 1024, 62_401))
    assert continuation(w, 80_000).regions == ((60 * 1024, 80_000),)
    assert FADE + 1024 == EDGE == 0.05 * 48_000


@pytest.mark.parametrize(
    "regions",
    [
        [(0.2, 0.4), (0.4, 0.6)],  # adjacent
        [(0.2, 0.5), (0.3, 0.6)],  # overlapping
        [(0.2, 0.6), (0.3, 0.4)],  # one inside of the other
        [(0.45, 0.6), (0.2, 0.42)],  # so near that only two cross-fades would lie between
    ],
)
def test_neighbouring_regions_become_one(regions):
    w = torch.zeros(2, 62_401)
    assert inpainting(w, regions).regions == inpainting(w, [(0.2, 0.6)]).regions
    far = inpainting(w, [(0.2, 0.3), (0.4, 0.5)])
    assert len(far.regions) == 2


@pytest.mark.parametrize(
    "edit", [lambda w: variation(w, 0.5), lambda w: continuation(w, 9000), lambda w: inpainting(w, [(0, 0.1)])]
)
def test_mono_becomes_stereo_in_every_editing_function(w, edit):
    mono = w[0, :8000]
    for one in (mono, mono[None]):
        assert torch.equal(edit(one).audio, torch.stack([mono, mono]))
    with pytest.raises(ValueError, match=r"a batch: pass one item of it, \[2, time\], such as w\[0\]"):
        edit(w[None])


def test_latent_steps_are_kept_where_all_of_them_lies_in_what_is_kept():
    init_audio = InitAudio(torch.zeros(2, 15_000), ((2500, 5000), (10_240, 11_264)))
    assert init_audio.known == [(0, 2500), (5000, 10_240), (11_264, 15_000)]
    replacement = init_audio.latent_replacement(torch.full((1, 32, 16), 0.5), 1024)
    assert replacement.known == [(0, 2), (5, 10), (11, 15)]  # the last one is padded with silence, as it was encoded
    assert_close(replacement.x_0(0, 16), torch.full((1, 32, 16), 0.5))
    onward = InitAudio(torch.zeros(2, 2500), ((2500, 9000),))
    assert onward.latent_replacement(torch.ones(1, 32, 12), 1024).known == [(0, 2)]


def silence_filled(dmae, n: int, gaps: tuple[tuple[int, int], ...], cuts: int = 700) -> tuple[torch.Tensor, list]:
    """Silence whose gaps a decoder of ones fills, handing them on in pieces; and what that decoder was asked for."""
    asked, init_audio = [], InitAudio(torch.zeros(2, n), gaps)

    def decode(z, length, replacement):
        asked.append((z.shape[-1], length, replacement.known))
        yield from torch.ones(1, 2, length).split(cuts, dim=-1)

    parts = init_audio.render(dmae, torch.zeros(1, 32, -(-init_audio.samples // 1024)), decode)
    return torch.cat([*parts], dim=-1)[0, 0], asked


def test_the_cross_fade_is_a_straight_line_inside_of_what_is_kept(stack):
    made, _ = silence_filled(stack.dmae, 60_000, ((10_000, 20_000), (50_000, 60_000)))
    ramp = (torch.arange(FADE) + 0.5) / FADE
    for place, expected in ((10_000 - FADE, ramp), (20_000, 1 - ramp), (50_000 - FADE, ramp)):
        assert_close(made[place : place + FADE], expected)
    assert (made[10_000:20_000] == 1).all() and (made[50_000:] == 1).all()
    assert (made[outside(60_000, (10_000, 20_000), (50_000, 60_000), edge=FADE)] == 0).all()


def test_only_what_lies_around_a_gap_is_decoded_and_the_decoder_is_told_what_it_knows(stack):
    """Half a training crop of 16,384 on either side, in whole latent steps."""
    _, asked = silence_filled(stack.dmae, 500_000, ((200_000, 210_000), (215_000, 216_000)))
    first = (200_000 - FADE - 8192) // 1024
    last = -(-(210_000 + FADE + 8192) // 1024)
    kept = [(0, 200_000), (210_000, 215_000), (216_000, 500_000)]
    shifted = [(a - 1024 * first, b - 1024 * first) for a, b in kept]
    assert asked[0] == (last - first, 1024 * (last - first), shifted) and len(asked) == 2


@pytest.mark.parametrize(("a", "b"), [(0, 500), (1, 500), (1000, 5000), (62_000, 65_536), (70_000, 71_000)])
def test_the_known_signal_is_cut_from_that_of_the_whole_with_silence_behind(stack, w, a, b):
    whole = stack.dmae.emphasised(torch.nn.functional.pad(w, (0, 20_000))[None])
    assert_close(variation(w, 1.0).diffused(stack.dmae, a, b), whole[..., a:b], atol=0, rtol=0)


def test_in_the_cross_fade_new_and_old_are_one_where_no_gap_is(stack, w):
    """Stage 1 holds the waveform it knows, so what it decodes there is the waveform."""
    decoded = []
    init_audio = InitAudio(w, ((24_000, 34_000),))

    def recording(z, length, replacement):
        sampling = stack.sampling(dmae_steps=2)
        parts = codec.decode(stack.dmae, z, sampling, as_generators(0, 1), length, replacement)
        decoded.append(torch.cat([*parts], dim=-1))
        yield decoded[0]

    torch.cat([*init_audio.render(stack.dmae, stack.dmae.encode(w[None]), recording)], dim=-1)
    begin = (24_000 - FADE - 8192) // 1024 * 1024
    far = slice(2000, 22_500 - begin)  # pre-emphasis has forgotten where it began, and the bands don't reach the gap
    assert_close(decoded[0][0, :, far], w[:, begin + 2000 : 22_500], atol=1e-4, rtol=0)
    near = slice(24_000 - FADE - begin, 24_000 - begin)  # a slow band's frame holds some of the gap
    assert (decoded[0][0, :, near] - w[:, 24_000 - FADE : 24_000]).std() < 0.1 * w[:, 24_000 - FADE : 24_000].std()


@pytest.mark.parametrize("kind", [np.float64, np.float16])
@pytest.mark.parametrize(
    "edit", [lambda w: variation(w, 0.5), lambda w: continuation(w, 9000), lambda w: inpainting(w, [(0, 0.1)])]
)
def test_a_sound_of_another_precision_is_edited_as_well(stack, quick, w, edit, kind):
    short = w[:, :8000].numpy().astype(kind)
    assert stack.generate("metal", init_audio=edit(short), sampling=quick).isfinite().all()


def test_what_is_new_follows_from_what_is_kept(stack, quick, w):
    sounds = [continuation(sound, 80_000) for sound in (w, w.flip(-1))]
    made = [stack.generate(["metal"], init_audio=sound, sampling=quick) for sound in sounds]
    assert (made[0] - made[1])[..., 62_401:].abs().max() > 1e-4


def edit_of(w: torch.Tensor, noise_level) -> SimpleNamespace:
    """The fields of an edit, whatever their types."""
    return SimpleNamespace(audio=w, regions=((0, 100),), noise_level=noise_level)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda w: InitAudio(w, ()), "regions"),
        (lambda w: InitAudio(w, ((70_000, 80_000),)), "are not within 62401 samples"),
        (lambda w: InitAudio(w, ((500, 500),)), "say where each begins and ends"),
        (lambda w: InitAudio(w, ((500, 1000), (3000, 9000))), "make them one, or leave 2752 between"),
        (lambda w: inpainting(w, [(0.5, 1.4)]), r"from 0.5 to 1.4 s is not within the 1.30002 s of sound"),
        (
            lambda w: inpainting(w, [(0.5, float("nan"))]),
            r"regions is \[\(0.5, nan\)\]: give pairs \(from, to\) in seconds",
        ),
        (lambda w: unwrap(inpainting)(w, (0.2, 0.5)), r"regions is \(0.2, 0.5\): give pairs"),
        (lambda w: unwrap(inpainting)(w, [("a", 0.5)]), r"regions is \[\('a', 0.5\)\]: give pairs"),
        (lambda w: unwrap(inpainting)(w, [(1, 2, 3)]), r"regions is \[\(1, 2, 3\)\]: give pairs"),
        (lambda w: InitAudio.__post_init__(edit_of(w, "x")), "noise level is 'x': choose 0, as it was, to 1, all new"),
        (lambda w: unwrap(variation)(None, 0.5), "audio is None: pass a tensor or an array"),
        (lambda w: unwrap(continuation)(w, "9"), "samples is '9': choose a whole number from 1 to 172800000"),
        (lambda w: unwrap(continuation)(w, float("nan")), "samples is nan"),
        (lambda w: unwrap(continuation)(w, 96_000.5), "samples is 96000.5"),
        (lambda w: continuation(w, 10**12), "samples is 1000000000000"),
        (
            lambda w: variation(torch.where(torch.arange(62_401) == 9, torch.nan, w), 0.5),
            r"not finite \(NaN\): set them",
        ),
        (lambda w: variation(w, 1.5), "noise level is 1.5: choose 0, as it was, to 1, all new"),
        (lambda w: variation(w, float("nan")), "noise level is nan"),
        (lambda w: InitAudio(w, ((62_401, 70_000),), 0.5), "a continuation has no sound to start from"),
        (lambda w: continuation(w, 62_401), "1.30002 s in all, but the sound has 1.30002 s already"),
    ],
)
def test_what_cannot_be_is_one_line(w, edit, said):
    with pytest.raises(ValueError, match=said):
        edit(w)
