"""The authors' packages are the oracle: with their weights, our modules compute what theirs compute."""

from math import prod

import numpy as np
import pytest
import torch
import transformers
from audio_diffusion_pytorch import DiffusionAE, DiffusionModel, LTPlugin, UNetV0, VDiffusion, VSampler
from audio_encoders_pytorch import ME1d, TanhBottleneck
from torch.testing import assert_close

from mousai.diffusion import diffusion_loss, sample
from mousai.dmae import DMAE
from mousai.interop import dmae_from_authors, dmae_to_authors, tcld_from_authors, tcld_to_authors
from mousai.profiles import A100, SMOKE, DMAEConfig, EncoderConfig, TCLDConfig, TextConfig, UNetConfig
from mousai.tcld import TCLD
from mousai.text import load_text_encoder

SEEDS = range(6)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def random_unet(rng: np.random.Generator, **fixed) -> UNetConfig:
    """A random architecture of 2 to 4 depths, with attention only where `fixed` brings text."""
    depths = int(rng.integers(2, 5))
    attentions = rng.integers(0, 3, depths) if "embedding_features" in fixed else np.zeros(depths, int)
    cross = np.maximum(rng.integers(0, 3, depths), np.eye(depths, dtype=int)[0]) if attentions.any() else attentions
    if "embedding_features" in fixed and not cross.any():
        cross[-1] = 1
    return UNetConfig(
        channels=tuple(int(c) for c in 8 * rng.integers(1, 5, depths)),
        factors=(1, *(int(f) for f in rng.integers(1, 4, depths - 1))),
        items=tuple(int(n) for n in rng.integers(1, 3, depths)),
        attentions=tuple(int(n) for n in attentions),
        cross_attentions=tuple(int(n) for n in cross),
        heads=int(rng.integers(1, 5)),
        head_features=int(8 * rng.integers(1, 4)),
        features=int(8 * rng.integers(2, 9)),
        **fixed,
    )


