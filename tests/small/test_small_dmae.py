"""The small stage 1: an exact way to the diffused signal and back, the magnitude head, refinement, pre-training."""

from dataclasses import replace

import pytest
import torch
from helpers.nets import reads
from torch.testing import assert_close

from mousai.diffusion import ddim, diffusion_loss, gaussian_like
from mousai.dmae import PatchFrontEnd
from mousai.small import refinement
from mousai.small.config import SmallDMAEConfig, SmallUNetConfig
from mousai.small.dmae import READ_FLOOR, SmallDMAE
from mousai.small.encoder import SmallEncoder, linear_magnitude, log_magnitude, start_from_dct
from mousai.small.refinement import with_magnitude
from mousai.spectrogram import magnitude
from mousai.unet import Inject, UNet

CLOSE = {"atol": 1e-5, "rtol": 1e-5}


@pytest.fixture(scope="module")
def model(tiny) -> SmallDMAE:
    torch.manual_seed(0)
    return SmallDMAE(tiny.dmae).eval()


def noise(*shape, seed=0, **kind) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **kind)


@pytest.mark.parametrize(("time", "steps"), [(1, 1), (1024, 1), (1025, 2), (5000, 5), (2**14, 16)])
def test_any_length_is_encoded_to_a_step_per_1024_samples(model, time, steps):
    assert model.encode(noise(1, 2, time)).shape == (1, 32, steps)


def test_the_latent_stays_within_one(model):
    assert model.encode(100 * noise(1, 2, 8192)).abs().max() <= 1


def test_encoding_pads_with_silence(model):
    w = noise(1, 2, 5000)
    padded = torch.cat([w, torch.zeros(1, 2, 5 * 1024 - 5000)], dim=-1)
    assert_close(model.encode(w), model.encode(padded))


def test_silence_is_finite_with_and_without_a_logarithm(model, plain, generator):
    assert model.encode(torch.zeros(1, 2, 2048)).isfinite().all()
    paper = SmallDMAE(plain)
    assert paper.encode(torch.zeros(1, 2, 2048)).isfinite().all()
    assert paper(torch.zeros(2, 2, 2048), generator).isfinite()


