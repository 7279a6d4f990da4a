"""Stage 1: any length in, any length out, an exact way to the diffused signal and back."""

from dataclasses import replace

import pytest
import torch
from helpers.nets import reads
from torch.testing import assert_close

from mousai import dmae
from mousai.config import A100, DMAEConfig, PaperExact
from mousai.diffusion import diffusion_loss, gaussian_like
from mousai.dmae import DMAE
from mousai.inference.samplers import sample
from mousai.small.dmae import READ_FLOOR
from mousai.small.encoder import linear_magnitude, log_magnitude
from mousai.small.refinement import with_magnitude
from mousai.small.stages import new_dmae
from mousai.spectrogram import magnitude
from mousai.unet import count_parameters

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def model(tiny) -> DMAE:
    torch.manual_seed(0)
    return new_dmae(tiny.dmae).eval()


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


@pytest.mark.parametrize(("time", "steps"), [(1, 1), (1024, 1), (1025, 2), (5000, 5), (2**14, 16)])
def test_any_length_is_encoded_to_a_step_per_1024_samples(model, time, steps):
    assert model.encode(noise(1, 2, time)).shape == (1, 32, steps)


def test_the_latent_stays_within_one(model):
    assert model.encode(100 * noise(1, 2, 8192)).abs().max() <= 1


def test_encoding_pads_with_silence(model):
    w = noise(1, 2, 5000)
    padded = torch.cat([w, torch.zeros(1, 2, 5 * 1024 - 5000)], dim=-1)
    assert_close(model.encode(w), model.encode(padded))


def test_silence_is_finite_with_and_without_a_logarithm(model, paper_dmae, generator):
    assert model.encode(torch.zeros(1, 2, 2048)).isfinite().all()
    paper = DMAE(paper_dmae)
    assert paper.encode(torch.zeros(1, 2, 2048)).isfinite().all()
    assert paper(torch.zeros(2, 2, 2048), generator).isfinite()


