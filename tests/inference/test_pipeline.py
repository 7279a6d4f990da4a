"""prompt -> sound: exactly as long as asked, the same for the same seed, and a file that reads back."""

from inspect import unwrap
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from mousai.checkpoint import save_weights
from mousai.config import Profile
from mousai.inference.audio import write_audio
from mousai.inference.editing import variation
from mousai.inference.pipeline import Mousai, as_prompts, as_seeds
from mousai.inference.samplers import Guidance
from mousai.inference.sampling import Sampling, sampling_for
from mousai.small.stages import new_dmae, new_tcld


@pytest.fixture(scope="module")
def profile(stack) -> Profile:
    return stack.profile


def sound(stack: Mousai, prompts: list[str], seconds: float, **changes) -> torch.Tensor:
    """What these settings give."""
    return stack.generate(prompts, seconds, sampling=stack.sampling(**changes))


# A sample, a latent step and one more, within a chunk, exactly a chunk (0.68 s), longer than a chunk.
@pytest.mark.parametrize("seconds", [1 / 48_000, 1024 / 48_000, 1025 / 48_000, 0.33333, 2**15 / 48_000, 1.5])
def test_the_sound_is_exactly_as_long_as_asked(stack, seconds):
    w = sound(stack, ["Metal, 2 of 4"], seconds, tcld_steps=1, dmae_steps=1)
    assert w.shape == (1, 2, round(seconds * 48_000)) and w.isfinite().all()


def test_a_prompt_is_read_once_however_many_steps_follow(stack):
    """Theirs reads it again at every step."""
    read = []
    hook = stack.text.model.register_forward_pre_hook(lambda *_, **words: read.append(words), with_kwargs=True)
    sound(stack, ["metal, 1 of 4", "pop, 2 of 4"], 1.5, tcld_steps=5, dmae_steps=3)
    hook.remove()
    assert len(read) == 1


def test_longer_than_a_chunk_each_part_is_asked_for_unless_the_prompt_asks_for_one(stack, monkeypatch):
    asked, encoder = [], stack.text
    monkeypatch.setattr(stack, "text", lambda texts: asked.append(texts) or encoder(texts), raising=False)
    chunk = stack.profile.tcld.crop / 48_000
    for seconds, prompts in ((2 * chunk, ["metal", "pop, 3 of 4"]), (chunk, ["metal"]), (2 * chunk, ["pop, 3 of 4"])):
        asked.clear()
        sound(stack, prompts, seconds, tcld_steps=1, dmae_steps=1)
        parts = [[f"metal, {k} of 4", "pop, 3 of 4"] for k in range(1, 5)]
        assert asked == (parts if len(prompts) == 2 else [prompts])


@pytest.mark.parametrize(("card", "n"), [({"segments": 3}, 3), ({}, 4), ({"segments": "x"}, 4)])
def test_the_parts_are_as_many_as_stage_twos_music_usually_has(stack, tmp_path, monkeypatch, card, n):
    save_weights(stack.tcld, tmp_path / "tcld.safetensors", card)
    music, asked = Mousai(stack.profile, stack.text, stack.tcld, stack.dmae, tmp_path).optimized_for_cpu(), []
    monkeypatch.setattr(music, "text", lambda texts: asked.append(texts) or stack.text(texts), raising=False)
    sound(music, ["metal"], 1.5, tcld_steps=1, dmae_steps=1)
    assert asked == [[f"metal, {k} of {n}"] for k in range(1, n + 1)]


def test_what_is_streamed_is_what_is_generated_and_written_as_it_comes_it_is_the_same_file(stack, tmp_path):
    w = sound(stack, ["metal"], 1.5, tcld_steps=1, dmae_steps=2)[0]
    parts = [part[0] for part in stack.stream(["metal"], 1.5, sampling=stack.sampling(tcld_steps=1, dmae_steps=2))]
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
    sounds = [sound(stack, [text], 0.3, guidance=0.0) for text in ("metal", "pop")]
    assert_close(*sounds, atol=1e-6, rtol=0)


def test_steps_and_guidance_default_to_the_profile(stack, profile):
    settings = profile.sampling
    sampling = stack.sampling(
        tcld_steps=settings.tcld_steps, dmae_steps=settings.dmae_steps, guidance=settings.guidance
    )
    explicit = stack.generate(["metal"], 0.1, sampling=sampling)
    assert_close(stack.generate(["metal"], 0.1), explicit, atol=0, rtol=0)
    for change in ({"tcld_steps": 5}, {"dmae_steps": 5}, {"guidance": 20.0}):
        assert not torch.equal(sound(stack, ["metal"], 0.1, **change), explicit)


