"""Files as people have them: read whole, whatever their header or their name says; more channels mixed by layout."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from helpers.music import RATE, tone, write, write_lossy

from mousai.data.decoded import Skipped, early_end, ffmpeg, libsndfile, mix, resampled_blocks


def read(path: Path) -> np.ndarray:
    """All of a file, [2, time]."""
    return np.concatenate(list(resampled_blocks(path)), axis=1)


def patched(path: Path, at: int, content: bytes) -> Path:
    whole = bytearray(path.read_bytes())
    whole[at : at + len(content)] = content
    path.write_bytes(whole)
    return path


def test_a_flac_from_a_pipe_whose_length_is_unknown_is_read_whole(tmp_path):
    path = write(tmp_path / "a.flac", tone(6))
    patched(path, 21, bytes([path.read_bytes()[21] & 0xF0]) + bytes(4))
    np.testing.assert_allclose(read(path), tone(6).T, atol=1e-4)


def test_an_mp3_of_variable_rate_without_its_header_is_read_whole(tmp_path):
    quiet_then_loud = np.concatenate([0 * tone(2), tone(4) + np.random.default_rng(0).normal(0, 0.1, (4 * RATE, 2))])
    with soundfile.SoundFile(tmp_path / "a.mp3", "w", RATE, 2, compression_level=0.5, bitrate_mode="VARIABLE") as file:
        file.write(quiet_then_loud)
    whole = (tmp_path / "a.mp3").read_bytes()
    second = whole.index(whole[:2], 4)  # the first frame says how many there are
    assert b"Xing" in whole[:second]
    (tmp_path / "b.mp3").write_bytes(whole[second:])
    assert read(tmp_path / "b.mp3").shape[1] == pytest.approx(6 * RATE, abs=2500)
    assert read(tmp_path / "a.mp3").shape[1] == 6 * RATE


@pytest.mark.parametrize(
    ("made", "named"), [("a.m4a", "a.mp3"), ("b.aac", "b.mp3"), ("c.flac", "c.oga"), ("d.ogg", "d.wav")]
)
def test_the_content_decides_and_not_the_name(tmp_path, made, named):
    kind = write if made.endswith(("flac", "ogg")) else write_lossy
    kind(tmp_path / made, tone(3), RATE).rename(tmp_path / named)
    assert read(tmp_path / named).shape[1] == pytest.approx(3 * RATE, abs=2500)


@pytest.mark.parametrize("size", [bytes(4), b"\xff" * 4])
def test_a_wav_whose_data_size_was_never_written_is_read_to_its_end(tmp_path, size):
    path = write(tmp_path / "a.wav", tone(3))
    patched(path, path.read_bytes().index(b"data") + 4, size)
    np.testing.assert_allclose(read(path), tone(3).T, atol=1e-4)


@pytest.mark.parametrize("ending", ["wav", "flac"])
def test_the_centre_of_six_channels_is_in_both_of_two(tmp_path, ending):
    wave = np.zeros((2 * RATE, 6))
    wave[:, 2] = tone(2)[:, 0]
    expected = 0.5**0.5 * wave[:, [2, 2]].T
    np.testing.assert_allclose(read(write(tmp_path / f"a.{ending}", wave)), expected, atol=1e-4)


@pytest.mark.parametrize("channels", [9, 12, 64])
def test_files_of_more_than_eight_channels_are_read(tmp_path, channels):
    wave = np.random.default_rng(0).normal(0, 0.01, (4_800, channels)).astype(np.float32)
    path = write(tmp_path / "a.wav", wave, subtype="FLOAT")
    for reader in (libsndfile, ffmpeg):
        np.testing.assert_allclose(np.concatenate([block for block, _, _ in reader(path)]), wave, atol=1e-6)
    expected = 0.5**0.5 * wave.sum(axis=1)
    np.testing.assert_allclose(read(path), [expected, expected], atol=1e-5)


@pytest.mark.parametrize("ending", ["wav", "aiff", "flac", "ogg", "mp3"])
def test_a_file_that_ends_early_is_read_as_far_as_it_goes_with_a_note(tmp_path, monkeypatch, ending):
    noise = np.random.default_rng(0).normal(0, 0.1, (6 * RATE, 2))
    path = write(tmp_path / f"a.{ending}", noise)
    assert early_end(path, read(path).shape[1] / RATE) == ""
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    for block in (2**21, 2**16):  # libsndfile fails at once, and after some blocks
        monkeypatch.setattr("mousai.data.decoded.BLOCK", block)
        wave = read(path)
        assert 3 * RATE < wave.shape[1] < 4 * RATE
        if ending in ("wav", "aiff", "flac"):
            np.testing.assert_allclose(wave, noise[: wave.shape[1]].T, atol=1e-4)
    text = early_end(path, wave.shape[1] / RATE)
    assert text == (
        "ends early: its last page is missing" if ending == "ogg" else "ends early: 3.6 s are there of 6.0 s"
    )


def test_a_damaged_flac_is_read_without_its_damaged_part_with_a_note(tmp_path):
    noise = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, 2))
    path = write(tmp_path / "a.flac", noise)
    wave = read(patched(path, path.stat().st_size // 2, b"damaged"))
    assert 1.8 * RATE < wave.shape[1] < 2 * RATE and np.abs(wave).max() < 0.6
    assert early_end(path, wave.shape[1] / RATE) == "ends early: 1.9 s are there of 2.0 s"


@pytest.mark.parametrize("size", [bytes(4), b"\xff" * 4, b"\xff\xff\xff\x7f"])
def test_a_length_that_was_never_written_is_no_early_end(tmp_path, size):
    path = write(tmp_path / "a.wav", tone(1))
    assert early_end(patched(path, path.read_bytes().index(b"data") + 4, size), 1.0) == ""


@pytest.mark.parametrize("ending", ["m4a", "wma", "aac"])
def test_what_a_lossy_codec_adds_at_its_ends_is_no_early_end(tmp_path, ending):
    path = write_lossy(tmp_path / f"a.{ending}", tone(2), RATE, "wmav2" if ending == "wma" else "aac")
    assert early_end(path, read(path).shape[1] / RATE) == ""


def test_channels_are_mixed_by_name_and_by_the_usual_order_where_they_have_none():
    names = ("FL", "FR", "FC", "LFE", "BL", "BR")
    half = 0.5**0.5
    expected = [[1, 0], [0, 1], [half, half], [0, 0], [half, 0], [0, half]]
    np.testing.assert_allclose(mix(6, names), expected)
    np.testing.assert_allclose(mix(6, ()), expected)
    np.testing.assert_allclose(mix(6, ("NONE",) * 6), expected)
    np.testing.assert_allclose(mix(3, ("FL", "FR", "BC")), [[1, 0], [0, 1], [half, half]])


@pytest.mark.parametrize("text", ["#EXTM3U\n{other}\n", "ffconcat version 1.0\nfile '{other}'\n"])
def test_a_playlist_that_is_named_like_music_opens_no_other_file(tmp_path, text):
    other = write(tmp_path / "other.wav", tone(1))
    (tmp_path / "a.mp3").write_text(text.format(other=other.name))
    with pytest.raises(Skipped, match="not readable as sound"):
        read(tmp_path / "a.mp3")


def test_a_damaged_mp3_writes_nothing_to_stderr(tmp_path, capfd):
    path = write(tmp_path / "a.mp3", tone(2))
    patched(path, 3000, np.random.default_rng(0).bytes(3000))
    try:
        read(path)
    except Skipped as reason:
        assert "not readable" in str(reason)
    assert capfd.readouterr().err == ""
