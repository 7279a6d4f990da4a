"""Stage 1 of the paper: any length in, any length out, the loss, one whole pass of DDIM."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from mousai.config import A100, PaperExact
from mousai.diffusion import ddim, gaussian_like
from mousai.dmae import DMAE, MagnitudeEncoder, PatchFrontEnd
from mousai.unet import count_parameters

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def model(paper_dmae) -> DMAE:
    torch.manual_seed(0)
    return DMAE(paper_dmae).eval()


def noise(*shape, seed=0, **kind) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kind)


def test_the_papers_stage_one_has_185_107_872_parameters_in_three_parts():
    with torch.device("meta"):
        model = DMAE(A100.dmae)
    parts = [count_parameters(part) for part in (model.unet, model.encoder, model.front)]
    assert parts == [160_604_032, 24_438_304, 65_536]
    assert count_parameters(model) == sum(parts) == 185_107_872


def test_the_papers_crop_becomes_a_latent_of_32_by_256_and_goes_through_the_net():
    with torch.device("meta"):
        model, w = DMAE(A100.dmae), torch.empty(1, 2, 2**18)
        z = model.encoder(torch.empty(1, 1024, 1024))
        assert z.shape == (1, 32, 256) and w.numel() / z.numel() == 64
        assert model.net(w, torch.empty(1), z).shape == w.shape


def test_with_paper_exact_lengths_only_multiples_of_the_stride_are_encoded_and_decoded(paper_dmae, generator):
    """Here the U-Net halves once more below the latent, so z must have an even number of steps."""
    depths = {"channels": (16, 24, 16, 16), "factors": (1, 2, 2, 2), "items": (1,) * 4}
    unet = replace(paper_dmae.unet, **depths, attentions=(0,) * 4, cross_attentions=(0,) * 4)
    for lengths in (False, True):
        config = replace(paper_dmae, unet=replace(unet, paper_exact=PaperExact(lengths=lengths)))
        model = DMAE(config)
        assert model.encode(noise(1, 2, 384)).shape == (1, 8, 3)
        assert model.decode(noise(1, 8, 4), 1, generator, 500).shape == (1, 2, 500)
        if not lengths:
            assert model.encode(noise(1, 2, 385)).shape == (1, 8, 4)
            assert model.decode(noise(1, 8, 3), 1, generator).shape == (1, 2, 384)
            continue
        with pytest.raises(ValueError, match="length 385 is not a multiple of the stride 128: pad it first"):
            model.encode(noise(1, 2, 385))
        with pytest.raises(ValueError, match="length 3 is not a multiple of the stride 2: pad it first"):
            model.decode(noise(1, 8, 3), 1, generator)


def test_the_encoder_learns_from_the_decoders_error(paper_dmae, generator):
    model = DMAE(paper_dmae)
    model(noise(2, 2, 2048), generator).backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


@pytest.mark.parametrize(("time", "steps"), [(1, 1), (128, 1), (129, 2), (625, 5), (2048, 16)])
def test_any_length_is_encoded_to_a_step_per_latent_stride(model, time, steps):
    """128 samples a step here, 1024 in the paper."""
    assert model.encode(noise(1, 2, time)).shape == (1, 8, steps)


def test_the_latent_stays_within_one(model):
    assert model.encode(100 * noise(1, 2, 1024)).abs().max() <= 1


def test_encoding_pads_with_silence(model):
    w = noise(1, 2, 625)
    padded = torch.cat([w, torch.zeros(1, 2, 5 * 128 - 625)], dim=-1)
    assert_close(model.encode(w), model.encode(padded))


def test_silence_is_finite(model, generator):
    assert model.encode(torch.zeros(1, 2, 2048)).isfinite().all()
    assert model(torch.zeros(2, 2, 2048), generator).isfinite()


@pytest.mark.parametrize("length", [1, 100, 128, 625, 2048, 2049, 5000])
def test_any_length_is_decoded_also_beyond_the_crop(model, generator, length):
    w = model.decode(noise(1, 8, -(-length // 128)).tanh(), 1, generator, length)
    assert w.shape == (1, 2, length) and w.isfinite().all()


def test_without_a_length_all_of_the_latent_is_decoded(model, generator):
    assert model.decode(noise(2, 8, 5), 1, generator).shape == (2, 2, 5 * 128)


def test_a_length_beyond_the_latent_is_refused_by_number(model, generator):
    with pytest.raises(ValueError, match="length 257 is not within the 256 samples that 2 latent steps describe"):
        model.decode(noise(1, 8, 2), 1, generator, 257)


def test_a_shorter_length_is_the_beginning_of_the_whole(model):
    z = noise(1, 8, 5).tanh()
    whole, part = (model.decode(z, 2, torch.Generator().manual_seed(0), length) for length in (None, 300))
    assert_close(part, whole[..., :300], atol=0, rtol=0)


def test_decoding_is_ddim_through_the_net_over_the_whole_length(model):
    z, eps = noise(1, 8, 40).tanh(), noise(1, 2, 40 * 128, seed=5)
    expected = ddim(lambda x, sigma: model.net(x, sigma, z), eps, 3)
    assert_close(model.decode(z, 3, torch.Generator().manual_seed(5)), expected, **CLOSE)


def test_the_decoded_sound_follows_its_latent_everywhere(model):
    one, other = noise(1, 8, 32).tanh(), noise(1, 8, 32).tanh()
    other[..., 24:] *= -1
    a, b = (model.decode(z, 2, torch.Generator().manual_seed(0)) for z in (one, other))
    assert (a - b)[..., 24 * 128 :].abs().max() > 1e-4


def test_the_loss_is_the_velocity_error_of_the_waveform_alone(paper_dmae):
    model, w = DMAE(paper_dmae), noise(3, 2, 2048)
    generator = torch.Generator().manual_seed(2)
    eps, sigma = gaussian_like(w, generator), torch.rand(3, generator=generator)
    alpha, beta = torch.cos(torch.pi / 2 * sigma)[:, None, None], torch.sin(torch.pi / 2 * sigma)[:, None, None]
    v_hat = model.net(alpha * w + beta * eps, sigma, model.encode(w))
    expected = (v_hat - (alpha * eps - beta * w)).square().mean()
    assert_close(model(w, torch.Generator().manual_seed(2)), expected, **CLOSE)


def test_noise_has_the_moments_of_the_standard_normal_law():
    eps = gaussian_like(torch.zeros(2, 100_000, dtype=torch.float64), torch.Generator().manual_seed(0))
    moments = [eps.pow(power).mean().item() for power in (1, 2, 3, 4)]
    assert_close(moments, [0.0, 1.0, 0.0, 3.0], atol=0.05, rtol=0)


def test_tanh_comes_last(paper_dmae):
    encoder = MagnitudeEncoder(paper_dmae.encoder)
    torch.nn.init.zeros_(encoder.to_out.weight)
    torch.nn.init.constant_(encoder.to_out.bias, 0.5)
    assert_close(encoder(noise(1, 128, 64).abs()), torch.full((1, 8, 16), 0.5).tanh())


def test_the_front_end_is_right_under_bfloat16_too():
    """The library's own convolution is not, on some CPUs."""
    front, w = PatchFrontEnd(64, 256), noise(1, 2, 4096)
    with torch.autocast("cpu", torch.bfloat16):
        split, joined = front.split(w), front.join(front.split(w))
    assert_close(split, front.analysis(w), atol=0, rtol=0)
    assert_close(joined, front.synthesis(front.analysis(w)), atol=0, rtol=0)
