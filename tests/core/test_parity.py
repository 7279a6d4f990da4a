"""The authors' packages are the oracle: with their weights, our modules compute what theirs compute.

In float32 the two agree to 1e-5, in float64 to 1e-10. For the latter float64 is made the default of new tensors: theirs
allows `.double()` in the nets alone. Its Hann window is made in float32 and only then converted, and its levels, so
alpha and beta of loss and sampler, are float32 whatever the net is. Each costs 4e-7.
"""

import copy
from itertools import product
from math import log2

import a_unet.blocks
import numpy as np
import pytest
import torch
import transformers
from helpers.authors import at_depth, dmae_pair, made_exact, random_unet, tcld_pair
from torch.testing import assert_close

from mousai.bench.authors import authors_dmae, authors_encoder, authors_tcld
from mousai.config import A100, TCLDConfig, TextConfig
from mousai.diffusion import ddim, diffusion_loss
from mousai.dmae import DMAE
from mousai.interop.authors import dmae_from_authors, dmae_to_authors, tcld_from_authors, tcld_to_authors
from mousai.small.config import SmallDMAEConfig, SmallEncoderConfig
from mousai.small.profiles import SMOKE
from mousai.small.stages import new_dmae
from mousai.tcld import TCLD
from mousai.text import load_text_encoder

SEEDS = range(30)
CLOSE = {"atol": 1e-5, "rtol": 1e-5}
PRECISIONS = {torch.float32: CLOSE, torch.float64: {"atol": 1e-10, "rtol": 1e-10}}


@pytest.fixture(params=PRECISIONS, ids=["float32", "float64"])
def close(request) -> dict[str, float]:
    """How close; and new tensors are of that precision while the test runs."""
    torch.set_default_dtype(request.param)
    yield PRECISIONS[request.param]
    torch.set_default_dtype(torch.float32)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def scale(seed: int) -> float:
    """A guidance strength; 1 needs no second branch in either code."""
    return [0.0, 1.0, 2.5, 5.0][seed % 4]


def steps(seed: int) -> int:
    return 1 + seed % 5


def test_the_random_configurations_cover_what_an_architecture_can_be():
    dmaes, tclds = ([pair(seed) for seed in SEEDS] for pair in (dmae_pair, tcld_pair))
    assert {ours.config.unet.inject_depth for _, ours, _ in dmaes} == {0, 1, 2, 3}
    assert {np.prod(ours.config.encoder.factors) for _, ours, _ in dmaes} == {1, 2, 4, 8}
    for pairs in (dmaes, tclds):
        unets = [pair[1].config.unet for pair in pairs]
        assert {len(pair[2]) for pair in pairs} == {1, 2, 3}
        assert len({pair[2].shape[-1] for pair in pairs}) > 10
        assert {len(unet.channels) for unet in unets} == {1, 2, 3, 4}
        assert {width for unet in unets for width in unet.channels} == {8, 16, 24, 32}
        assert {factor for unet in unets for factor in unet.factors} == {1, 2, 3}
        assert {count for unet in unets for count in unet.items} == {1, 2}
        assert {count for unet in unets for count in unet.attentions} == {0, 1, 2}
        assert {any(unet.attentions) for unet in unets} == {False, True}
        assert {unet.heads for unet in unets if any(unet.attentions)} == {1, 2, 3, 4}
        assert {unet.head_features for unet in unets if any(unet.attentions)} == {4, 8, 12, 16}
        assert {unet.groups for unet in unets} == {1, 2, 4, 8}
    texts = [ours.config for _, ours, *_ in tclds]
    assert {count for config in texts for count in config.unet.cross_attentions} == {0, 1, 2}
    assert {config.text.tokens for config in texts} == {2, 3, 4, 5, 6, 7, 8}
    both = [zip(config.unet.attentions, config.unet.cross_attentions, strict=True) for config in texts]
    assert {(own > 0, text > 0) for counts in both for own, text in counts} == set(product([False, True], repeat=2))


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_magnitude_encoder_is_theirs(seed, close):
    theirs, ours, w = dmae_pair(seed)
    assert_close(ours.encode(w), theirs.encode(w), **close)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_dmae_net_with_front_end_and_injection_is_theirs(seed, close):
    theirs, ours, w = dmae_pair(seed)
    z, sigma = theirs.encode(w), torch.rand(len(w), generator=seeded(seed))
    expected = theirs.net(w, sigma, channels=at_depth(ours.config.unet.inject_depth, z))
    assert_close(ours.net(w, sigma, z), expected, **close)
    assert_close(made_exact(ours).net(w, sigma, z), expected, **close)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_ddim_through_the_dmae_is_theirs(seed, close):
    theirs, ours, eps = dmae_pair(seed)
    z = theirs.encode(eps)
    expected = theirs.sample(eps, num_steps=steps(seed), channels=at_depth(ours.config.unet.inject_depth, z))
    assert_close(ddim(lambda x, sigma: ours.net(x, sigma, z), eps, steps(seed)), expected, **close)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_tcld_net_is_theirs(seed, close):
    theirs, ours, z, embedding = tcld_pair(seed)
    sigma = torch.rand(len(z), generator=seeded(seed))
    expected = theirs.net(z, sigma, embedding=embedding)
    assert_close(ours.velocity(z, sigma, embedding, 1.0), expected, **close)
    assert_close(made_exact(ours).velocity(z, sigma, embedding, 1.0), expected, **close)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_guidance_in_one_batched_call_and_in_two_calls_is_theirs(seed, close):
    theirs, ours, z, embedding = tcld_pair(seed)
    sigma = torch.rand(len(z), generator=seeded(seed))
    expected = theirs.net(z, sigma, embedding=embedding, embedding_scale=scale(seed))
    assert_close(ours.velocity(z, sigma, embedding, scale(seed)), expected, **close)
    assert_close(made_exact(ours).velocity(z, sigma, embedding, scale(seed)), expected, **close)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_guided_ddim_through_the_tcld_is_theirs(seed, close):
    theirs, ours, z, embedding = tcld_pair(seed)
    eps = torch.randn(z.shape, generator=seeded(seed))
    expected = theirs.sample(eps, num_steps=steps(seed), embedding=embedding, embedding_scale=scale(seed))
    result = ours.sample(embedding, z.shape[-1], steps(seed), scale(seed), seeded(seed))
    assert_close(result, expected, **close)


