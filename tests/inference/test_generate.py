"""prompt -> sound: exactly as long as asked, the same for the same seed, and a file that reads back."""

from copy import deepcopy

import numpy as np
import pytest
import soundfile
import torch
from torch.testing import assert_close

from mousai import checkpoint
from mousai.checkpoint import new_tcld, save_weights
from mousai.config import Profile
from mousai.diffusion import Guidance
from mousai.dmae import DMAE
from mousai.inference import pipeline as generate
from mousai.inference import precision
from mousai.inference.edit import varied
from mousai.inference.onednn import Convolution, Product
from mousai.inference.pipeline import Mousai, made_ready, sample_count, write_audio


@pytest.fixture(scope="module")
def profile(stack) -> Profile:
    return stack.profile


# A sample, a latent step and one more, within a chunk, exactly a chunk (0.68 s), longer than a chunk.
@pytest.mark.parametrize("seconds", [1 / 48_000, 1024 / 48_000, 1025 / 48_000, 0.33333, 2**15 / 48_000, 1.5])
def test_the_sound_is_exactly_as_long_as_asked(stack, seconds):
    w = stack.generate(["Metal, 2 of 4"], seconds, tcld_steps=1, dmae_steps=1)
    assert w.shape == (1, 2, round(seconds * 48_000)) and w.isfinite().all()


def test_a_prompt_is_read_once_however_many_steps_follow(stack):
    """Theirs reads it again at every step."""
    read = []
    hook = stack.text.model.register_forward_pre_hook(lambda *_, **words: read.append(words), with_kwargs=True)
    stack.generate(["metal, 1 of 4", "pop, 2 of 4"], 1.5, tcld_steps=5, dmae_steps=3)
    hook.remove()
    assert len(read) == 1


def test_longer_than_a_chunk_each_part_is_asked_for_unless_the_prompt_asks_for_one(stack, monkeypatch):
    asked, encoder = [], stack.text
    monkeypatch.setattr(stack, "text", lambda texts: asked.append(texts) or encoder(texts), raising=False)
    chunk = stack.profile.tcld.crop / 48_000
    for seconds, prompts in ((2 * chunk, ["metal", "pop, 3 of 4"]), (chunk, ["metal"]), (2 * chunk, ["pop, 3 of 4"])):
        asked.clear()
        stack.generate(prompts, seconds, tcld_steps=1, dmae_steps=1)
        parts = [[f"metal, {k} of 4", "pop, 3 of 4"] for k in range(1, 5)]
        assert asked == (parts if len(prompts) == 2 else [prompts])


def test_what_is_streamed_is_what_is_generated_and_written_as_it_comes_it_is_the_same_file(stack, tmp_path):
    w = stack.generate(["metal"], 1.5, tcld_steps=1, dmae_steps=2)[0]
    parts = [part[0] for part in stack.stream(["metal"], 1.5, how=stack.sampling(1, 2))]
    assert torch.equal(torch.cat(parts, dim=-1), w)
    clipped = [write_audio(40 * w, tmp_path / "a.wav"), write_audio((40 * part for part in parts), tmp_path / "b.wav")]
    assert clipped[0] == clipped[1] == int((40 * w).abs().gt(1).sum()) > 0
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_one_waveform_a_prompt(stack):
    assert stack.generate(["metal", "pop", "hip hop"], 0.1).shape == (3, 2, 4800)