@pytest.mark.parametrize("length", [1, 1000, 1024, 5000, 2**14, 2**14 + 1, 40_000])
def test_any_length_is_decoded_windows_or_not(model, generator, length):
    z = noise(1, 32, -(-length // 1024)).tanh()
    w = model.decode(z, 1, generator, length)
    assert w.shape == (1, 2, length) and w.isfinite().all()


def test_without_a_length_all_of_the_latent_is_decoded(model, generator):
    assert model.decode(noise(2, 32, 5), 1, generator).shape == (2, 2, 5 * 1024)


def test_with_paper_exact_lengths_only_multiples_of_the_stride_are_encoded_and_decoded(paper_dmae, generator):
    """Here the U-Net halves once more below the latent, so z must have an even number of steps."""
    depths = {"channels": (16, 24, 16, 16), "factors": (1, 2, 2, 2), "items": (1,) * 4}
    unet = replace(paper_dmae.unet, **depths, attentions=(0,) * 4, cross_attentions=(0,) * 4)
    for lengths in (False, True):
        config = replace(paper_dmae, unet=replace(unet, paper_exact=PaperExact(lengths=lengths)))
        model = new_dmae(config)
        assert model.encode(noise(1, 2, 384)).shape == (1, 8, 3)
        assert model.decode(noise(1, 8, 4), 1, generator, 500).shape == (1, 2, 500)
        if not lengths:
            assert model.encode(noise(1, 2, 385)).shape == (1, 8, 4)
            assert model.decode(noise(1, 8, 3), 1, generator).shape == (1, 2, 384)
            continue
        with pytest.raises(ValueError, match="length 385 does not divide by the stride 128: pad it first"):
            model.encode(noise(1, 2, 385))
        with pytest.raises(ValueError, match="length 3 does not divide by the stride 2: pad it first"):
            model.decode(noise(1, 8, 3), 1, generator)


def test_a_length_beyond_the_latent_is_refused_by_number(model, generator):
    with pytest.raises(ValueError, match="length 2049 is not within the 2048 samples that 2 latent steps describe"):
        model.decode(noise(1, 32, 2), 1, generator, 2049)


def test_decoding_a_crop_is_ddim_through_the_net_and_back_to_a_waveform(model, tiny):
    z = noise(1, 32, 16).tanh()
    eps = noise(1, 2, tiny.dmae.crop, seed=5)
    expected = model.to_wave(sample(lambda x, sigma: model.net(x, sigma, z), eps, 3)).detach()
    assert_close(model.decode(z, 3, torch.Generator().manual_seed(5)), expected, **CLOSE)


def test_the_decoded_sound_follows_its_latent_also_in_the_second_window(model):
    one, other = noise(1, 32, 32).tanh(), noise(1, 32, 32).tanh()
    other[..., 24:] *= -1
    a, b = (model.decode(z, 2, torch.Generator().manual_seed(0)) for z in (one, other))
    assert (a - b)[..., 24 * 1024 :].abs().max() > 1e-4
    assert_close(a[..., : 8 * 1024], b[..., : 8 * 1024], atol=1e-3, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("preemphasis", [0.0, 0.97])
def test_the_way_to_the_diffused_signal_and_back_is_exact(paper_dmae, scale, preemphasis):
    model = new_dmae(replace(paper_dmae, wave_scale=scale, preemphasis=preemphasis))
    w = noise(2, 2, 5000, dtype=torch.float64)
    assert_close(model.to_wave(model.to_signal(w)), w, atol=1e-12, rtol=1e-12)


def test_preemphasis_subtracts_its_share_of_the_sample_before(paper_dmae):
    model, w = new_dmae(replace(paper_dmae, wave_scale=2.0, preemphasis=0.9)), noise(1, 2, 100, dtype=torch.float64)
    assert_close(model.to_signal(w)[..., 1:], 2 * (w[..., 1:] - 0.9 * w[..., :-1]), atol=1e-12, rtol=1e-12)


def test_the_way_back_never_clips(paper_dmae):
    model = new_dmae(replace(paper_dmae, preemphasis=0.5))
    assert model.to_wave(torch.full((1, 2, 10), 4.0)).max() > 4


@pytest.mark.parametrize("departure", [{}, {"wave_scale": 3.0, "preemphasis": 0.9}], ids=["paper", "departs"])
def test_the_loss_is_the_velocity_error_of_the_diffused_signal_alone(paper_dmae, departure):
    model, w = new_dmae(replace(paper_dmae, **departure)), noise(3, 2, 2048)
    generator, x_0 = torch.Generator().manual_seed(2), model.to_signal(w)
    eps, sigma = gaussian_like(w, generator), model.draw_sigma(3, generator)
    alpha, beta = torch.cos(torch.pi / 2 * sigma)[:, None, None], torch.sin(torch.pi / 2 * sigma)[:, None, None]
    v_hat = model.net(alpha * x_0 + beta * eps, sigma, model.encode(w))
    expected = (v_hat - (alpha * eps - beta * x_0)).square().mean()
    assert_close(model(w, torch.Generator().manual_seed(2)), expected, **CLOSE)


def test_the_encoder_learns_from_the_decoders_error(paper_dmae, generator):
    model = DMAE(paper_dmae)
    model(noise(2, 2, 2048), generator).backward()
    assert all(parameter.grad.any() for parameter in model.parameters())


def gradients(config: DMAEConfig, step: int) -> tuple[DMAE, set[str]]:
    """A model after one backward pass at that step, and which of its parts heard of it."""
    torch.manual_seed(0)
    model = new_dmae(config)
    model(noise(1, 2, config.crop), torch.Generator().manual_seed(0), step).backward()
    return model, {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}


def test_before_the_warm_start_ends_encoder_and_reader_alone_are_trained(tiny):
    model, heard = gradients(tiny.dmae, tiny.dmae.encoder_pretrain_steps - 1)
    assert heard == {"encoder", "reader"}
    for part in (model.encoder, model.reader):
        assert all(parameter.grad.any() for parameter in part.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_after_the_warm_start_all_are_trained_but_a_frozen_encoder(tiny, frozen):
    model, heard = gradients(replace(tiny.dmae, freeze_encoder=frozen), tiny.dmae.encoder_pretrain_steps)
    assert heard == {"reader", "envelope", "unet"} | (set() if frozen else {"encoder"})
    assert model.reader.to_magnitude.weight.grad.any()
    if not frozen:
        assert all(parameter.grad.any() for parameter in model.encoder.parameters())


def test_a_frozen_encoder_changes_no_loss(tiny):
    losses = []
    for frozen in (True, False):
        torch.manual_seed(0)
        model, w = new_dmae(replace(tiny.dmae, freeze_encoder=frozen)), noise(2, 2, tiny.dmae.crop)
        losses.append([model(w, torch.Generator().manual_seed(1), step).item() for step in (0, 10)])
    assert losses[0] == losses[1]


def test_after_the_warm_start_the_readers_loss_is_added_to_the_velocity_error(tiny):
    torch.manual_seed(0)
    model, w = new_dmae(tiny.dmae), noise(2, 2, tiny.dmae.crop)
    generator, x_0, z = torch.Generator().manual_seed(2), model.to_signal(w), model.encode(w)
    eps, sigma = gaussian_like(w, generator), model.draw_sigma(2, generator)
    error = diffusion_loss(lambda x, s: model.net(x, s, z), x_0, eps, sigma).mean()
    side = model(w, torch.Generator().manual_seed(2), step=0)
    assert side > 0
    assert_close(model(w, torch.Generator().manual_seed(2)), error + side, **CLOSE)


def test_the_readers_loss_is_the_squared_error_of_log_magnitude_and_the_envelopes_each_with_its_weight(tiny):
    model, w = new_dmae(replace(tiny.dmae, readout_weight=2.0, envelope_weight=3.0)), noise(2, 2, tiny.dmae.crop)
    m_w, x_0, z = magnitude(w), model.to_signal(w), model.encode(w)
    log_g, log_m = model.reader(z)
    expected = 2 * (log_m - log_magnitude(m_w, 1e-3)).square().mean() + 3 * model.envelope.loss(log_g, x_0)
    assert_close(model.reader_loss(z, m_w, x_0), expected, **CLOSE)


def test_the_paper_asks_nothing_of_a_reader(paper_dmae):
    model, w = DMAE(paper_dmae), noise(1, 2, 2048)
    assert model.reader_loss(model.encode(w), magnitude(w, 127, 32), w) == 0


@pytest.fixture
def told(tiny, monkeypatch) -> tuple[DMAE, torch.Tensor]:
    """A model whose reader always tells the magnitude of one waveform exactly, and that waveform."""
    torch.manual_seed(0)
    plain = replace(tiny.dmae, magnitude_contrast=1.0, phase_share=0.0, polish=1)
    model, w = DMAE(plain).eval(), noise(1, 2, 16 * 1024)
    log_m = log_magnitude(magnitude(w), READ_FLOOR)
    reads(model, log_m, monkeypatch)
    return model, w


def polished(model: DMAE, w: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return torch.cat([*model.polished([w], z)], dim=-1)


def test_polishing_brings_the_magnitude_the_nearer_the_longer(told):
    model, w = told
    distances = []
    for steps in (0, 1, 4):
        model.config = replace(model.config, polish=steps)
        made = polished(model, noise(1, 2, 16 * 1024, seed=3), noise(1, 32, 16))
        distances.append((magnitude(made) - magnitude(w)).norm().item())
    assert distances == sorted(distances, reverse=True) and distances[1] < 0.7 * distances[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_polishing_keeps_the_phase(told, sign):
    """What has the right magnitude stays as it is, sign and all; twice as loud, it comes back to its size."""
    model, w = told
    z = noise(1, 32, 16)
    assert_close(polished(model, sign * w, z), sign * w, atol=1e-2, rtol=0)
    assert_close(polished(model, 2 * sign * w, z), sign * w, atol=1e-2, rtol=0)


def test_contrast_stretches_what_is_read_about_its_mean_over_time(tiny, monkeypatch):
    model = new_dmae(replace(tiny.dmae, magnitude_contrast=1.5))
    reads(model, torch.tensor([[[0.0, 1.0, 2.0, 1.0] * 2, [3.0] * 8]]), monkeypatch)
    expected = linear_magnitude(torch.tensor([[[-0.5, 1.0, 2.5, 1.0] * 2, [3.0] * 8]]), READ_FLOOR)
    assert_close(model.read_magnitude(noise(1, 32, 2)), expected)


def test_a_share_of_the_other_channel_keeps_left_and_right_together(told):
    """Channels whose phases have nothing to do with each other come to agree; the magnitude stays what is read."""
    model, w = told
    start, agree, apart = noise(1, 2, 16 * 1024, seed=3), [], []
    for share in (0.0, 0.5):
        model.config = replace(model.config, phase_share=share)
        made = polished(model, start, noise(1, 32, 16))
        agree.append(torch.corrcoef(made[0])[0, 1].item())
        apart.append((magnitude(made) - magnitude(w)).norm().item())
    assert abs(agree[0]) < 0.05 and agree[1] > 0.3
    assert_close(apart[1], apart[0], rtol=0.1, atol=0)
    assert_close(made, with_magnitude(start + start.flip(1) / 2, magnitude(w)), atol=1e-3, rtol=1e-3)


def test_a_long_sound_is_polished_in_parts_as_it_is_in_one(told, monkeypatch):
    model = told[0]
    model.config = replace(model.config, polish=3, phase_share=0.1)
    start, z = noise(1, 2, 16 * 1024, seed=3), noise(1, 32, 16)
    whole = polished(model, start, z)
    monkeypatch.setattr(dmae, "POLISH_PART", 5 * 1024)
    assert_close(polished(model, start, z), whole, **CLOSE)
    assert_close(torch.cat([*model.polished(start.split(700, dim=-1), z)], dim=-1), whole, **CLOSE)


def test_magnitudes_read_in_parts_are_those_read_at_once(tiny):
    model, z = new_dmae(replace(tiny.dmae, magnitude_contrast=1.5)).eval(), noise(2, 32, 16)
    whole, read = model.read_magnitude(z), model.magnitude_reader(z)
    log_m = log_magnitude(whole + 1, 0.0)
    assert whole.shape[-1] == 64 and log_m.isfinite().all()
    for a, b in ((0, 64), (0, 5), (3, 9), (8, 12), (59, 64)):
        assert_close(read(a, b), whole[..., a:b], **CLOSE)


def test_a_wave_undone_in_parts_is_the_wave(tiny):
    model, x = new_dmae(replace(tiny.dmae, preemphasis=0.9)), noise(2, 2, 4096)
    whole, parts = model.to_wave(x), []
    for part in x.split(1000, dim=-1):
        parts.append(model.to_wave(part, parts[-1] if parts else None))
    assert_close(torch.cat(parts, dim=-1), whole, **CLOSE)


def test_what_is_streamed_is_what_is_decoded(tiny):
    model, z = new_dmae(tiny.dmae).eval(), noise(2, 32, 100).tanh()
    whole = model.decode(z, 3, torch.Generator().manual_seed(0), 100_000)
    parts = [*model.stream(z, 3, torch.Generator().manual_seed(0), 100_000)]
    assert len(parts) >= 1 and torch.equal(torch.cat(parts, dim=-1), whole)


@pytest.mark.parametrize("polish", [0, 1, 2])
def test_decoding_ends_with_as_many_steps_of_polish_as_the_profile_says(told, polish):
    model, w = told
    z, eps = noise(1, 32, 16).tanh(), noise(1, 2, 16 * 1024, seed=5)
    expected = model.to_wave(sample(lambda x, sigma: model.net(x, sigma, z), eps, 2)).detach()
    for _ in range(polish):
        expected = with_magnitude(expected, magnitude(w))
    model.config = replace(model.config, polish=polish)
    assert_close(model.decode(z, 2, torch.Generator().manual_seed(5)), expected, atol=1e-2, rtol=1e-2)


def test_polish_without_a_reader_is_refused(paper_dmae):
    model = new_dmae(replace(paper_dmae, polish=1))
    with pytest.raises(ValueError, match="no reader: set `readout_weight`"):
        polished(model, noise(1, 2, 2048), noise(1, 32, 2))


def test_levels_are_uniform_and_the_noisy_share_leans_to_one(paper_dmae):
    uniform = DMAE(paper_dmae).draw_sigma(20_000, torch.Generator().manual_seed(0))
    assert_close(uniform.mean().item(), 1 / 2, atol=0.01, rtol=0)
    assert_close(uniform.square().mean().item(), 1 / 3, atol=0.01, rtol=0)
    leaning = new_dmae(replace(paper_dmae, noisy_share=1.0)).draw_sigma(20_000, torch.Generator().manual_seed(0))
    assert_close(leaning.mean().item(), 2 / 3, atol=0.01, rtol=0)


def test_noise_has_the_moments_of_the_standard_normal_law():
    eps = gaussian_like(torch.zeros(2, 100_000, dtype=torch.float64), torch.Generator().manual_seed(0))
    moments = [eps.pow(power).mean().item() for power in (1, 2, 3, 4)]
    assert_close(moments, [0.0, 1.0, 0.0, 3.0], atol=0.05, rtol=0)


def test_a_shorter_length_is_the_beginning_of_the_whole(model):
    z = noise(1, 32, 5).tanh()
    whole, part = (model.decode(z, 2, torch.Generator().manual_seed(0), length) for length in (None, 3000))
    assert_close(part, whole[..., :3000], atol=0, rtol=0)