def with_draws(monkeypatch, theirs, eps, sigma, masked=None) -> None:
    """Their training draws, replaced by given ones: the levels, the noise, and whose text is masked."""
    monkeypatch.setattr(theirs.diffusion, "sigma_distribution", lambda num_samples, device: sigma)
    monkeypatch.setattr(torch, "randn_like", lambda x: eps)
    monkeypatch.setattr(a_unet.blocks, "rand_bool", lambda shape, proba, device: masked.reshape(shape))


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_training_loss_of_stage_one_is_theirs(seed, close, monkeypatch):
    """Ours draws the noise, then the levels."""
    theirs, ours, w = dmae_pair(seed)
    replay = seeded(seed)
    eps, sigma = torch.randn(w.shape, generator=replay), torch.rand(len(w), generator=replay)
    with_draws(monkeypatch, theirs, eps, sigma)
    assert_close(ours(w, seeded(seed)), theirs(w), **close)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_the_training_loss_of_stage_two_is_theirs(seed, close, monkeypatch):
    """Ours draws whose text is masked, then the noise, then the levels. With two or three items some are masked."""
    theirs, ours, z, embedding = tcld_pair(seed)
    replay, n = seeded(seed), len(z)
    masked = torch.rand(n, generator=replay) < 0.5
    eps, sigma = torch.randn(z.shape, generator=replay), torch.rand(n, generator=replay)
    with_draws(monkeypatch, theirs, eps, sigma, masked)
    assert_close(ours(z, embedding, seeded(seed)), theirs(z, embedding=embedding, embedding_mask_proba=0.5), **close)


