"""Riffusion's clips by its own pipeline with small random weights, and which systems stand beside ours."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from numpy.testing import assert_allclose
from torch.testing import assert_close

from mousai.data.dataset import Workspace
from mousai.evaluation import baselines, clap, samples
from mousai.evaluation.samples import ClipSet
from mousai.interop.riffusion import HOP, RATE, SIZE
from mousai.small.profiles import PROFILES

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789,."


def words(folder: Path) -> None:
    """A CLIP tokenizer that knows letters alone."""
    from transformers import CLIPTokenizer

    names = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77).save_pretrained(folder)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Riffusion's pipeline with nets of a few channels, as the cache would hold it."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("snapshots") / "abc123"
    words(folder.parent / "words")
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(folder.parent / "words")
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2}
    text = CLIPTextConfig(**sizes, num_hidden_layers=1)
    unet = UNet2DConditionModel(
        block_out_channels=(8, 8), layers_per_block=1, cross_attention_dim=16, attention_head_dim=4, norm_num_groups=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    down, up = ("DownEncoderBlock2D",) * 4, ("UpDecoderBlock2D",) * 4
    vae = AutoencoderKL(
        down_block_types=down, up_block_types=up, block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2
    )
    StableDiffusionPipeline(
        vae, CLIPTextModel(text), tokenizer, unet, PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,  # type: ignore[arg-type]
    ).save_pretrained(folder)  # fmt: skip
    return folder


def quick_sound(amplitude: torch.Tensor) -> torch.Tensor:
    """As long as Griffin-Lim's, and drawn from torch's own random state as it does, in no time."""
    loud = amplitude.mean(1).repeat_interleave(HOP, 1)[:, : baselines.PART]
    return loud * torch.randn(baselines.PART)


def in_cache(monkeypatch, folder: Path | None) -> None:
    found = str(folder / "model_index.json") if folder else None
    monkeypatch.setattr(baselines, "try_to_load_from_cache", lambda repo, file: found)
    monkeypatch.setattr(baselines, "STEPS", 2)


@pytest.mark.integration
def test_riffusion_plays_what_it_draws_as_long_as_asked_the_same_for_a_seed(weights, monkeypatch):
    in_cache(monkeypatch, weights)
    model, before = baselines.Riffusion("cpu"), torch.random.get_rng_state()
    model.sound = quick_sound  # type: ignore[assignment]
    w = model.generate(["metal, 1 of 4", "pop"], 5.2, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert w.shape == (2, 2, round(5.2 * 48_000)) and torch.equal(w[:, 0], w[:, 1])
    assert_allclose(w.abs().amax((1, 2)), 1, atol=1e-4)
    assert w[:, :, -4800:].std() > 1e-3  # 5.2 s need a second picture
    again, other = (model.generate(["metal, 1 of 4", "pop"], 5.2, seed) for seed in (3, 4))
    assert torch.equal(w, again) and not torch.equal(w, other)
    with pytest.raises(ValueError, match="seconds is 0"):
        model.generate(["pop"], 0)


def test_a_line_of_a_picture_sounds_at_its_frequency():
    """Black on white, 256 bands up from the lower edge: a tone at that mel band's middle."""
    picture = torch.ones(1, SIZE, SIZE, 3)
    picture[:, SIZE - 1 - 256, :, 0] = 0
    w = baselines.Sound()(baselines.amplitudes(picture)[..., :64])
    assert w.shape == (1, 63 * HOP) and baselines.PART == 511 * HOP
    spectrum = torch.fft.rfft(w[0]).abs()
    mel = 2595 * torch.log10(torch.tensor(1 + 10_000 / 700)) * 257 / 513
    expected = 700 * (10 ** (mel / 2595) - 1)
    assert spectrum.argmax().item() * RATE / w.shape[1] == pytest.approx(expected.item(), rel=0.02)


def test_amplitudes_are_the_fourth_power_of_the_red_channel_upside_down_and_inverted():
    picture = torch.rand(1, SIZE, SIZE, 3)
    made = baselines.amplitudes(picture)
    assert_close(made[0, 0, 2], (1 - picture[0, SIZE - 1, 2, 0]) ** 4)


def test_riffusions_clips_have_the_prompts_of_ours_and_are_kept(work, weights, monkeypatch):
    in_cache(monkeypatch, weights)
    calls = []

    def generate(self, texts, seconds, seed):
        calls.append((texts, seconds, seed))
        return torch.ones(len(texts), 2, 8)

    monkeypatch.setattr(baselines.Riffusion, "generate", generate)
    clips = baselines.riffusion_set(work)
    assert list(clips.prompts) == samples.prompts_of_all_seeds(work) and clips.context["riffusion"] == "abc123"
    assert [text for texts, *_ in calls for text in texts] == [prompt.text for prompt in clips.prompts]
    assert {seconds for _, seconds, _ in calls} == {work.profile.tcld.crop / 48_000}
    baselines.riffusion_set(work)
    assert len({seed for *_, seed in calls}) == len(calls) == -(-len(clips) // samples.BATCH)


def test_without_its_weights_riffusion_says_what_to_fetch(work, monkeypatch):
    in_cache(monkeypatch, None)
    said = "Riffusion is not in the Hugging Face cache .*`hf download riffusion/riffusion-model-v1`"
    with pytest.raises(FileNotFoundError, match=said):
        baselines.Riffusion()
    with pytest.raises(FileNotFoundError, match=said):
        baselines.riffusion_set(work)


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("profile", ["smoke", "a100"])
def test_the_models_are_ours_and_real_music_and_the_baselines_that_there_are(monkeypatch, tmp_path, profile, cached):
    in_cache(monkeypatch, tmp_path if cached else None)
    for name in ("generated_set", "real_set", "griffin_lim_set", "riffusion_set"):
        fake = lambda *words, name=name, **named: ClipSet(name, [], lambda i: torch.zeros(2, 1), named)  # noqa: E731
        monkeypatch.setattr(baselines, name, fake)
    work = Workspace(PROFILES[profile], tmp_path, tmp_path)
    work.__dict__["data"] = SimpleNamespace(genres=("Pop",))
    sets = baselines.systems(work)
    assert (sets["unconditional"].name, sets["unconditional"].context) == ("generated_set", {"unconditional": True})
    named = ["unconditional"] + ["griffin_lim_from_z"] * (profile == "smoke") + ["riffusion"] * cached
    assert list(sets) == ["ours", "real", *named]
    assert ("riffusion" in clap.table4_sets(work)) == cached
