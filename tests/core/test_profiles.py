"""The three sizes agree with the paper where they say so, and with themselves everywhere."""

import json

import pytest
import torch
from transformers import T5Config, T5EncoderModel

from mousai.config import A100, GENRES, DMAEConfig, EncoderConfig, UNetConfig
from mousai.dmae import DMAE
from mousai.inference.precision import choose_device
from mousai.small.config import SmallEncoderConfig, has_magnitude_head, pretrain_steps
from mousai.small.dmae import MAGNITUDE_FLOOR
from mousai.small.profiles import PROFILES, get_profile
from mousai.small.stages import new_dmae, new_tcld
from mousai.unet import count_parameters

EVERY = pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)


@EVERY
def test_names_find_their_profile(profile):
    assert get_profile(profile.name) is profile


def test_an_unknown_profile_gets_the_list_of_those_there_are():
    with pytest.raises(ValueError, match="unknown profile 'gpu': choose one of smoke, cpu, a100"):
        get_profile("gpu")


@EVERY
def test_crops_fit_both_nets_and_windows_fit_their_hops(profile):
    dmae, tcld = profile.dmae, profile.tcld
    assert dmae.crop % dmae.stride == 0 and (3 * dmae.crop // 4) % dmae.stride == 0
    assert tcld.crop % (dmae.latent_stride * tcld.unet.stride) == 0
    assert profile.data.piece_samples // profile.data.chunks == tcld.crop
    assert profile.data.piece_samples >= dmae.crop


@EVERY
def test_both_stages_speak_of_the_same_latent_and_text(profile):
    latent = profile.dmae.encoder.latent_channels
    assert latent == profile.tcld.unet.in_channels
    assert profile.tcld.text.features == profile.tcld.unet.embedding_features
    assert profile.dmae.encoder.in_channels == 2 * (profile.dmae.n_fft // 2 + 1)
    small = profile.dmae if has_magnitude_head(profile.dmae) else None
    assert profile.dmae.unet.in_channels == (small.group_inputs if small else profile.dmae.patch_channels)
    assert profile.dmae.unet.inject_channels == (small.group_injected if small else latent)


@EVERY
def test_the_latent_is_64_times_smaller_than_the_waveform(profile):
    assert 2 * profile.dmae.latent_stride / profile.dmae.encoder.latent_channels == 64


def test_the_latent_meets_the_unet_where_it_is_injected():
    for profile in PROFILES.values():
        unet = profile.dmae.unet
        if has_magnitude_head(profile.dmae):
            continue  # what is injected is made at the bands' own pace
        stride = profile.dmae.patch
        for factor in unet.factors[: unet.inject_depth + 1]:
            stride *= factor
        assert stride == profile.dmae.latent_stride


def test_a100_departs_from_the_paper_nowhere():
    kinds = [type(part) for part in (A100.dmae, A100.dmae.encoder, A100.dmae.unet, A100.tcld.unet)]
    assert kinds == [DMAEConfig, EncoderConfig, UNetConfig, UNetConfig]
    assert A100.tcld.text.paper_exact
    assert (A100.sampling.tcld_precision, A100.sampling.dmae_precision) == ("float32", "float32")
    for train in (A100.dmae_train, A100.tcld_train):
        assert (train.warmup, train.decay, train.schedule_restart, train.encoder_lr_scale) == (0, False, 0, 1.0)
        assert (train.max_grad_norm, train.accumulate, train.precision) == (0.0, 1, "float32")
        assert train.checkpointing is False


def test_a_schedule_that_starts_anew_does_so_where_the_warm_start_ends():
    for profile in PROFILES.values():
        assert profile.dmae_train.schedule_restart in (0, pretrain_steps(profile.dmae))


def test_what_begins_as_pca_predicts_log_magnitudes_with_the_heads_floor():
    """Else encoder and head are no inverse pair."""
    for profile in PROFILES.values():
        encoder = profile.dmae.encoder
        assert not isinstance(encoder, SmallEncoderConfig) or (
            encoder.pca_start and encoder.log_floor == MAGNITUDE_FLOOR
        )


def test_the_papers_857_million_are_both_stages_and_the_text_encoder():
    t5_base = T5Config(vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
    with torch.device("meta"):
        parts = [count_parameters(part) for part in (DMAE(A100.dmae), new_tcld(A100), T5EncoderModel(t5_base))]
    assert parts == [185_107_872, 562_508_096 + 49_152, 109_628_544]
    assert sum(parts) == 857_293_664


def test_a100_trains_on_the_papers_crops_with_the_authors_optimizer():
    assert (A100.sample_rate, A100.dmae.crop, A100.tcld.crop, A100.tcld.mask_share) == (48_000, 2**18, 2**21, 0.1)
    assert A100.dmae_train == A100.tcld_train
    train = A100.dmae_train
    assert (train.lr, train.betas, train.eps, train.weight_decay) == (1e-4, (0.95, 0.999), 1e-6, 1e-3)
    assert (train.ema_beta, train.ema_power, train.batch, train.steps) == (0.995, 0.7, 32, 1_000_000)


def test_small_profiles_are_smaller():
    sizes = [
        count_parameters(new_dmae(get_profile(name).dmae)) + count_parameters(new_tcld(get_profile(name)))
        for name in ("smoke", "cpu")
    ]
    assert sizes[0] < 1_500_000 < sizes[1] < 35_000_000


@EVERY
def test_a_profile_goes_through_json(profile):
    assert json.loads(json.dumps(profile.as_dict()))["name"] == profile.name


def test_the_four_genres_are_figure_fives():
    assert GENRES == ("Electronic", "Hip Hop", "Metal", "Pop")


def test_a_device_that_is_not_there_is_refused_and_the_cpu_always_is():
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(ValueError, match="device 'tpu' is not available: this machine has"):
        choose_device("tpu")


def test_of_several_processes_each_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert choose_device() == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert choose_device() == choose_device("cuda") == torch.device("cuda:3")
    assert choose_device("cuda:1") == torch.device("cuda:1") and choose_device("cpu").type == "cpu"


def test_mousai_home_moves_everything(home, monkeypatch):
    from mousai.files import runs_dir as where

    assert where() == home
    monkeypatch.delenv("MOUSAI_HOME")
    assert where().name == "runs"