def test_the_sampler_is_used_in_both_stages(stack):
    usual = sound(stack, ["metal"], 0.1, tcld_steps=3, dmae_steps=3)
    assert_close(
        sound(stack, ["metal"], 0.1, tcld_steps=3, dmae_steps=3, sampler="ddim"),
        usual,
        atol=0,
        rtol=0,
    )
    for steps in ({"tcld_steps": 3, "dmae_steps": 1}, {"tcld_steps": 1, "dmae_steps": 3}):  # in one step all are DDIM
        sounds = [sound(stack, ["metal"], 0.1, sampler=name, **steps) for name in ("ddim", "multistep")]
        assert not torch.equal(*sounds)
    with pytest.raises(ValueError, match="unknown sampler 'euler'"):
        sound(stack, ["metal"], 0.1, sampler="euler")


def test_each_stage_has_a_sampler_of_its_own(stack):
    steps = {"tcld_steps": 3, "dmae_steps": 3}
    both = [sound(stack, ["metal"], 0.1, sampler=name, **steps) for name in ("ddim", "multistep")]
    mixed = [sound(stack, ["metal"], 0.1, sampler=pair, **steps) for pair in ((None, "heun"), ("multistep", None))]
    assert len({w.numpy().tobytes() for w in (*both, *mixed)}) == 4
    assert torch.equal(sound(stack, ["metal"], 0.1, sampler=("multistep",) * 2, **steps), both[1])


def test_of_several_seeds_each_gives_what_it_gives_alone(stack):
    together = stack.generate(["metal", "pop"], 0.1, seed=[5, 6])
    alone = [stack.generate(["metal", "pop"], 0.1, seed=seed) for seed in (5, 6)]
    assert torch.equal(together, torch.cat(alone))
    with pytest.raises(ValueError, match="no seed is given"):
        stack.generate(["metal"], 0.1, seed=[])


def test_guidance_leads_away_from_a_negative_prompt_and_from_the_prompt_itself_nowhere(stack):
    plain, away = (sound(stack, ["metal"], 0.1, guidance=3.0, negative_prompt=text) for text in ("", "pop"))
    assert (plain - away).abs().max() > 1e-4
    itself = sound(stack, ["metal", "pop"], 0.1, guidance=3.0, negative_prompt="pop")[1]
    assert_close(itself, sound(stack, ["metal", "pop"], 0.1, guidance=1.0)[1], atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="guidance is 1, so the negative prompt 'pop' has no influence"):
        sound(stack, ["metal"], 0.1, guidance=1.0, negative_prompt="pop")


def test_settings_not_said_are_the_profiles(stack, profile):
    usual = profile.sampling
    how = stack.sampling()
    assert (how.tcld_steps, how.dmae_steps, how.guidance) == (usual.tcld_steps, usual.dmae_steps, Guidance(3.0))
    assert how.tcld_sampler == how.dmae_sampler == usual.sampler and usual.guidance == 3.0


def test_the_sound_is_refined_as_often_as_asked(stack, profile):
    steps = {"tcld_steps": 1, "dmae_steps": 1}
    alone, refined = (sound(stack, ["metal"], 0.1, refinement_steps=n, **steps) for n in (0, 1))
    assert (alone - refined).abs().max() > 1e-4
    assert stack.sampling().refinement_steps == profile.dmae.refinement_steps == 0
    assert torch.equal(sound(stack, ["metal"], 0.1, **steps), alone)


@pytest.mark.parametrize(("seconds", "edits"), [(None, 0), (1.0, 1)])
def test_either_seconds_or_an_edit_says_how_long(stack, seconds, edits):
    with pytest.raises(ValueError, match="give either seconds or an init_audio, whose length is used"):
        stack.generate(["metal"], seconds, init_audio=variation(torch.zeros(2, 9), 0.5) if edits else None)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tcld_steps": 0}, "tcld_steps is 0: choose a whole number from 1"),
        ({"dmae_steps": 0}, "dmae_steps is 0: choose a whole number from 1"),
        ({"refinement_steps": -1}, "refinement_steps is -1: choose a whole number from 0"),
        ({"guidance": float("nan")}, "guidance is nan: choose a number"),
        ({"guidance": float("inf")}, "guidance is inf: choose a number"),
        ({"precision": "x"}, "tcld_precision is 'x': choose one of float32, auto, fast"),
        ({"sampler": ("ddim", "euler")}, "unknown sampler 'euler'"),
    ],
)
def test_a_setting_that_is_none_is_refused_by_name_before_any_work(stack, change, said):
    with pytest.raises(ValueError, match=said):
        unwrap(sampling_for)(stack.profile, **change)
    for name, value, mend in (
        ("negative_prompt", 5, "give a text"),
        ("tcld_steps", 2.5, "choose a whole number from 1"),
    ):
        with pytest.raises(ValueError, match=f"{name} is {value}: {mend}"):
            Sampling.__post_init__(SimpleNamespace(**(vars(stack.sampling()) | {name: value})))
    with pytest.raises(ValueError, match="guidance is '3': choose a number"):
        Guidance.__post_init__(SimpleNamespace(scale="3"))