def random_dmae(seed: int) -> DMAEConfig:
    rng = np.random.default_rng(seed)
    latent_channels, patch_channels = int(rng.integers(2, 9)), int(8 * rng.integers(1, 5))
    unet = random_unet(rng, in_channels=patch_channels, inject_channels=latent_channels)
    depth = int(rng.integers(len(unet.factors)))
    unet = UNetConfig(**{**vars(unet), "inject_depth": depth})
    patch, factors = int(rng.choice([16, 32])), tuple(int(f) for f in rng.integers(1, 3, rng.integers(1, 3)))
    hop = patch * prod(unet.factors[: depth + 1]) // prod(factors)  # so that latent and activation are of a length
    n_fft = 4 * hop - 1
    blocks = tuple(int(b) for b in rng.integers(1, 4, len(factors)))
    encoder = EncoderConfig(2 * (n_fft + 1) // 2, int(8 * rng.integers(1, 4)), factors, blocks, latent_channels)
    return DMAEConfig(unet, encoder, n_fft=n_fft, hop=hop, patch=patch, patch_channels=patch_channels)


def unet_arguments(config: UNetConfig) -> dict:
    return {
        "channels": list(config.channels),
        "factors": list(config.factors),
        "items": list(config.items),
        "resnet_groups": config.groups,
        "modulation_features": config.features,
        "diffusion_t": VDiffusion,
        "sampler_t": VSampler,
    }


def authors_dmae(config: DMAEConfig) -> DiffusionAE:
    encoder = ME1d(
        in_channels=2,
        channels=config.encoder.channels,
        multipliers=[1] * (len(config.encoder.factors) + 1),
        factors=list(config.encoder.factors),
        num_blocks=list(config.encoder.blocks),
        stft_num_fft=config.n_fft,
        stft_hop_length=config.hop,
        out_channels=config.encoder.latent_channels,
        bottleneck=TanhBottleneck(),
    )
    front = LTPlugin(UNetV0, num_filters=config.patch_channels // 2, window_length=config.patch, stride=config.patch)
    unet = unet_arguments(config.unet)
    return DiffusionAE(
        net_t=front, dim=1, in_channels=2, encoder=encoder, inject_depth=config.unet.inject_depth, **unet
    )


def dmae_pair(seed: int) -> tuple[DiffusionAE, DMAE, torch.Tensor]:
    """Theirs and ours with the same weights, and two items of noise of a length that fits both nets."""
    torch.manual_seed(seed)
    config = random_dmae(seed)
    theirs, ours = authors_dmae(config).eval(), DMAE(config).eval()
    ours.load_state_dict(dmae_from_authors(theirs.state_dict(), config))
    return theirs, ours, torch.randn(2, 2, 4 * int(np.lcm(config.patch * config.unet.stride, config.latent_stride)))


def random_tcld(seed: int) -> TCLDConfig:
    rng = np.random.default_rng(100 + seed)
    features, channels = int(4 * rng.integers(1, 9)), int(rng.integers(1, 9))
    unet = random_unet(rng, in_channels=channels, embedding_features=features)
    return TCLDConfig(unet, TextConfig(features=features, tokens=int(rng.integers(2, 9))))


def authors_tcld(config: TCLDConfig, use_text_conditioning: bool = False) -> DiffusionModel:
    return DiffusionModel(
        net_t=UNetV0,
        in_channels=config.unet.in_channels,
        attentions=list(config.unet.attentions),
        cross_attentions=list(config.unet.cross_attentions),
        attention_heads=config.unet.heads,
        attention_features=config.unet.head_features,
        use_embedding_cfg=True,
        use_text_conditioning=use_text_conditioning,
        embedding_max_length=config.text.tokens,
        embedding_features=config.text.features,
        **unet_arguments(config.unet),
    )


def tcld_pair(seed: int) -> tuple[DiffusionModel, TCLD, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    config = random_tcld(seed)
    length = 6 * config.unet.stride
    theirs, ours = authors_tcld(config).eval(), TCLD(config, window=length).eval()
    ours.load_state_dict(tcld_from_authors(theirs.state_dict(), config))
    z = torch.randn(2, config.unet.in_channels, length)
    return theirs, ours, z, torch.randn(2, config.text.tokens, config.text.features)


def channels_at(depth: int, z: torch.Tensor) -> list:
    """How their net wants the latent: one entry a depth."""
    return [None] * depth + [z]


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_magnitude_encoder_is_theirs(seed):
    theirs, ours, w = dmae_pair(seed)
    assert_close(ours.encode(w), theirs.encode(w), **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_dmae_net_with_front_end_and_injection_is_theirs(seed):
    theirs, ours, w = dmae_pair(seed)
    z, sigma = ours.encode(w), torch.rand(2)
    expected = theirs.net(w, sigma, channels=channels_at(ours.config.unet.inject_depth, z))
    assert_close(ours.net(w, sigma, z), expected, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_seven_steps_of_ddim_through_the_dmae_are_theirs(seed):
    theirs, ours, w = dmae_pair(seed)
    z, eps = ours.encode(w), torch.randn_like(w)
    expected = theirs.sample(eps, num_steps=7, channels=channels_at(ours.config.unet.inject_depth, z))
    assert_close(sample(lambda x, sigma: ours.net(x, sigma, z), eps, 7), expected, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_tcld_net_is_theirs(seed):
    theirs, ours, z, embedding = tcld_pair(seed)
    sigma = torch.rand(2)
    assert_close(ours.velocity(z, sigma, embedding, 1.0), theirs.net(z, sigma, embedding=embedding), **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_guidance_in_one_batched_call_is_their_two_calls(seed):
    theirs, ours, z, embedding = tcld_pair(seed)
    sigma = torch.rand(2)
    expected = theirs.net(z, sigma, embedding=embedding, embedding_scale=5.0)
    assert_close(ours.velocity(z, sigma, embedding, 5.0), expected, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_seven_guided_steps_of_ddim_are_theirs(seed):
    theirs, ours, eps, embedding = tcld_pair(seed)
    expected = theirs.sample(eps, num_steps=7, embedding=embedding, embedding_scale=3.0)
    ours_net = lambda x, sigma: ours.velocity(x, sigma, embedding, 3.0)  # noqa: E731
    assert_close(sample(ours_net, eps, 7), expected, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_training_loss_and_gradients_are_theirs(seed):
    """They draw the noise, then the levels, from the global generator: replayed here for ours."""
    theirs, ours, w = dmae_pair(seed)
    torch.manual_seed(7)
    expected = theirs(w)
    torch.manual_seed(7)
    sigma, eps = authors_draws(w)
    z = ours.encode(w)
    loss = diffusion_loss(lambda x, s: ours.net(x, s, z), w, eps, sigma).mean()
    assert_close(loss, expected, **CLOSE)
    expected.backward()
    loss.backward()
    gradients = {name: tensor.grad for name, tensor in theirs.named_parameters() if tensor.grad is not None}
    renamed = dmae_from_authors(gradients, ours.config)
    for name, parameter in ours.named_parameters():
        assert_close(parameter.grad, renamed[name], **CLOSE, msg=lambda text, name=name: f"{name}: {text}")


def authors_draws(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Their order of drawing: the levels, then the noise."""
    return torch.rand(len(x)), torch.randn_like(x)


@pytest.mark.parametrize("seed", SEEDS)
def test_weights_go_to_the_authors_and_come_back_unchanged(seed):
    theirs, ours, _ = dmae_pair(seed)
    state = dmae_to_authors(ours.state_dict(), ours.config)
    assert_close(state, dict(theirs.state_dict()), atol=0, rtol=0)
    theirs, ours, *_ = tcld_pair(seed)
    state = tcld_to_authors(ours.state_dict(), ours.config)
    assert_close(state, dict(theirs.state_dict()), atol=0, rtol=0)


def test_published_files_with_an_outer_model_prefix_load_too():
    theirs, ours, _ = dmae_pair(0)
    prefixed = {f"model.{name}": tensor for name, tensor in theirs.state_dict().items()}
    assert_close(dmae_from_authors(prefixed, ours.config), dict(ours.state_dict()), atol=0, rtol=0)


def test_a_text_conditioned_model_with_its_t5_inside_is_ours_beside_it(t5_folder, monkeypatch):
    """Their whole path from the prompt: T5 in the net, a learned "no text", two calls. A tiny T5 stands in."""
    text = TextConfig(str(t5_folder), 16, 64)
    encoder = load_text_encoder(text)
    for name in ("AutoTokenizer", "T5EncoderModel"):
        load = getattr(transformers, name).from_pretrained
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", lambda _, load=load: load(t5_folder))
    unet = random_unet(np.random.default_rng(5), in_channels=4, embedding_features=16)
    config = TCLDConfig(unet, text)
    torch.manual_seed(0)
    theirs, ours = authors_tcld(config, use_text_conditioning=True).eval(), TCLD(config, window=64).eval()
    ours.load_state_dict(tcld_from_authors(theirs.state_dict(), config))
    z, sigma, prompts = torch.randn(2, 4, 4 * unet.stride), torch.rand(2), ["metal, 1 of 4", "pop"]
    with torch.no_grad():
        expected = theirs.net(z, sigma, text=prompts, embedding_scale=3.0)
        assert_close(ours.velocity(z, sigma, encoder(prompts), 3.0), expected, **CLOSE)


def test_a_missing_and_an_unexpected_tensor_are_named():
    theirs, ours, _ = dmae_pair(0)
    state = dict(theirs.state_dict())
    state["encoder.surprise"] = state.pop("encoder.to_out.bias")
    with pytest.raises(ValueError, match=r"missing \['encoder.to_out.bias'\].*unexpected \['encoder.surprise'\]"):
        dmae_from_authors(state, ours.config)


def test_a_profile_that_departs_from_the_paper_is_refused_by_name():
    every = "log_floor, norm_before_tanh, wave_scale, preemphasis, readout_weight, inject_everywhere"
    with pytest.raises(ValueError, match=every):
        dmae_to_authors(DMAE(SMOKE.dmae).state_dict(), SMOKE.dmae)
    _, ours, *_ = tcld_pair(0)
    ours.latent_std.fill_(0.5)
    with pytest.raises(ValueError, match="latent_std"):
        tcld_to_authors(ours.state_dict(), ours.config)


def test_the_papers_own_configurations_have_the_authors_names_and_shapes():
    with torch.device("meta"):
        theirs, ours = authors_dmae(A100.dmae), DMAE(A100.dmae)
        shapes = {name: t.shape for name, t in dmae_from_authors(theirs.state_dict(), A100.dmae).items()}
        assert shapes == {name: tensor.shape for name, tensor in ours.state_dict().items()}
        theirs, ours = authors_tcld(A100.tcld), TCLD(A100.tcld, 2048)
        shapes = {name: t.shape for name, t in tcld_from_authors(theirs.state_dict(), A100.tcld).items()}
        assert shapes == {name: tensor.shape for name, tensor in ours.state_dict().items()}