def gradients(loss: torch.Tensor, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Of every parameter, by name."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_all_gradients_of_stage_one_are_theirs(seed, close):
    """They draw the levels, then the noise, from the global generator: replayed here for ours."""
    theirs, ours, w = dmae_pair(seed)
    torch.manual_seed(7)
    expected = theirs(w)
    torch.manual_seed(7)
    sigma, eps = torch.rand(len(w)), torch.randn_like(w)
    z = ours.encode(w)
    loss = diffusion_loss(lambda x, s: ours.net(x, s, z), w, eps, sigma).mean()
    assert_close(loss, expected, **close)
    assert_close(gradients(loss, ours), dmae_from_authors(gradients(expected, theirs), ours.config), **close)


@pytest.mark.parametrize("seed", SEEDS[:10])
def test_all_gradients_of_stage_two_are_theirs(seed, close):
    """They draw the levels, the noise and whose text is masked, from the global generator: replayed here for ours."""
    theirs, ours, z, embedding = tcld_pair(seed)
    torch.manual_seed(7)
    expected = theirs(z, embedding=embedding, embedding_mask_proba=0.5)
    torch.manual_seed(7)
    sigma, eps = torch.rand(len(z)), torch.randn_like(z)
    masked = torch.bernoulli(torch.full((len(z), 1, 1), 0.5)).bool()
    text = torch.where(masked, ours.null_embedding, embedding)
    loss = diffusion_loss(lambda x, s: ours.unet(x, s, embedding=text), z, eps, sigma).mean()
    assert_close(loss, expected, **close)
    renamed = tcld_from_authors(gradients(expected, theirs), ours.config)
    assert_close(gradients(loss, ours), {name: renamed[name] for name, _ in ours.named_parameters()}, **close)


@pytest.mark.parametrize("seed", SEEDS[:6])
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
    unet = random_unet(np.random.default_rng(5), 3, text=True, in_channels=4, embedding_features=16)
    config = TCLDConfig(unet, text)
    torch.manual_seed(0)
    theirs, ours = authors_tcld(config, use_text_conditioning=True).eval(), TCLD(config, window=64).eval()
    ours.load_state_dict(tcld_from_authors(theirs.state_dict(), config))
    z, sigma, prompts = torch.randn(2, 4, 4 * unet.stride), torch.rand(2), ["metal, 1 of 4", "pop"]
    with torch.no_grad():
        expected = theirs.net(z, sigma, text=prompts, embedding_scale=3.0)
        assert_close(ours.velocity(z, sigma, encoder(prompts), 3.0), expected, **CLOSE)


@torch.no_grad()
def test_padding_is_heard_by_theirs_and_by_ours_only_where_exact(t5_folder):
    """A prompt padded to 16 and to 64 tokens, through one net."""
    torch.manual_seed(0)
    unet = random_unet(np.random.default_rng(5), 3, text=True, in_channels=4, embedding_features=16)
    config = TCLDConfig(unet, TextConfig(str(t5_folder), 16, 64))
    theirs, ours = authors_tcld(config).eval(), TCLD(config, window=64).eval()
    ours.load_state_dict(tcld_from_authors(theirs.state_dict(), config))
    z, sigma = torch.randn(2, 4, 4 * unet.stride), torch.rand(2)
    for exact in (True, False):
        texts = [TextConfig(str(t5_folder), 16, tokens, paper_exact=exact) for tokens in (16, 64)]
        embeddings = [load_text_encoder(text)(["metal, 1 of 4", "pop"]) for text in texts]
        expected = [theirs.net(z, sigma, embedding=embedding) for embedding in embeddings]
        assert (expected[0] - expected[1]).abs().max() > 1e-4
        results = [ours.velocity(z, sigma, embedding, 1.0) for embedding in embeddings]
        assert_close(results, expected if exact else [results[0]] * 2, **CLOSE)


def test_a_missing_and_an_unexpected_tensor_are_named():
    theirs, ours, _ = dmae_pair(0)
    state = dict(theirs.state_dict())
    state["encoder.surprise"] = state.pop("encoder.to_out.bias")
    with pytest.raises(ValueError, match=r"missing \['encoder.to_out.bias'\].*unexpected \['encoder.surprise'\]"):
        dmae_from_authors(state, ours.config)


def test_a_profile_that_departs_from_the_paper_is_refused_by_name():
    beside = {
        "wave_scale": 2.0,
        "preemphasis": 0.9,
        "octaves": ((32, 1), (16, 2), (48, 4)),
        "refinement_steps": 2,
    }
    encoder = SmallEncoderConfig(log_floor=1e-3, pca_start=True)
    names = ", ".join(["log_floor", "pca_start", *beside])
    with pytest.raises(ValueError, match=f"has no {names} other"):
        dmae_to_authors({}, SmallDMAEConfig(A100.dmae.unet, encoder, **beside))
    with pytest.raises(ValueError, match=f"has no {names} other"):
        dmae_to_authors({}, SMOKE.dmae)
    _, ours, *_ = tcld_pair(0)
    with pytest.raises(ValueError, match="latent_std"):
        tcld_to_authors(ours.state_dict() | {"latent_std": torch.tensor(0.5)}, ours.config)


def test_the_papers_own_configurations_have_the_authors_names_and_shapes():
    with torch.device("meta"):
        theirs, ours = authors_dmae(A100.dmae), DMAE(A100.dmae)
        shapes = {name: t.shape for name, t in dmae_from_authors(theirs.state_dict(), A100.dmae).items()}
        assert shapes == {name: tensor.shape for name, tensor in ours.state_dict().items()}
        theirs, ours = authors_tcld(A100.tcld), TCLD(A100.tcld, 2048)
        shapes = {name: t.shape for name, t in tcld_from_authors(theirs.state_dict(), A100.tcld).items()}
        assert shapes == {name: tensor.shape for name, tensor in ours.state_dict().items()}


# Where theirs goes wrong, seen in theirs, and ours beside it.


@torch.no_grad()
def test_a_deep_copy_of_theirs_runs_the_originals_weights_and_ours_its_own():
    """So that an EMA of theirs, a deep copy, changes nothing."""
    theirs, ours, z, embedding = tcld_pair(1)
    sigma = torch.rand(len(z), generator=seeded(0))
    twins = copy.deepcopy(theirs), copy.deepcopy(ours)
    for twin in twins:
        for parameter in twin.parameters():
            parameter.zero_()
    expected = theirs.net(z, sigma, embedding=embedding)
    assert (expected - z).abs().max() > 1e-2
    assert_close(twins[0].net(z, sigma, embedding=embedding), expected, atol=0, rtol=0)
    assert_close(twins[1].velocity(z, sigma, embedding, 1.0), z, atol=0, rtol=0)  # skips of zero: the identity


@torch.no_grad()
def test_silence_in_logarithms_is_nan_in_theirs_and_finite_in_ours(paper_dmae, tiny):
    silence = torch.zeros(1, 2, 2**14)
    assert authors_encoder(paper_dmae, use_log=True)(silence).isnan().all()
    assert authors_encoder(paper_dmae)(silence).isfinite().all()
    for config in (paper_dmae, tiny.dmae):
        assert new_dmae(config).encode(silence).isfinite().all()


@torch.no_grad()
def test_a_wrong_length_fails_deep_inside_theirs_and_is_named_by_ours():
    theirs, ours, z, embedding = tcld_pair(1)
    sigma, stride = torch.rand(len(z), generator=seeded(0)), ours.config.unet.stride
    longer = torch.zeros(*z.shape[:2], z.shape[-1] + 1)
    with pytest.raises(RuntimeError, match="must match the size of tensor"):
        theirs.net(longer, sigma, embedding=embedding)
    with pytest.raises(ValueError, match=f"length {longer.shape[-1]} is not a multiple of the stride {stride}"):
        ours.velocity(longer, sigma, embedding, 1.0)
    with pytest.raises(ValueError, match=f"length {longer.shape[-1]} is not a multiple of the stride {stride}"):
        made_exact(ours).sample(embedding, longer.shape[-1], 1, 1.0, seeded(0))
    assert ours.sample(embedding, longer.shape[-1], 1, 1.0, seeded(0)).shape == longer.shape


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8, 16])
@torch.no_grad()
def test_theirs_decodes_powers_of_two_alone_and_ours_any_length_the_same_there(paper_dmae, n):
    torch.manual_seed(0)
    theirs = authors_dmae(paper_dmae).eval()
    ours = DMAE(paper_dmae).eval()
    ours.load_state_dict(dmae_from_authors(theirs.state_dict(), paper_dmae))
    z = torch.randn(2, 8, n).tanh()
    result = ours.decode(z, 2, seeded(1))
    assert result.shape == (2, 2, n * 128)
    if log2(n).is_integer():
        assert_close(result, theirs.decode(z, num_steps=2, generator=seeded(1)), **CLOSE)
        assert_close(made_exact(ours).decode(z, 2, seeded(1)), result, **CLOSE)
    else:
        with pytest.raises(AssertionError):
            theirs.decode(z, num_steps=2, generator=seeded(1))
