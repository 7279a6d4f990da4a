"""The small stage 1: an exact way to the diffused signal and back, the magnitude head, refinement, pre-training."""

from dataclasses import replace
from math import cos, pi

import pytest
import torch
from helpers.nets import predicts
from torch.testing import assert_close

from mousai.diffusion import add_noise, ddim, gaussian_like, v_target
from mousai.small import refinement
from mousai.small.config import SmallDMAEConfig
from mousai.small.dmae import MAGNITUDE_FLOOR, SmallDMAE
from mousai.small.encoder import SmallEncoder, linear_magnitude, log_magnitude
from mousai.small.refinement import with_magnitude
from mousai.spectrogram import magnitude
from mousai.training.network_ratio import without_network

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
    x_0 = ddim(lambda x, sigma: model.net(x, sigma, z), eps, 3)
    expected = model.to_wave(model.coloured(x_0, model.condition(z))).detach()
    assert_close(model.decode(z, 3, torch.Generator().manual_seed(5)), expected, **CLOSE)


@pytest.mark.parametrize("scale", [1.0, 5.0])
@pytest.mark.parametrize("preemphasis", [0.0, 0.97])
def test_the_way_to_the_diffused_signal_and_back_is_exact(plain, scale, preemphasis):
    model = SmallDMAE(replace(plain, wave_scale=scale, preemphasis=preemphasis))
    w = noise(2, 2, 5000, dtype=torch.float64)
    assert_close(model.to_wave(model.emphasised(w)), w, atol=1e-12, rtol=1e-12)


def test_preemphasis_subtracts_its_share_of_the_sample_before(plain):
    model, w = SmallDMAE(replace(plain, wave_scale=2.0, preemphasis=0.9)), noise(1, 2, 100, dtype=torch.float64)
    assert_close(model.emphasised(w)[..., 1:], 2 * (w[..., 1:] - 0.9 * w[..., :-1]), atol=1e-12, rtol=1e-12)


def test_the_way_back_never_clips(plain):
    model = SmallDMAE(replace(plain, preemphasis=0.5))
    assert model.to_wave(torch.full((1, 2, 10), 4.0)).max() > 4


@pytest.mark.parametrize("departure", [{}, {"wave_scale": 3.0, "preemphasis": 0.9}], ids=["paper", "departs"])
def test_the_loss_is_the_velocity_error_of_the_diffused_signal_alone(plain, departure):
    model, w = SmallDMAE(replace(plain, **departure)), noise(3, 2, 2048)
    generator, x_0 = torch.Generator().manual_seed(2), model.emphasised(w)
    eps, sigma = gaussian_like(w, generator), torch.rand(3, generator=generator)
    alpha, beta = torch.cos(torch.pi / 2 * sigma)[:, None, None], torch.sin(torch.pi / 2 * sigma)[:, None, None]
    v_hat = model.net(alpha * x_0 + beta * eps, sigma, model.encode(w))
    expected = (v_hat - (alpha * eps - beta * x_0)).square().mean()
    assert_close(model(w, torch.Generator().manual_seed(2)), expected, **CLOSE)


def gradients(config: SmallDMAEConfig, step: int) -> tuple[SmallDMAE, set[str]]:
    """A model after one backward pass at that step, and which of its parts have a gradient."""
    torch.manual_seed(0)
    model = SmallDMAE(config)
    model(noise(2, 2, config.crop), torch.Generator().manual_seed(0), step).backward()
    return model, {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}


def test_in_the_pre_training_encoder_and_head_alone_are_trained(tiny):
    model, trained = gradients(tiny.dmae, tiny.dmae.encoder_pretrain_steps - 1)
    assert trained == {"encoder", "head"}
    for part in (model.encoder, model.head):
        assert all(parameter.grad.any() for parameter in part.parameters())


def test_after_it_the_network_alone_is_trained(tiny):
    model, trained = gradients(tiny.dmae, tiny.dmae.encoder_pretrain_steps)
    assert trained == {"groups", "unet"}
    assert all(parameter.grad.any() for parameter in model.groups.to_context.parameters())


def test_the_networks_loss_is_one_where_it_answers_nothing_and_the_head_is_right(tiny, monkeypatch):
    torch.manual_seed(0)
    model = without_network(SmallDMAE(tiny.dmae))
    w = noise(16, 2, tiny.dmae.crop)
    bands = model.octaves.analyse(model.emphasised(w))
    flat = [octave.square().mean(dim=(0, 2), keepdim=True).sqrt().log().expand_as(octave) for octave in bands]
    monkeypatch.setattr(model.head, "log_g", lambda h: flat)
    assert_close(model.network_loss(w, torch.Generator().manual_seed(0)).item(), 1.0, atol=0.03, rtol=0)


