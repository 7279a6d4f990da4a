"""What makers ask of the shell, with the smoke profile's weights: files that are named, tagged, edited, made again."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors import safe_open

from mousai import cli
from mousai.inference import commands
from mousai.inference.audio import integrated_loudness, read_audio
from mousai.inference.editing import EDGE
from mousai.inference.metadata import read_metadata

pytestmark = pytest.mark.integration

QUICK = ["--profile", "smoke", "--tcld-steps", "2", "--dmae-steps", "1"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*words: str, code: int = 0) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main([*words])
    assert left.value.code == code


def samples(path: str) -> np.ndarray:
    """[time, 2], as whole numbers of 32 bits: nothing is rounded."""
    return soundfile.read(path, dtype="int32")[0]


def sound(path: str, n: int, subtype: str, rate: int = 48_000, channels: int = 2) -> None:
    """Loud noise, every value of so many bits among them, the ends of the scale too."""
    bits = {"PCM_16": 16, "PCM_24": 24}[subtype]
    rng = np.random.default_rng(0)
    values = rng.integers(-(2 ** (bits - 1)), 2 ** (bits - 1), (n, channels), dtype=np.int32)
    values[:2] = [[-(2 ** (bits - 1))], [2 ** (bits - 1) - 1]]
    soundfile.write(path, values << (32 - bits), rate, subtype)


def test_several_prompts_and_seeds_are_files_in_order_each_as_it_would_be_alone(capsys):
    run("generate", "Metal", "Pop", "--seed", "3,5", "--seconds", "0.2", "--out", "all.flac", *QUICK)
    made = [read_metadata(Path(f"all-{i}.flac")) for i in range(4)]
    assert [(r.prompt, r.seed) for r in made] == [("Metal", 3), ("Metal", 5), ("Pop", 3), ("Pop", 5)]
    assert [line.split(": ")[0] for line in capsys.readouterr().out.splitlines()] == [f"all-{i}.flac" for i in range(4)]
    run("generate", "Pop", "--seed", "3", "--seconds", "0.2", "--out", "one.flac", *QUICK)
    assert np.array_equal(samples("one.flac"), samples("all-2.flac"))


def test_a_file_is_made_again_from_its_tags_alone():
    words = ["--negative-prompt", "drums", "--guidance", "2.5", "--guidance-rescale", "0.5", "--seed", "9"]
    run("generate", "Pop", *words, "--tcld-sampler", "heun", "--seconds", "0.3", "--out", "first.ogg", *QUICK)
    run("generate", "--again", "first.ogg", "--out", "second.wav")
    run("generate", "--again", "second.wav", "--out", "third.wav")
    assert read_metadata(Path("third.wav")) == read_metadata(Path("first.ogg"))
    assert np.array_equal(samples("second.wav"), samples("third.wav"))
    sampling = read_metadata(Path("third.wav")).sampling
    assert (sampling.tcld_sampler, sampling.negative_prompt) == ("heun", "drums")
    assert (sampling.guidance.scale, sampling.guidance.rescale) == (2.5, 0.5)
    assert (sampling.tcld_steps, sampling.dmae_steps) == (2, 1)
    run("generate", "Pop", "--seed", "9", "--seconds", "0.3", "--out", "plain.wav", *QUICK)
    assert not np.array_equal(samples("plain.wav"), samples("third.wav"))


def test_the_diffusion_alone_is_one_option_away_and_stays_so_when_made_again():
    run("generate", "Pop", "--seconds", "0.2", "--out", "usual.wav", *QUICK)
    run("generate", "Pop", "--seconds", "0.2", "--refinement-steps", "0", "--out", "alone.wav", *QUICK)
    run("generate", "--again", "alone.wav", "--out", "again.wav")
    steps = [read_metadata(Path(f"{name}.wav")).sampling.refinement_steps for name in ("usual", "alone", "again")]
    assert steps == [2, 0, 0]
    assert np.array_equal(samples("alone.wav"), samples("again.wav"))
    assert not np.array_equal(samples("alone.wav"), samples("usual.wav"))


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_what_is_kept_of_a_file_is_in_the_new_file_sample_for_sample(subtype):
    sound("in.wav", 60_000, subtype)
    run(
        "generate", "Pop", "--inpaint", "in.wav", "--from", "0.9", "--to", "1.1", "--from", "0.3", "--to", "0.4", *QUICK
    )
    before, after, kept = samples("in.wav"), samples("out.wav"), np.ones(60_000, bool)
    for start, end in ((14_400, 19_200), (43_200, 52_800)):
        kept[start - EDGE : end + EDGE] = False
        assert (before[start:end] != after[start:end]).mean() > 0.9
    assert np.array_equal(before[kept], after[kept])
    run("generate", "Pop", "--continue", "in.wav", "--seconds", "1.5", "--out", "on.flac", *QUICK)
    assert samples("on.flac").shape == (72_000, 2)
    assert np.array_equal(samples("on.flac")[: 60_000 - EDGE], before[:-EDGE])


def test_an_edited_file_is_made_again_where_its_sound_is_at_hand_and_not_from_another(tmp_path, capsys):
    sound("in.wav", 20_000, "PCM_16", 44_100, 1)
    run("generate", "Pop", "--init-audio", "in.wav", "--noise-level", "0.5", "--out", "made.wav", *QUICK)
    assert samples("made.wav").shape == (round(20_000 * 48_000 / 44_100), 2)
    run("generate", "--again", "made.wav", "--out", "again.wav")
    assert np.array_equal(samples("made.wav"), samples("again.wav"))
    source = read_metadata(tmp_path / "made.wav").source
    assert (source.task, source.name, source.noise_level) == ("init-audio", "in.wav", 0.5)
    sound("in.wav", 20_001, "PCM_16")
    run("generate", "--again", "made.wav", "--out", "third.wav", code=2)
    assert "in.wav, of which made.wav was made, is neither here nor beside it" in capsys.readouterr().err
    assert not (tmp_path / "third.wav").exists()


def test_a_file_of_other_weights_is_not_made_again(monkeypatch, tmp_path, capsys):
    run("generate", "Pop", "--seconds", "0.1", *QUICK)
    monkeypatch.setattr(commands, "weights_sha256", lambda music: ("0", "1"))
    run("generate", "--again", "out.wav", "--out", "second.wav", code=2)
    assert "out.wav: made by other weights than those of smoke here" in capsys.readouterr().err
    assert not (tmp_path / "second.wav").exists()


def test_encode_and_decode_are_the_reconstruction_that_noise_level_0_gives(capsys):
    sound("in.wav", 30_000, "PCM_16")
    run("encode", "in.wav", "--profile", "smoke")
    said = capsys.readouterr().out
    assert "z [1, 32, 30] of 30000 samples of 48 kHz stereo: 60000 numbers become 960, 62.50 times fewer" in said
    run("decode", "z.safetensors", "--steps", "1", "--seed", "4", "--out", "decoded.wav")
    run("generate", "Pop", "--init-audio", "in.wav", "--noise-level", "0", "--seed", "4", *QUICK)
    assert np.array_equal(samples("decoded.wav"), samples("out.wav")) and len(samples("out.wav")) == 30_000


def test_a_latent_of_other_weights_is_refused_in_one_line(monkeypatch, tmp_path, capsys):
    sound("in.wav", 3000, "PCM_16")
    run("encode", "in.wav", "--profile", "smoke")
    with safe_open("z.safetensors", "pt") as file:
        assert json.loads(file.metadata()["samples"]) == 3000
    capsys.readouterr()
    monkeypatch.setattr(commands, "encoder_hash", lambda dmae: "other")
    run("decode", "z.safetensors", "--out", "decoded.wav", code=2)
    said = capsys.readouterr().err
    assert "z.safetensors: encoded by other weights than those of smoke here" in said and said.count("\n") == 1
    assert not (tmp_path / "decoded.wav").exists()


def test_an_output_that_is_an_input_is_refused_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "load", None)
    sound("in.wav", 20_000, "PCM_16")
    sound("song-1.wav", 20_000, "PCM_16")
    (tmp_path / "link.wav").symlink_to("in.wav")
    (tmp_path / "hard.wav").hardlink_to("in.wav")
    before = Path("in.wav").read_bytes()
    for words in (
        ["Pop", "--init-audio", "in.wav", "--out", "in.wav"],
        ["Pop", "--continue", "in.wav", "--out", "link.wav"],
        ["Pop", "--init-audio", "link.wav", "--out", "hard.wav"],
        ["Pop", "Metal", "--init-audio", "song-1.wav", "--out", "song.wav"],
    ):
        run("generate", *words, *QUICK, code=2)
        assert "it would replace the sound it is made from: choose another --out" in capsys.readouterr().err
    assert Path("in.wav").read_bytes() == before


def test_neither_is_the_file_that_is_made_again_replaced_nor_its_source(capsys):
    sound("in.wav", 20_000, "PCM_16")
    run("generate", "Pop", "--init-audio", "in.wav", "--noise-level", "0.5", "--out", "made.wav", *QUICK)
    for out in ("made.wav", "in.wav"):
        run("generate", "--again", "made.wav", "--out", out, code=2)
        assert f"{out}: it would replace the sound it is made from" in capsys.readouterr().err


def test_names_that_numbers_make_too_long_are_refused_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(commands, "load", None)
    run("generate", "Pop", "Metal", "--out", f"{'x' * 251}.wav", *QUICK, code=2)
    assert "File name too long" in capsys.readouterr().err and not [*tmp_path.iterdir()]


def test_what_cannot_be_made_is_refused_before_anything_is_loaded(tmp_path, capsys, monkeypatch):
    sound("in.wav", 15_000, "PCM_16")
    run("encode", "in.wav", "--profile", "smoke")
    for name in ("load", "load_dmae"):
        monkeypatch.setattr(commands, name, None)
    short = "s are too short for a loudness: it takes 0.4 s at least"
    for words, said in (
        (["generate", "Pop", "--seconds", "0.2", "--loudness", "-14", *QUICK], f"0.2 {short}"),
        (["generate", "Pop", "--init-audio", "in.wav", "--loudness", "-14", *QUICK], f"0.3125 {short}"),
        (["generate", "Pop", "--inpaint", "in.wav", "--from", "2", "--to", "1", *QUICK], "from 2 to 1 s is not within"),
        (["generate", "Pop", "--continue", "in.wav", "--seconds", "0.1", *QUICK], "the sound has 0.3125 s already"),
        (["decode", "z.safetensors", "--loudness", "-14"], f"0.3125 {short}"),
    ):
        run(*words, code=2)
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out.wav").exists()


def test_loudness_is_reached_stands_in_the_tags_and_is_that_of_the_file_made_again():
    run("generate", "Pop", "--seconds", "1", "--loudness", "-30", "--out", "soft.wav", *QUICK)
    assert integrated_loudness(read_audio(Path("soft.wav"))) == pytest.approx(-30, abs=0.01)
    assert read_metadata(Path("soft.wav")).loudness == -30
    run("generate", "--again", "soft.wav", "--out", "again.wav")
    assert np.array_equal(samples("soft.wav"), samples("again.wav"))
    run("encode", "soft.wav", "--profile", "smoke")
    run("decode", "z.safetensors", "--steps", "1", "--loudness", "-20", "--out", "loud.wav")
    assert integrated_loudness(read_audio(Path("loud.wav"))) == pytest.approx(-20, abs=0.01)


def test_a_sound_is_read_at_its_own_samples_in_stereo_or_resampled_and_twice():
    sound("in.wav", 70_000, "PCM_24")
    assert torch.equal(read_audio(Path("in.wav")).T, torch.from_numpy(soundfile.read("in.wav", dtype="float32")[0]))
    sound("mono.wav", 22_050, "PCM_16", 22_050, 1)
    w = read_audio(Path("mono.wav"))
    assert w.shape == (2, 48_000) and torch.equal(w[0], w[1])


@pytest.mark.parametrize(("content", "said"), [(b"", "empty"), (b"no sound", "not readable as sound")])
def test_a_file_that_is_no_sound_is_refused_before_anything_is_loaded(content, said, tmp_path, capsys):
    (tmp_path / "in.wav").write_bytes(content)
    for words in (["encode", "in.wav"], ["generate", "Pop", "--continue", "in.wav"]):
        run(*words, "--profile", "smoke", code=2)
        assert f"in.wav: {said}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["in.wav"]


def test_starting_imports_nothing_heavy_that_generating_does_not_need():
    code = (
        "import sys\nfrom mousai.inference import commands\nfrom mousai.small.profiles import CPU\n"
        "from mousai.text import load_text_encoder\nload_text_encoder(CPU.tcld.text)\n"
        "heavy = {'transformers', 'accelerate', 'sklearn', 'pandas', 'matplotlib', 'sympy', 'torchvision', 'music21'}\n"
        "heavy |= {'pretty_midi', 'midirenderer', 'huggingface_hub', 'pyloudnorm', 'mutagen', 'torch._dynamo'}\n"
        "assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()"
    )
    left = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert left.returncode == 0, left.stderr