def test_the_same_seed_gives_the_same_bytes_and_another_another_sound(stack, tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_audio(stack.generate(["metal"], 0.2, seed=seed)[0], tmp_path / f"{name}.wav")
    a, b, c = ((tmp_path / f"{name}.wav").read_bytes() for name in "abc")
    assert a == b != c


def test_the_global_generator_has_no_say(stack):
    sounds = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        sounds.append(stack.generate(["metal"], 0.1))
    assert_close(*sounds, atol=0, rtol=0)


def test_the_prompt_is_heard_and_without_guidance_it_is_not(stack):
    sounds = [stack.generate([text], 0.3) for text in ("metal", "pop")]
    assert (sounds[0] - sounds[1]).abs().max() > 1e-4
    sounds = [stack.generate([text], 0.3, guidance=0.0) for text in ("metal", "pop")]
    assert_close(*sounds, atol=1e-6, rtol=0)


def test_steps_and_guidance_default_to_the_profile(stack, profile):
    settings = profile.sampling
    explicit = stack.generate(["metal"], 0.1, 0, settings.tcld_steps, settings.dmae_steps, settings.guidance)
    assert_close(stack.generate(["metal"], 0.1), explicit, atol=0, rtol=0)
    for change in ({"tcld_steps": 5}, {"dmae_steps": 5}, {"guidance": 20.0}):
        assert not torch.equal(stack.generate(["metal"], 0.1, **change), explicit)


def test_the_sampler_is_used_in_both_stages(stack):
    usual = stack.generate(["metal"], 0.1, tcld_steps=3, dmae_steps=3)
    assert_close(stack.generate(["metal"], 0.1, tcld_steps=3, dmae_steps=3, sampler="ddim"), usual, atol=0, rtol=0)
    for steps in ({"tcld_steps": 3, "dmae_steps": 1}, {"tcld_steps": 1, "dmae_steps": 3}):  # in one step all are DDIM
        sounds = [stack.generate(["metal"], 0.1, sampler=name, **steps) for name in ("ddim", "multistep")]
        assert not torch.equal(*sounds)
    with pytest.raises(ValueError, match="unknown sampler 'euler'"):
        stack.generate(["metal"], 0.1, sampler="euler")


def test_each_stage_has_a_sampler_of_its_own(stack):
    steps = {"tcld_steps": 3, "dmae_steps": 3}
    both = [stack.generate(["metal"], 0.1, sampler=name, **steps) for name in ("ddim", "multistep")]
    mixed = [stack.generate(["metal"], 0.1, sampler=pair, **steps) for pair in ((None, "heun"), ("multistep", None))]
    assert len({w.numpy().tobytes() for w in (*both, *mixed)}) == 4
    assert torch.equal(stack.generate(["metal"], 0.1, sampler=("multistep",) * 2, **steps), both[1])


def test_of_several_seeds_each_gives_what_it_gives_alone(stack):
    together = stack.generate(["metal", "pop"], 0.1, seed=[5, 6])
    alone = [stack.generate(["metal", "pop"], 0.1, seed=seed) for seed in (5, 6)]
    assert torch.equal(together, torch.cat(alone))
    with pytest.raises(ValueError, match="no seed is given"):
        stack.generate(["metal"], 0.1, seed=[])


def test_guidance_leads_away_from_a_negative_prompt_and_from_the_prompt_itself_nowhere(stack):
    plain, away = (stack.generate(["metal"], 0.1, guidance=3.0, negative=text) for text in ("", "pop"))
    assert (plain - away).abs().max() > 1e-4
    itself = stack.generate(["metal", "pop"], 0.1, guidance=3.0, negative="pop")[1]
    assert_close(itself, stack.generate(["metal", "pop"], 0.1, guidance=1.0)[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="guidance is 1, so 'pop' is not heard: choose another, 3 for example"):
        stack.generate(["metal"], 0.1, guidance=1.0, negative="pop")


def test_settings_not_said_are_the_profiles(stack, profile):
    usual = profile.sampling
    how = stack.sampling()
    assert (how.tcld_steps, how.dmae_steps, how.guidance) == (usual.tcld_steps, usual.dmae_steps, Guidance(3.0))
    assert how.tcld_sampler == how.dmae_sampler == usual.sampler and usual.guidance == 3.0


@pytest.mark.parametrize(("seconds", "edits"), [(None, 0), (1.0, 1)])
def test_either_seconds_or_an_edit_says_how_long(stack, seconds, edits):
    with pytest.raises(ValueError, match="give either seconds, or an edit, which says how long"):
        stack.generate(["metal"], seconds, edit=varied(torch.zeros(2, 9), 0.5) if edits else None)


@pytest.mark.parametrize("which", ["tcld_steps", "dmae_steps"])
def test_no_steps_is_refused_not_replaced(stack, which):
    with pytest.raises(ValueError, match="steps is 0"):
        stack.generate(["metal"], 0.1, **{which: 0})


@pytest.mark.parametrize("seconds", [0, -1, 1e-6, 3601, float("nan")])
def test_impossible_lengths_are_refused_by_number(seconds):
    with pytest.raises(ValueError, match=r"seconds is .*: choose more than 0 and at most 3600"):
        sample_count(seconds)


def test_an_empty_prompt_is_refused(stack):
    with pytest.raises(ValueError, match="a prompt is empty"):
        stack.generate([""], 1.0)


def test_the_stack_loads_from_the_profiles_files(profile, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "weights_path", lambda profile, name: tmp_path / f"{name}.safetensors")
    with pytest.raises(FileNotFoundError, match="no weights at"):
        Mousai.load(profile, "cpu")
    save_weights(new_tcld(profile), tmp_path / "tcld.safetensors", {})
    save_weights(DMAE(profile.dmae), tmp_path / "dmae.safetensors", {})
    assert Mousai.load(profile, "cpu").generate(["metal"], 0.1).shape == (1, 2, 4800)
    exact, fast = (Mousai.load(profile, "cpu", numerics) for numerics in ("exact", "fast"))
    assert {exact.dmae.config.precision, exact.tcld.config.precision} == {"float32"}
    assert {fast.dmae.config.precision, fast.tcld.config.precision} == {"fast"}


@pytest.mark.parametrize("numerics", ["exact", "fast"])
def test_where_bfloat16_does_not_pay_fast_is_what_exact_is(profile, monkeypatch, numerics):
    monkeypatch.setattr(precision, "bfloat16_pays", lambda device: False)
    stage = new_tcld(profile)
    made_ready(stage, numerics)
    assert any(isinstance(layer, Product) for layer in stage.modules())


def test_in_bfloat16_the_u_net_alone_is_quickened(profile, monkeypatch):
    asked = []
    monkeypatch.setattr(precision, "bfloat16_pays", lambda device: True)
    monkeypatch.setattr(generate, "quicken", lambda net, kind=torch.float32: asked.append((net, kind)))
    stage = DMAE(profile.dmae)
    assert made_ready(stage, "fast") is stage
    assert asked == [(stage.unet, torch.bfloat16), (stage, torch.float32)]


@pytest.mark.skipif(not precision.native_bfloat16(torch.device("cpu")), reason="no bfloat16 in this processor")
def test_where_it_pays_only_the_u_net_multiplies_in_it_and_it_sounds_alike(profile, monkeypatch):
    monkeypatch.setattr(precision, "bfloat16_pays", lambda device: True)
    torch.manual_seed(0)
    exact, w = DMAE(profile.dmae).eval(), 0.1 * torch.randn(1, 2, 2 * profile.dmae.crop)
    fast = made_ready(deepcopy(exact), "fast")
    kinds = {
        part: {layer.weight.dtype for layer in net.modules() if isinstance(layer, Convolution)}
        for part, net in fast.named_children()
    }
    assert kinds.pop("unet") == {torch.bfloat16} and set.union(*kinds.values()) == {torch.float32}
    with torch.no_grad():
        z = exact.encode(w)
        assert_close(fast.encode(w), z, atol=1e-4, rtol=1e-4)
    slow, quick = (net.decode(z, 3, torch.Generator().manual_seed(0)) for net in (exact, fast))
    assert quick.dtype == torch.float32 and not torch.equal(quick, slow)
    assert (quick - slow).std() < 0.05 * slow.std()


@pytest.fixture
def wave(generator) -> torch.Tensor:
    return 0.2 * torch.randn(2, 100_000, generator=generator).clamp(-4, 4)


@pytest.mark.parametrize("ending", [".wav", ".flac", ".FLAC"])
def test_a_lossless_file_reads_back_to_24_bits(wave, tmp_path, ending):
    write_audio(wave, tmp_path / f"sound{ending}")
    read, rate = soundfile.read(tmp_path / f"sound{ending}", dtype="float32")
    assert rate == 48_000
    assert_close(torch.from_numpy(read.T), wave, atol=2**-22, rtol=0)


def test_an_ogg_file_has_every_sample_and_sounds_alike(tmp_path):
    t = np.arange(100_000) / 48_000
    tone = torch.from_numpy(np.stack([np.sin(2764.6 * t), np.cos(2764.6 * t)])).float() / 2
    write_audio(tone, tmp_path / "sound.ogg")
    read, _ = soundfile.read(tmp_path / "sound.ogg", dtype="float32")
    assert read.shape == (100_000, 2)
    assert np.corrcoef(read[:, 0], tone[0])[0, 1] > 0.99


def test_too_loud_samples_are_clipped_not_wrapped(tmp_path):
    write_audio(torch.tensor([[2.0, -2.0], [0.5, -0.5]]), tmp_path / "loud.wav")
    read, _ = soundfile.read(tmp_path / "loud.wav")
    assert_close(torch.from_numpy(read.T), torch.tensor([[1.0, -1.0], [0.5, -0.5]]).double(), atol=1e-6, rtol=0)


def test_another_ending_is_refused_with_those_there_are(wave, tmp_path):
    with pytest.raises(ValueError, match=r"sound.mp3: cannot write .mp3, use .wav, .flac, .ogg"):
        write_audio(wave, tmp_path / "sound.mp3")


def test_a_new_folder_is_made_and_nothing_is_left_beside_the_file(wave, tmp_path):
    write_audio(wave, tmp_path / "new" / "sound.wav")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["sound.wav"]