@pytest.mark.parametrize("length", [1, 1000, 1024, 5000, 2**14, 2**14 + 1, 40_000])
def test_any_length_is_decoded_windows_or_not(model, generator, length):
    z = noise(1, 32, -(-length // 1024)).tanh()
    w = model.decode(z, 1, generator, length)
    assert w.shape == (1, 2, length) and w.isfinite().all()


def test_without_a_length_all_of_the_latent_is_decoded(model, generator):
    assert model.decode(noise(2, 32, 5), 1, generator).shape == (2, 2, 5 * 1024)


def test_a_length_beyond_the_latent_is_refused_by_number(model, generator):
    with pytest.raises(ValueError, match="length 2049 is not within the 2048 samples that 2 latent steps describe"):
        model.decode(noise(1, 32, 2), 1, generator, 2049)


def test_decoding_a_crop_is_ddim_through_the_net_and_back_to_a_waveform(model, tiny):
    z = noise(1, 32, 16).tanh()
    eps = noise(1, 2, tiny.dmae.crop, seed=5)
    expected = model.to_wave(ddim(lambda x, sigma: model.net(x, sigma, z), eps, 3)).detach()
    assert_close(model.decode(z, 3, torch.Generator().manual_seed(5)), expected, **CLOSE)


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("preemphasis", [0.0, 0.97])
def test_the_way_to_the_diffused_signal_and_back_is_exact(plain, scale, preemphasis):
    model = SmallDMAE(replace(plain, wave_scale=scale, preemphasis=preemphasis))
    w = noise(2, 2, 5000, dtype=torch.float64)
    assert_close(model.to_wave(model.to_signal(w)), w, atol=1e-12, rtol=1e-12)


def test_preemphasis_subtracts_its_share_of_the_sample_before(plain):
    model, w = SmallDMAE(replace(plain, wave_scale=2.0, preemphasis=0.9)), noise(1, 2, 100, dtype=torch.float64)
    assert_close(model.to_signal(w)[..., 1:], 2 * (w[..., 1:] - 0.9 * w[..., :-1]), atol=1e-12, rtol=1e-12)


def test_the_way_back_never_clips(plain):
    model = SmallDMAE(replace(plain, preemphasis=0.5))
    assert model.to_wave(torch.full((1, 2, 10), 4.0)).max() > 4


@pytest.mark.parametrize("departure", [{}, {"wave_scale": 3.0, "preemphasis": 0.9}], ids=["paper", "departs"])
def test_the_loss_is_the_velocity_error_of_the_diffused_signal_alone(plain, departure):
    model, w = SmallDMAE(replace(plain, **departure)), noise(3, 2, 2048)
    generator, x_0 = torch.Generator().manual_seed(2), model.to_signal(w)
    eps, sigma = gaussian_like(w, generator), model.draw_sigma(3, generator)
    alpha, beta = torch.cos(torch.pi / 2 * sigma)[:, None, None], torch.sin(torch.pi / 2 * sigma)[:, None, None]
    v_hat = model.net(alpha * x_0 + beta * eps, sigma, model.encode(w))
    expected = (v_hat - (alpha * eps - beta * x_0)).square().mean()
    assert_close(model(w, torch.Generator().manual_seed(2)), expected, **CLOSE)


def gradients(config: SmallDMAEConfig, step: int) -> tuple[SmallDMAE, set[str]]:
    """A model after one backward pass at that step, and which of its parts heard of it."""
    torch.manual_seed(0)
    model = SmallDMAE(config)
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
        model, w = SmallDMAE(replace(tiny.dmae, freeze_encoder=frozen)), noise(2, 2, tiny.dmae.crop)
        losses.append([model(w, torch.Generator().manual_seed(1), step).item() for step in (0, 10)])
    assert losses[0] == losses[1]


def test_after_the_warm_start_the_readers_loss_is_added_to_the_velocity_error(tiny):
    torch.manual_seed(0)
    model, w = SmallDMAE(tiny.dmae), noise(2, 2, tiny.dmae.crop)
    generator, x_0, z = torch.Generator().manual_seed(2), model.to_signal(w), model.encode(w)
    eps, sigma = gaussian_like(w, generator), model.draw_sigma(2, generator)
    error = diffusion_loss(lambda x, s: model.net(x, s, z), x_0, eps, sigma).mean()
    side = model(w, torch.Generator().manual_seed(2), step=0)
    assert side > 0
    assert_close(model(w, torch.Generator().manual_seed(2)), error + side, **CLOSE)


def test_the_readers_loss_is_the_squared_error_of_log_magnitude_and_the_envelopes_each_with_its_weight(tiny):
    model, w = SmallDMAE(replace(tiny.dmae, readout_weight=2.0, envelope_weight=3.0)), noise(2, 2, tiny.dmae.crop)
    m_w, x_0, z = magnitude(w), model.to_signal(w), model.encode(w)
    log_g, log_m = model.reader(z)
    expected = 2 * (log_m - log_magnitude(m_w, 1e-3)).square().mean() + 3 * model.envelope.loss(log_g, x_0)
    assert_close(model.reader_loss(z, m_w, x_0), expected, **CLOSE)


def test_the_paper_asks_nothing_of_a_reader(plain):
    model, w = SmallDMAE(plain), noise(1, 2, 2048)
    assert model.reader_loss(model.encode(w), magnitude(w, 127, 32), w) == 0


@pytest.fixture
def told(tiny, monkeypatch) -> tuple[SmallDMAE, torch.Tensor]:
    """A model whose reader always tells the magnitude of one waveform exactly, and that waveform."""
    torch.manual_seed(0)
    plain = replace(tiny.dmae, magnitude_contrast=1.0, phase_share=0.0, refinement_steps=1)
    model, w = SmallDMAE(plain).eval(), noise(1, 2, 16 * 1024)
    log_m = log_magnitude(magnitude(w), READ_FLOOR)
    reads(model, log_m, monkeypatch)
    return model, w


def refined(model: SmallDMAE, w: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    return torch.cat([*model.refine([w], z)], dim=-1)


def test_refinement_brings_the_magnitude_the_nearer_the_longer(told):
    model, w = told
    distances = []
    for steps in (0, 1, 4):
        model.config = replace(model.config, refinement_steps=steps)
        made = refined(model, noise(1, 2, 16 * 1024, seed=3), noise(1, 32, 16))
        distances.append((magnitude(made) - magnitude(w)).norm().item())
    assert distances == sorted(distances, reverse=True) and distances[1] < 0.7 * distances[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_refinement_keeps_the_phase(told, sign):
    """What has the right magnitude stays as it is, sign and all; twice as loud, it comes back to its size."""
    model, w = told
    z = noise(1, 32, 16)
    assert_close(refined(model, sign * w, z), sign * w, atol=1e-2, rtol=0)
    assert_close(refined(model, 2 * sign * w, z), sign * w, atol=1e-2, rtol=0)


def test_contrast_stretches_what_is_read_about_its_mean_over_time(tiny, monkeypatch):
    model = SmallDMAE(replace(tiny.dmae, magnitude_contrast=1.5))
    reads(model, torch.tensor([[[0.0, 1.0, 2.0, 1.0] * 2, [3.0] * 8]]), monkeypatch)
    expected = linear_magnitude(torch.tensor([[[-0.5, 1.0, 2.5, 1.0] * 2, [3.0] * 8]]), READ_FLOOR)
    assert_close(model.read_magnitude(noise(1, 32, 2)), expected)


def test_a_share_of_the_other_channel_keeps_left_and_right_together(told):
    """Channels whose phases have nothing to do with each other come to agree; the magnitude stays what is read."""
    model, w = told
    start, agree, apart = noise(1, 2, 16 * 1024, seed=3), [], []
    for share in (0.0, 0.5):
        model.config = replace(model.config, phase_share=share)
        made = refined(model, start, noise(1, 32, 16))
        agree.append(torch.corrcoef(made[0])[0, 1].item())
        apart.append((magnitude(made) - magnitude(w)).norm().item())
    assert abs(agree[0]) < 0.05 and agree[1] > 0.3
    assert_close(apart[1], apart[0], rtol=0.1, atol=0)
    assert_close(made, with_magnitude(start + start.flip(1) / 2, magnitude(w)), atol=1e-3, rtol=1e-3)


def test_a_long_sound_is_refined_in_parts_as_it_is_in_one(told, monkeypatch):
    model = told[0]
    model.config = replace(model.config, refinement_steps=3, phase_share=0.1)
    start, z = noise(1, 2, 16 * 1024, seed=3), noise(1, 32, 16)
    whole = refined(model, start, z)
    monkeypatch.setattr(refinement, "PART", 5 * 1024)
    assert_close(refined(model, start, z), whole, **CLOSE)
    assert_close(torch.cat([*model.refine(start.split(700, dim=-1), z)], dim=-1), whole, **CLOSE)


def test_magnitudes_read_in_parts_are_those_read_at_once(tiny):
    model, z = SmallDMAE(replace(tiny.dmae, magnitude_contrast=1.5)).eval(), noise(2, 32, 16)
    whole, read = model.read_magnitude(z), model.magnitude_reader(z)
    log_m = log_magnitude(whole + 1, 0.0)
    assert whole.shape[-1] == 64 and log_m.isfinite().all()
    for a, b in ((0, 64), (0, 5), (3, 9), (8, 12), (59, 64)):
        assert_close(read(a, b), whole[..., a:b], **CLOSE)


@pytest.mark.parametrize("refinement_steps", [0, 1, 2])
def test_decoding_ends_with_as_many_steps_of_refinement_as_the_profile_says(told, refinement_steps):
    model, w = told
    z, eps = noise(1, 32, 16).tanh(), noise(1, 2, 16 * 1024, seed=5)
    expected = model.to_wave(ddim(lambda x, sigma: model.net(x, sigma, z), eps, 2)).detach()
    for _ in range(refinement_steps):
        expected = with_magnitude(expected, magnitude(w))
    model.config = replace(model.config, refinement_steps=refinement_steps)
    assert_close(model.decode(z, 2, torch.Generator().manual_seed(5)), expected, atol=1e-2, rtol=1e-2)


def test_refinement_without_a_head_is_refused(plain):
    model = SmallDMAE(replace(plain, refinement_steps=1))
    with pytest.raises(ValueError, match="no reader: set `readout_weight`"):
        refined(model, noise(1, 2, 2048), noise(1, 32, 2))


def test_levels_are_uniform_and_the_noisy_share_leans_to_one(plain):
    uniform = SmallDMAE(plain).draw_sigma(20_000, torch.Generator().manual_seed(0))
    assert_close(uniform.mean().item(), 1 / 2, atol=0.01, rtol=0)
    assert_close(uniform.square().mean().item(), 1 / 3, atol=0.01, rtol=0)
    leaning = SmallDMAE(replace(plain, noisy_share=1.0)).draw_sigma(20_000, torch.Generator().manual_seed(0))
    assert_close(leaning.mean().item(), 2 / 3, atol=0.01, rtol=0)


def test_a_shorter_length_is_the_beginning_of_the_whole(model):
    z = noise(1, 32, 5).tanh()
    whole, part = (model.decode(z, 2, torch.Generator().manual_seed(0), length) for length in (None, 3000))
    assert_close(part, whole[..., :3000], atol=0, rtol=0)


def test_without_departures_it_is_the_papers(plain, paper_dmae):
    """The same names, and with the same weights the same v_hat, latent and sound."""
    from mousai.dmae import DMAE

    small, paper = SmallDMAE(plain).eval(), DMAE(paper_dmae).eval()
    paper.load_state_dict(small.state_dict())
    w = noise(1, 2, 2048)
    assert torch.equal(small.encode(w), paper.encode(w))
    z = paper.encode(w)
    made = [net.decode(z, 2, torch.Generator().manual_seed(0)) for net in (small, paper)]
    assert torch.equal(*made)
    assert torch.equal(small(w, torch.Generator().manual_seed(0)).isfinite(), torch.tensor(True))


def test_a_wave_undone_in_parts_is_the_wave(tiny):
    model, x = SmallDMAE(replace(tiny.dmae, preemphasis=0.9)), noise(2, 2, 4096)
    whole, parts = model.to_wave(x), []
    for part in x.split(1000, dim=-1):
        parts.append(model.to_wave(part, parts[-1] if parts else None))
    assert_close(torch.cat(parts, dim=-1), whole, **CLOSE)


def test_a_latent_can_be_injected_at_every_depth_down_to_its_own(generator):
    depths = {"channels": (8, 16, 16), "factors": (1, 2, 5), "items": (1, 1, 1), "attentions": (0, 0, 0)}
    shape = {"inject_depth": 1, "inject_channels": 3, "features": 16}
    net = UNet(SmallUNetConfig(4, **depths, cross_attentions=(0,) * 3, **shape, inject_everywhere=True))
    has = [name for name, module in net.named_modules() if isinstance(module, Inject)]
    assert len(has) == 4 and not any("inner.inner" in name for name in has)
    net(noise(2, 4, 20), torch.tensor([0.2, 0.9]), noise(2, 3, 10)).sum().backward()
    assert net.net.items_down[0].inject.conv.weight.grad.any()


def test_the_skip_starts_where_the_profile_says(tiny):
    model = SmallDMAE(replace(tiny.dmae, unet=replace(tiny.dmae.unet, skip_start=0.25)))
    assert (model.unet.net.skip.bias == 0.25).all() and (model.unet.net.inner.skip.bias == 0.25).all()


def test_logarithm_and_back_is_the_magnitude_and_never_negative():
    m = torch.linspace(0, 50, 40, dtype=torch.float64).reshape(1, 8, 5)
    assert_close(linear_magnitude(log_magnitude(m, 1e-3), 1e-3), m, atol=1e-12, rtol=1e-12)
    assert linear_magnitude(torch.full((1, 8, 5), -9.0), 1e-3).min() == 0


def test_the_encoders_straight_path_joins_its_net(plain):
    """It is linear in the log magnitude, so that a start from PCA is possible; the net is added before tanh."""
    encoder = SmallEncoder(replace(plain.encoder, pca_start=True, log_floor=1e-3))
    torch.nn.init.zeros_(encoder.to_out.weight), torch.nn.init.constant_(encoder.to_out.bias, 0.1)
    m_w = noise(1, 128, 64).abs()
    straight = encoder.straight(log_magnitude(m_w, 1e-3))
    assert straight.shape == (1, 8, 16)
    assert_close(encoder(m_w), torch.tanh(0.1 + straight), atol=1e-5, rtol=1e-5)


def test_the_norm_before_tanh_gives_every_step_the_same_spread(plain):
    normed = SmallEncoder(replace(plain.encoder, norm_before_tanh=True))
    before = normed(noise(2, 128, 64).abs()).atanh()
    assert_close(before.mean(dim=1), torch.zeros(2, 16), atol=1e-3, rtol=0)
    assert_close(before.std(dim=1, correction=0), torch.ones(2, 16), atol=1e-2, rtol=0)


def dct_front(channels: int) -> PatchFrontEnd:
    front = PatchFrontEnd(64, channels)
    start_from_dct(front)
    return front


def test_the_front_end_starts_as_an_exact_inverse_pair():
    front, w = dct_front(128).double(), noise(2, 2, 640, dtype=torch.float64)
    assert_close(front.synthesis(front.analysis(w)), w, atol=1e-5, rtol=0)
    assert_close(front.analysis(w).norm(), w.norm(), atol=1e-5, rtol=1e-5)


def test_the_front_ends_channels_start_as_mid_and_side_of_each_band_low_bands_first():
    front, t = dct_front(128), (torch.arange(640.0) + 0.5) % 64
    band = torch.cos(torch.pi * 5 * t / 64)
    for wave, channel in ((torch.stack([band, band]), 10), (torch.stack([band, -band]), 11)):
        heard = front.analysis(wave[None])[0].abs().mean(dim=1)
        assert_close(heard / heard[channel], torch.eye(128)[channel], atol=1e-4, rtol=0)


def test_a_front_end_that_cannot_be_an_inverse_pair_is_refused_by_number():
    with pytest.raises(ValueError, match="100 patch channels: an exact inverse pair needs 2 x 64"):
        dct_front(100)
