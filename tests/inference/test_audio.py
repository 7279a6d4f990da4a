"""Sound files: exact samples in, exact samples out; what is no sound, or no file for it, is refused."""

from inspect import unwrap

import numpy as np
import pyloudnorm
import pytest
import soundfile
import torch
from torch.testing import assert_close

from mousai.inference.audio import as_stereo, integrated_loudness, sample_count, write_audio


@pytest.mark.parametrize("seconds", [0, -1, 1e-6, 3601, float("nan"), "2", [1], None, torch.ones(2)])
def test_impossible_lengths_are_refused_by_number(seconds):
    with pytest.raises(ValueError, match=r"seconds is .*: choose more than 0 and at most 3600"):
        sample_count(seconds)


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


def test_equal_sound_is_an_ogg_file_of_equal_bytes_whose_pages_all_carry_one_serial_number(wave, tmp_path):
    for name in ("a.ogg", "b.ogg"):
        write_audio(wave, tmp_path / name)
    first = (tmp_path / "a.ogg").read_bytes()
    pages = first.split(b"OggS")[1:]  # the capture pattern; 4 bytes of serial number stand 14 bytes in
    assert first == (tmp_path / "b.ogg").read_bytes() and len(pages) >= 3
    assert {page[10:14] for page in pages} == {bytes(4)}
    write_audio(-wave, tmp_path / "b.ogg")
    assert first != (tmp_path / "b.ogg").read_bytes()


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("loudness", [None, -14.0])
def test_a_sample_that_is_not_finite_is_refused_and_the_file_stays_as_it_was(wave, tmp_path, bad, loudness):
    path = tmp_path / "x.wav"
    path.write_bytes(b"before")
    broken = wave.clone()
    broken[1, 70_000] = bad
    with pytest.raises(ValueError, match=r"x.wav: the sound holds samples that are not finite \(NaN\): nothing was"):
        write_audio(iter(broken.split(50_000, dim=-1)), path, loudness=loudness)
    assert path.read_bytes() == b"before" and len([*tmp_path.iterdir()]) == 1


@pytest.mark.parametrize("mono", [lambda w: w[0], lambda w: w[:1]])
def test_mono_is_two_equal_channels_and_an_array_will_do(wave, tmp_path, mono):
    write_audio(mono(wave).numpy(), tmp_path / "array.wav")
    write_audio(mono(wave), tmp_path / "mono.wav")
    write_audio(torch.stack([wave[0], wave[0]]), tmp_path / "twice.wav")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize(
    ("w", "message"),
    [
        (torch.zeros(4, 2, 100), r"\[4, 2, 100\], a batch: pass one item of it, \[2, time\], such as w\[0\]"),
        (torch.zeros(3, 100), r"audio has shape \[3, 100\]: pass mono, \[time\], or stereo, \[2, time\]"),
        (torch.zeros(2, 100, dtype=torch.int16), "audio holds torch.int16: pass floating point, full scale is 1"),
    ],
)
def test_what_is_no_sound_is_refused_with_the_mend(tmp_path, w, message):
    for refuse in (as_stereo, lambda w: write_audio(w, tmp_path / "x.wav")):
        with pytest.raises(ValueError, match=message):
            refuse(w)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("seconds", [0.4, 0.53, 3.0, 61.22])
def test_loudness_is_pyloudnorms_though_measured_minute_by_minute(seconds, generator):
    n = round(seconds * 48_000)
    w = 0.1 * torch.randn(2, n, generator=generator) * torch.linspace(0, 1, n)
    expected = pyloudnorm.Meter(48_000).integrated_loudness(w.T.double().numpy())
    assert integrated_loudness(w) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("ending", [".wav", ".flac"])
def test_a_file_is_brought_to_the_loudness_asked_for_by_one_gain(wave, tmp_path, ending):
    path = tmp_path / f"loud{ending}"
    assert write_audio(iter((0.01 * wave).split(30_000, dim=-1)), path, loudness=-23.0) == 0
    read = torch.from_numpy(soundfile.read(path, dtype="float32")[0].T)
    assert integrated_loudness(read) == pytest.approx(-23, abs=1e-3)
    gain = read.norm() / wave.norm()
    assert_close(read, gain * wave, atol=1e-5, rtol=0)


def test_what_the_gain_brings_beyond_full_scale_is_counted(wave, tmp_path):
    peaky = wave.clone()
    peaky[:, 5] = 3
    assert write_audio(peaky, tmp_path / "a.wav", loudness=-10.0) >= 2


@pytest.mark.parametrize("loudness", [float("nan"), float("inf"), 1e5, 0.1, -70.1, "-14", [-14]])
def test_a_loudness_that_is_none_is_refused(wave, tmp_path, loudness):
    with pytest.raises(ValueError, match=r"loudness is .*: choose a number of LUFS from -70 to 0"):
        unwrap(write_audio)(wave, tmp_path / "x.wav", loudness=loudness)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("rate", [-1, 0, 44_100.0, "48000", 10**6])
def test_a_sample_rate_that_is_none_is_refused(wave, tmp_path, rate):
    with pytest.raises(ValueError, match=r"sample_rate is .*: choose a whole number from 1 to 192000"):
        unwrap(write_audio)(wave, tmp_path / "x.wav", rate)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
@pytest.mark.parametrize("nothing", [torch.zeros(2, 0), iter([])], ids=["no samples", "no parts"])
def test_no_sound_is_no_file(tmp_path, ending, nothing):
    with pytest.raises(ValueError, match=f"x.{ending}: there is no sound: nothing was written"):
        write_audio(nothing, tmp_path / f"x.{ending}")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("w", [[[0.1, 0.2], [0.3, 0.4]], [0.1, 0.2], None, 5, "sound"])
def test_what_is_neither_a_tensor_nor_an_array_is_refused(tmp_path, w):
    with pytest.raises(ValueError, match=r"audio is .*: pass a tensor or an array, \[2, time\] or mono"):
        unwrap(write_audio)(w, tmp_path / "x.wav")
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("kind", [torch.float64, torch.float16, torch.bfloat16])
def test_sound_of_any_precision_becomes_float32(wave, tmp_path, kind):
    assert as_stereo(wave.to(kind)).dtype == torch.float32
    write_audio(wave.to(kind), tmp_path / "x.wav")
    read, _ = soundfile.read(tmp_path / "x.wav", dtype="float32")
    assert_close(torch.from_numpy(read.T), wave.to(kind).float(), atol=2**-22, rtol=0)


def test_silence_stays_silence_and_too_little_sound_has_no_loudness(tmp_path):
    write_audio(torch.zeros(2, 48_000), tmp_path / "silent.flac", loudness=-14.0)
    assert not soundfile.read(tmp_path / "silent.flac")[0].any()
    with pytest.raises(ValueError, match=r"0.1 s are too short for a loudness: it takes 0.4 s at least"):
        write_audio(torch.zeros(2, 4800), tmp_path / "short.flac", loudness=-14.0)


def test_a_name_as_long_as_the_file_system_allows_can_be_written(wave, tmp_path):
    path = tmp_path / f"{'x' * 251}.wav"
    write_audio(wave, path)
    assert [other.name for other in tmp_path.iterdir()] == [path.name]