@pytest.mark.parametrize("profile", [5, None])
def test_what_is_no_profile_is_refused_with_those_there_are(profile):
    with pytest.raises(ValueError, match=f"unknown profile '{profile}': choose one of smoke, cpu"):
        unwrap(Mousai.load.__func__)(Mousai, profile)


def test_an_empty_prompt_is_refused(stack):
    with pytest.raises(ValueError, match="a prompt is empty"):
        stack.generate([""], 1.0)


def test_the_stack_loads_from_a_folder_of_weights(profile, tmp_path):
    with pytest.raises(FileNotFoundError, match="no weights at"):
        Mousai.load(profile, "cpu", tmp_path)
    save_weights(new_tcld(profile), tmp_path / "tcld.safetensors", {})
    save_weights(new_dmae(profile.dmae), tmp_path / "dmae.safetensors", {})
    assert Mousai.load(profile, "cpu", tmp_path).generate(["metal"], 0.1).shape == (1, 2, 4800)


def test_loading_keeps_the_nets_trainable_and_an_optimized_copy_leaves_them_alone(profile, tmp_path):
    save_weights(new_tcld(profile), tmp_path / "tcld.safetensors", {})
    save_weights(new_dmae(profile.dmae), tmp_path / "dmae.safetensors", {})
    switches = [torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32]
    music = Mousai.load(profile, "cpu", tmp_path)
    before = {name: tensor.clone() for name, tensor in music.dmae.state_dict().items()}
    fast = music.optimized_for_cpu()
    now = [torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32]
    assert now == switches
    assert music.dmae.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in music.dmae.state_dict().items())
    w = torch.randn(1, 2, profile.dmae.crop, requires_grad=True)
    music.dmae.encode(w).square().sum().backward()
    assert w.grad is not None and w.grad.abs().max() > 0
    assert all(parameter.grad is not None for parameter in music.dmae.encoder.parameters())
    assert_close(fast.generate("metal", 0.3, seed=2), music.generate("metal", 0.3, seed=2), atol=1e-5, rtol=0)
    with pytest.raises(
        RuntimeError, match="this copy was made by `optimize_for_cpu`, for sampling alone: train the original"
    ):
        fast.dmae.encode(w).square().sum().backward()


def test_a_single_text_is_one_prompt_and_numpys_integers_are_seeds(stack):
    w = stack.generate(["metal"], 0.1, seed=3)
    assert torch.equal(stack.generate("metal", 0.1, seed=np.int64(3)), w)
    assert torch.equal(stack.generate("metal", 0.1, seed=[np.int32(3)]), w)
    for seeds in (np.array([1, 2]), torch.tensor([1, 2]), range(1, 3), (1, np.int64(2))):
        assert as_seeds(seeds) == [1, 2]
    assert as_seeds(np.array(7)) == as_seeds(torch.tensor(7)) == [7]
    for seed in (-1, 2**63, [1, 2**70], 1.5, "1", None, np.ones((2, 2), int), np.ones(2)):
        with pytest.raises(ValueError, match=r"seed is .*: choose a whole number from 0 to 9223372036854775807"):
            as_seeds(seed)
    with pytest.raises(ValueError, match="prompts holds 3: give a text, or a list of texts"):
        as_prompts(["a", 3])
    for prompts in (5, None):
        with pytest.raises(ValueError, match=f"prompts holds {prompts}: give a text, or a list of texts"):
            as_prompts(prompts)
    with pytest.raises(ValueError, match="init_audio is not an InitAudio: make one of a sound with variation"):
        stack.sample_count(None, torch.zeros(2, 100))
    with pytest.raises(ValueError, match="2 seeds for 3 prompts: give one, or one for each"):
        stack.stream(["a", "b", "c"], 0.1, seed=[1, 2])


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_the_same_prompt_and_seed_are_the_same_sound_alone_or_among_others_in_any_order(stack, seconds):
    sampling = stack.sampling(tcld_steps=2, dmae_steps=2, sampler="ddim")
    alone = torch.cat([stack.generate(text, seconds, 7, sampling) for text in ("metal", "pop", "hip hop")])
    together = stack.generate(["metal", "pop", "hip hop"], seconds, 7, sampling)
    assert_close(together, alone, atol=1e-5, rtol=0)
    turned = stack.generate(["hip hop", "metal"], seconds, 7, sampling)
    assert_close(turned, alone[[2, 0]], atol=1e-5, rtol=0)
    each = torch.cat([*stack.stream(["metal", "pop"], seconds, [8, 7], sampling)], dim=-1)
    assert_close(each[1], alone[1], atol=1e-5, rtol=0)
    assert (each[0] - alone[0]).abs().max() > 1e-3
