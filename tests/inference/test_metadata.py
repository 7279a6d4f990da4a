"""A file's tags say how it was made, to the last digit, and its samples are as without them."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
import torch

from mousai.inference.audio import write_audio
from mousai.inference.metadata import GenerationMetadata, SourceAudio, read_metadata
from mousai.inference.samplers import Guidance
from mousai.inference.sampling import Sampling

SAMPLING = Sampling(
    20, 3, "multistep", "ddim", Guidance(0.1 + 0.2, 0.0, 0.75, 0.5), "drums, \n“slow”; \u2028 1=2", "auto", "fast", 7
)
METADATA = GenerationMetadata(
    prompt="Métal \u266b, 'Ryan\\'s' \"2\" of 4\n\ttwice",
    seconds=1 / 3,
    seed=2**63 - 1,
    sampling=SAMPLING,
    profile="cpu",
    tcld_sha256="a" * 64,
    dmae_sha256="b" * 64,
    version="0.1.0",
    source=SourceAudio("inpaint", "sóng.wav", "c" * 64, 0.6, ((0.1, 0.7), (10.0, 20.0))),
    loudness=-14.0,
)
ENDINGS = pytest.mark.parametrize("ending", [".wav", ".flac", ".ogg", ".WAV"])


@pytest.fixture
def wave() -> torch.Tensor:
    t = torch.arange(50_000) / 48_000
    return torch.stack([(2764.6 * t).sin(), (2764.6 * t).cos()]) / 2


@ENDINGS
@pytest.mark.parametrize(
    "metadata", [METADATA, replace(METADATA, loudness=None, source=SourceAudio(), prompt="x" * 999)]
)
def test_what_is_written_is_read(wave, tmp_path, ending, metadata):
    write_audio(wave, tmp_path / f"tagged{ending}", metadata=metadata)
    assert read_metadata(tmp_path / f"tagged{ending}") == metadata
    assert [path.name for path in tmp_path.iterdir()] == [f"tagged{ending}"]


@ENDINGS
def test_the_samples_are_those_of_a_file_without_tags(wave, tmp_path, ending):
    for name, metadata in (("plain", None), ("tagged", METADATA)):
        write_audio(wave, tmp_path / f"{name}{ending}", metadata=metadata)
    plain, tagged = (soundfile.read(tmp_path / f"{name}{ending}", dtype="int32")[0] for name in ("plain", "tagged"))
    assert np.array_equal(plain, tagged)


def test_the_prompt_is_the_title_that_players_show(wave, tmp_path):
    import mutagen

    for ending, key in ((".wav", "TIT2"), (".flac", "title"), (".ogg", "title")):
        write_audio(wave, tmp_path / f"a{ending}", metadata=METADATA)
        assert str(mutagen.File(tmp_path / f"a{ending}")[key][0]) == METADATA.prompt


@ENDINGS
def test_a_file_without_settings_is_refused_in_one_line(wave, tmp_path, ending):
    write_audio(wave, tmp_path / f"plain{ending}")
    with pytest.raises(
        ValueError, match="no settings in its tags: only what `mousai generate` wrote can be made again"
    ):
        read_metadata(tmp_path / f"plain{ending}")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a"])
def test_neither_is_a_file_that_is_none(tmp_path, name):
    (tmp_path / name).write_bytes(b"RIFF....WAVEnothing")
    with pytest.raises(ValueError, match="no settings in its tags"):
        read_metadata(tmp_path / name)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"prompt": 1}', "[" * 10_000])
def test_settings_of_another_version_are_refused_by_what_is_wrong(wave, tmp_path, text):
    from mutagen.flac import FLAC

    write_audio(wave, tmp_path / "a.flac", metadata=METADATA)
    file = FLAC(tmp_path / "a.flac")
    file["mousai"] = text
    file.save()
    with pytest.raises(ValueError, match="its tags hold no settings of this version"):
        read_metadata(tmp_path / "a.flac")


def test_a_sound_of_before_there_was_a_choice_is_made_again_without_refinement(wave, tmp_path):
    from mutagen.flac import FLAC

    write_audio(wave, tmp_path / "a.flac", metadata=METADATA)
    file = FLAC(tmp_path / "a.flac")
    said = json.loads(file["mousai"][0])
    del said["sampling"]["refinement_steps"]
    file["mousai"] = json.dumps(said)
    file.save()
    assert read_metadata(tmp_path / "a.flac").sampling.refinement_steps == 0


def test_every_setting_is_in_the_tags():
    said = asdict(METADATA)
    assert said["sampling"]["guidance"] == {
        "scale": 0.1 + 0.2,
        "low": 0.0,
        "high": 0.75,
        "rescale": 0.5,
        "per_channel": False,
    }
    assert (
        said["source"]["regions"] == ((0.1, 0.7), (10.0, 20.0))
        and said["seed"] == 2**63 - 1
        and said["loudness"] == -14
    )