def test_the_networks_loss_is_the_velocity_error_octave_by_octave(tiny):
    """With every group drawn it is what `net` leaves of v, band by band."""
    torch.manual_seed(0)
    config = replace(tiny.dmae, groups_drawn=99)
    model, w = SmallDMAE(config), noise(2, 2, config.crop)
    generator, z = torch.Generator().manual_seed(3), model.encode(w)
    sigma, losses = torch.rand(2, generator=generator), []
    for i, x_0 in enumerate(model.octaves.analyse(model.to_signal(w, z))):
        eps = gaussian_like(x_0, generator)
        torch.randperm(x_0.shape[1] // 2 // config.group_bands, generator=generator)
        octaves = [torch.zeros_like(octave) for octave in model.octaves.analyse(w)]
        octaves[i] = add_noise(x_0, eps, sigma)
        v_hat = model.octaves.analyse(model.net(model.octaves.synthesise(octaves), sigma, z))[i]
        losses.append((v_hat - v_target(x_0, eps, sigma)).square().mean())
    found = model.network_loss(w, torch.Generator().manual_seed(3))
    assert_close(found, torch.stack(losses).mean(), atol=1e-4, rtol=1e-4)


def test_the_heads_loss_is_least_where_it_tells_the_true_sizes(tiny, monkeypatch):
    torch.manual_seed(0)
    model, w = SmallDMAE(tiny.dmae), noise(8, 2, tiny.dmae.crop)
    true = [octave.square().mean(dim=(0, 2), keepdim=True).sqrt().log().expand_as(octave)
            for octave in model.octaves.analyse(model.emphasised(w))]  # fmt: skip
    losses = []
    for change in (-0.3, 0.0, 0.3):
        monkeypatch.setattr(model.head, "log_g", lambda h, by=change: [octave + by for octave in true])
        losses.append(model.head_loss(w).item())
    assert losses[1] == min(losses)


def test_without_its_network_noise_of_the_predicted_spectrum_is_left(tiny):
    torch.manual_seed(0)
    model = SmallDMAE(tiny.dmae).eval()
    removed, z = without_network(model), noise(1, 32, 16).tanh()
    eps = noise(1, 2, tiny.dmae.crop, seed=5)
    expected = model.to_wave(model.coloured(eps, model.condition(z))).detach()
    for steps in (2, 7):
        shrunk = cos(pi / 2 / steps) ** steps * expected  # DDIM's own error where v_hat is 0: the angle's chord
        assert_close(removed.decode(z, steps, torch.Generator().manual_seed(5)), shrunk, atol=1e-4, rtol=1e-4)
    assert (model.decode(z, 2, torch.Generator().manual_seed(5)) - expected).std() > 1e-3 * expected.std()


def test_another_latent_reaches_the_network_without_changing_the_heads_answer(tiny):
    model = SmallDMAE(tiny.dmae).eval()
    z, other = noise(1, 32, 16).tanh(), noise(1, 32, 16, seed=1).tanh()
    own, mixed = model.condition(z), model.condition(z, injected=other)
    for a, b in zip(own.log_g, mixed.log_g, strict=True):
        assert torch.equal(a, b)
    size, context = 2 * (tiny.dmae.group_bands + 2 * tiny.dmae.halo_bands), tiny.dmae.context_channels
    for a, b in zip(own.injected, mixed.injected, strict=True):
        assert (a != b).flatten(3).any(dim=(0, 1, 3))[size : size + context].all()
        assert torch.equal(a[:, :, :size], b[:, :, :size])


def test_on_patches_there_is_no_head(plain):
    model = SmallDMAE(plain)
    assert model.head is None and model.condition(noise(1, 8, 4)) is None and model.front is not None


@pytest.fixture
def told(tiny, monkeypatch) -> tuple[SmallDMAE, torch.Tensor]:
    """A model whose head always predicts the magnitude of one waveform exactly, and that waveform."""
    torch.manual_seed(0)
    plain = replace(tiny.dmae, magnitude_contrast=1.0, phase_share=0.0, refinement_steps=1)
    model, w = SmallDMAE(plain).eval(), noise(1, 2, 16 * 1024)
    log_m = log_magnitude(magnitude(w), MAGNITUDE_FLOOR)
    predicts(model, log_m, monkeypatch)
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
    predicts(model, torch.tensor([[[0.0, 1.0, 2.0, 1.0] * 2, [3.0] * 8]]), monkeypatch)
    expected = linear_magnitude(torch.tensor([[[-0.5, 1.0, 2.5, 1.0] * 2, [3.0] * 8]]), MAGNITUDE_FLOOR)
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
    x_0 = ddim(lambda x, sigma: model.net(x, sigma, z), eps, 2)
    expected = model.to_wave(model.coloured(x_0, model.condition(z))).detach()
    for _ in range(refinement_steps):
        expected = with_magnitude(expected, magnitude(w))
    model.config = replace(model.config, refinement_steps=refinement_steps)
    assert_close(model.decode(z, 2, torch.Generator().manual_seed(5)), expected, atol=1e-2, rtol=1e-2)


def test_refinement_without_a_head_is_refused(plain):
    model = SmallDMAE(replace(plain, refinement_steps=1))
    with pytest.raises(ValueError, match="no magnitude head: set `octaves`"):
        refined(model, noise(1, 2, 2048), noise(1, 32, 2))


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


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"halo_bands": 4}, "unet.in_channels is 128: groups of bands need 96"),
        ({"octaves": ((33, 1), (223, 1))}, "each needs a multiple of 16 bands"),
        ({"octaves": ((32, 1), (16, 2))}, "bands times widths must make 256 units"),
    ],
)
def test_groups_that_do_not_fit_are_refused_by_number(tiny, change, said):
    with pytest.raises(ValueError, match=said):
        SmallDMAE(replace(tiny.dmae, **change))
