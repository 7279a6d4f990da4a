"""Both stages at any length: windows beyond the crop, guidance with its options, which text a window follows."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from mousai.config import PaperExact
from mousai.diffusion import ddim, guidance
from mousai.dmae import DMAE
from mousai.inference import long
from mousai.inference.long import Run, decode, guided, part_of_window, sample_latents, stream
from mousai.inference.samplers import Guidance
from mousai.inference.windows import Replacement
from mousai.small.dmae import SmallDMAE
from mousai.small.stages import new_tcld
from mousai.tcld import TCLD

CLOSE = {"atol": 1e-5, "rtol": 1e-5}
THREE = Guidance(3.0)


def noise(*shape, seed=0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def dmae(tiny) -> SmallDMAE:
    torch.manual_seed(0)
    return SmallDMAE(tiny.dmae).eval()


@pytest.fixture
def tcld(tiny) -> TCLD:
    torch.manual_seed(0)
    return new_tcld(tiny).eval()


@pytest.fixture
def text(tiny) -> torch.Tensor:
    return noise(2, tiny.tcld.text.tokens, tiny.tcld.text.features, seed=9)


@pytest.mark.parametrize("length", [1, 1000, 1024, 5000, 2**14, 2**14 + 1, 40_000])
def test_any_length_is_decoded_windows_or_not(dmae, length):
    w = decode(dmae, noise(1, 32, -(-length // 1024)).tanh(), Run(1), seeded(), length)
    assert w.shape == (1, 2, length) and w.isfinite().all()


def test_up_to_a_crop_it_is_the_stages_own_decoding(dmae):
    z = noise(2, 32, 16).tanh()
    assert_close(decode(dmae, z, Run(3), seeded(5)), dmae.decode(z, 3, seeded(5)), **CLOSE)


def test_the_papers_stage_1_refuses_refinement_and_a_small_one_takes_as_much_as_asked(paper_dmae, dmae):
    z = noise(1, 32, 2).tanh()
    with pytest.raises(ValueError, match="1 steps of refinement: the paper's stage 1 has none: ask for 0"):
        decode(DMAE(paper_dmae), z, Run(1, refinement_steps=1), seeded())
    alone, once = (decode(dmae, z, Run(1, refinement_steps=n), seeded()) for n in (0, 1))
    assert_close(once, torch.cat([*dmae.refine([alone], z, 1)], dim=-1), **CLOSE)
    assert not torch.equal(alone, once)
    assert torch.equal(decode(dmae, z, Run(1), seeded()), alone)  # the configuration's: none


def test_the_papers_stage_1_is_decoded_in_one_pass_where_memory_allows_and_in_windows_beyond(paper_dmae, monkeypatch):
    model, z = DMAE(paper_dmae).eval(), noise(1, 8, 100).tanh()
    whole = model.decode(z, 2, seeded())
    assert_close(decode(model, z, Run(2), seeded()), whole, **CLOSE)
    monkeypatch.setattr(long, "WHOLE", 0)
    assert decode(model, z, Run(2), seeded()).shape == whole.shape
    assert (decode(model, z, Run(2), seeded()) - whole).abs().max() > 1e-4


def test_a_shorter_length_is_the_beginning_of_the_whole(dmae):
    z = noise(1, 32, 40).tanh()
    whole, part = (decode(dmae, z, Run(2), seeded(), length) for length in (None, 3000))
    assert_close(part, whole[..., :3000], atol=0, rtol=0)


def test_the_decoded_sound_follows_its_latent_also_in_the_second_window(dmae):
    one, other = noise(1, 32, 32).tanh(), noise(1, 32, 32).tanh()
    other[..., 24:] *= -1
    a, b = (decode(dmae, z, Run(2), seeded()) for z in (one, other))
    assert (a - b)[..., 24 * 1024 :].abs().max() > 1e-4
    assert_close(a[..., : 8 * 1024], b[..., : 8 * 1024], atol=1e-3, rtol=0)


def test_what_is_streamed_is_what_is_decoded(dmae):
    z = noise(2, 32, 100).tanh()
    parts = [*stream(dmae, z, Run(3), seeded(), 100_000)]
    assert len(parts) > 1 and torch.equal(torch.cat(parts, dim=-1), decode(dmae, z, Run(3), seeded(), 100_000))


def test_each_item_with_a_generator_of_its_own_is_as_alone(dmae, tcld, text):
    z = noise(2, 32, 24).tanh()
    both = decode(dmae, z, Run(2), [seeded(1), seeded(2)])
    alone = [decode(dmae, z[i : i + 1], Run(2), [seeded(i + 1)]) for i in range(2)]
    assert_close(both, torch.cat(alone), atol=1e-4, rtol=0)
    run = Run(2, guidance=THREE)
    both = sample_latents(tcld, text, 40, run, [seeded(1), seeded(2)])
    alone = [sample_latents(tcld, text[i : i + 1], 40, run, [seeded(i + 1)]) for i in range(2)]
    assert_close(both, torch.cat(alone), **CLOSE)


def test_sampling_a_window_of_latents_is_the_stages_own(tcld, text):
    expected = tcld.sample(text, tcld.window, 3, 3.0, seeded(4))
    assert_close(sample_latents(tcld, text, tcld.window, Run(3, guidance=THREE), seeded(4)), expected, **CLOSE)


@pytest.mark.parametrize("length", [1, 5, 32, 33, 100])
def test_any_number_of_latent_steps_can_be_asked_for(tcld, text, length):
    z = sample_latents(tcld, text, length, Run(1, guidance=THREE), seeded())
    assert z.shape == (2, 32, length) and z.isfinite().all()


def test_known_latents_stay_and_the_rest_is_new(tcld, text):
    x_0 = noise(1, 32, 100, seed=3)
    known = Replacement(lambda a, b: x_0[..., a:b], [(0, 50)])
    z = sample_latents(tcld, text, 100, Run(2, "multistep", guidance=THREE), seeded(), replacement=known)
    assert_close(z[..., :50], x_0[..., :50].expand(2, -1, -1), **CLOSE)
    assert (z[..., 50:] - x_0[..., 50:]).abs().max() > 0.1


@torch.no_grad()
def test_a_negative_prompt_takes_the_place_of_no_text(tcld, text):
    x, sigma, away = noise(2, 32, tcld.window), torch.tensor([0.3, 0.8]), noise(1, *text.shape[1:], seed=5)
    cond, uncond = (tcld.unet(x, sigma, embedding=words) for words in (text, away.expand(2, -1, -1)))
    unet = replace(tcld.config.unet, paper_exact=PaperExact(guidance=True))
    exact = TCLD(replace(tcld.config, unet=unet), tcld.window).eval()
    exact.load_state_dict(tcld.state_dict())
    for model in (tcld, exact):
        assert_close(guided(model, text, THREE, away)(x, sigma), guidance(uncond, cond, 3.0), **CLOSE)


@torch.no_grad()
def test_outside_its_levels_guidance_is_off_and_within_it_is_as_ever(tcld, text):
    x, net = noise(2, 32, tcld.window), guided(tcld, text, Guidance(3.0, low=0.2, high=0.6))
    for sigma, scale in ((0.1, 1.0), (0.4, 3.0), (0.7, 1.0)):
        level = torch.full((2,), sigma)
        assert_close(net(x, level), tcld.velocity(x, level, text, scale), **CLOSE)


@torch.no_grad()
def test_rescaled_guidance_has_the_spread_of_the_answer_with_text(tcld, text):
    x, sigma = noise(2, 32, tcld.window), torch.tensor([0.3, 0.8])
    cond = tcld.velocity(x, sigma, text, 1.0)
    made = guided(tcld, text, Guidance(30.0, rescale=1.0))(x, sigma)
    assert_close(made.std(dim=(1, 2)), cond.std(dim=(1, 2)), **CLOSE)
    assert (tcld.velocity(x, sigma, text, 30.0).std(dim=(1, 2)) - cond.std(dim=(1, 2))).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("windows", "parts", "numbers"),
    [
        (1, 1, [0]),
        (3, 1, [0, 0, 0]),
        (2, 4, [0, 3]),
        (3, 4, [0, 1, 3]),
        (6, 4, [0, 1, 1, 2, 2, 3]),
        (4, 2, [0, 0, 1, 1]),
    ],
)
def test_windows_follow_the_beginning_the_middle_in_turn_and_the_ending(windows, parts, numbers):
    assert [part_of_window(i, windows, parts) for i in range(windows)] == numbers


def test_each_window_follows_its_own_part(tcld, text):
    """With one step x_0 is -v_hat: each window's is that of its part alone, but in the overlaps."""
    parts, length, size = [text + k for k in range(4)], 4 * tcld.window, tcld.window
    made = sample_latents(tcld, parts, length, Run(1, guidance=THREE), seeded())
    eps, quarter = torch.randn(2, 32, length, generator=seeded()), size // 4
    for start, part in zip([*range(0, length - size, 3 * quarter), length - size], (0, 1, 1, 2, 3), strict=True):
        x = eps[..., start : start + size]
        alone = ddim(lambda x, s, part=part: tcld.velocity(x, s, parts[part], 3.0), x, 1)
        inner = slice(quarter, 2 * quarter)
        assert_close(made[..., start : start + size][..., inner], alone[..., inner], **CLOSE)
