"""musicnn's network against numbers of the authors' own code, and the reader of its checkpoint against one by hand."""

import json
import struct
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.clips import clip_set
from numpy.testing import assert_allclose, assert_array_equal

from mousai.evaluation import musicnn

GOLDEN = Path(__file__).with_suffix(".json")
installed = pytest.mark.skipif(
    musicnn.musicnn_missing() is not None, reason="musicnn's weights: pip install --no-deps musicnn==0.1.0"
)


def sound() -> torch.Tensor:
    """Plucks, a glide and a little noise [2, 286464] at 48 kHz: as long as two windows of the network."""
    time = np.arange(286_464) / 48_000
    pluck = sum(np.exp(-6 * (time % 0.5)) * np.sin(2 * np.pi * 220 * k * time) / k for k in range(1, 9))
    glide = np.sin(2 * np.pi * (300 * time + 400 * time**2))
    hiss = np.random.default_rng(0).standard_normal(len(time))
    wave = np.stack([0.2 * pluck + 0.02 * hiss, 0.1 * pluck + 0.2 * glide])
    return torch.from_numpy(wave.astype(np.float32))


@installed
def test_the_network_agrees_with_the_authors_code():
    golden = json.loads(GOLDEN.read_text())
    model = musicnn.Musicnn("cpu")
    mels = musicnn.windows(musicnn.log_mels(sound()))
    assert mels.shape == (2, 187, 96)
    with torch.no_grad():
        features, tags = model.net.penultimate(mels), model.net(mels)
    assert_allclose(features[:, ::10], golden["penultimate"], atol=1e-4)
    assert_allclose(tags[:, ::5], golden["taggram"], atol=1e-5)
    assert_allclose(model.embed_audio(sound()[None])[0], features.mean(dim=0), atol=1e-6)


@installed
def test_every_clip_of_a_set_is_embedded_even_one_shorter_than_a_window():
    waves = torch.stack([sound()[:, :96_000], sound()[:, 96_000:192_000]])
    model = musicnn.Musicnn("cpu")
    rows = model.embed_clips(clip_set(waves, ["Pop", "Pop"]))
    assert rows.shape == (2, 200) and rows.dtype == np.float32
    assert_allclose(rows[1], model.embed_audio(waves[1:])[0], atol=1e-6)
    assert np.abs(rows[0] - rows[1]).max() > 0.1


def test_a_missing_package_gives_one_line_with_its_command(monkeypatch):
    monkeypatch.setattr(musicnn, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError) as error:
        musicnn.Musicnn()
    message = str(error.value)
    assert "\n" not in message and "`pip install --no-deps musicnn==0.1.0`" in message


def test_other_weights_than_the_published_are_refused(tmp_path, monkeypatch):
    (tmp_path / musicnn.DATA).write_bytes(b"other")
    monkeypatch.setattr(musicnn, "musicnn_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match=r"not the weights of musicnn 0\.1\.0"):
        musicnn.Musicnn()


def test_windows_cover_a_clip_from_end_to_end():
    frames = torch.arange(400.0)[:, None].expand(400, 96)
    starts = musicnn.windows(frames)[:, 0, 0].tolist()
    assert starts == [0, 106, 213] and starts[-1] + 187 == 400
    assert musicnn.windows(frames[:374])[:, 0, 0].tolist() == [0, 187]
    assert musicnn.windows(frames[:100]).shape == (1, 100, 96)


def test_silence_is_zero_and_a_tone_stands_in_its_band():
    assert not musicnn.log_mels(torch.zeros(2, 48_000)).any()
    tone = torch.sin(2 * torch.pi * 1000 * torch.arange(48_000) / 48_000).expand(2, -1)
    mels = musicnn.log_mels(tone)
    assert mels.shape == (63, 96)  # 16 ms apart, centred
    centres = 200 / 3 * (45.245 * (np.arange(96) + 1) / 97)  # Slaney's mel scale is linear up to 1 kHz
    assert abs(centres[int(mels[31].argmax())] - 1000) < 31.25  # half of the transform's bins


# The bytes of a checkpoint are put together from the formats' descriptions, by nothing of the reader's.


def varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def block(rows: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A LevelDB block: keys share what they have in common with the one before; one restart; type, checksum."""
    body, last = b"", b""
    for key, value in rows:
        shared = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(key, last, strict=False))))
        body += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return body + struct.pack("<II", 0, 1) + bytes([kind]) + b"\0\0\0\0"


def entry(shape: tuple[int, ...], at: int, size: int, dtype: int = 1) -> bytes:
    dimensions = b"".join(b"\x12" + varint(len(d)) + d for d in (b"\x08" + varint(n) for n in shape))
    place = (b"\x20" + varint(at) if at else b"") + b"\x28" + varint(size)
    return b"\x08" + varint(dtype) + b"\x12" + varint(len(dimensions)) + dimensions + place + b"\x35abcd"


def write_bundle(folder: Path, rows: list[tuple[bytes, bytes]], data: bytes, header=b"\x08\x01", kind: int = 0) -> None:
    content = block([(b"", header), *rows], kind)
    nothing = block([])
    places = [varint(at) + varint(size - 5) for at, size in ((0, len(content)), (len(content), len(nothing)))]
    index = block([(b"z", places[0])])
    footer = places[1] + varint(len(content + nothing)) + varint(len(index) - 5)
    magic = bytes.fromhex("57fb808b247547db")
    (folder / ".index").write_bytes(content + nothing + index + footer.ljust(40, b"\0") + magic)
    (folder / musicnn.DATA).write_bytes(data)


KERNEL = np.arange(300, dtype="<f4").reshape(1, 3, 100)
ROWS = [(b"dense/bias", entry((), 1200, 4)), (b"dense/kernel", entry((1, 3, 100), 0, 1200))]
BYTES = KERNEL.tobytes() + np.float32(-2.5).tobytes()


def test_a_checkpoint_written_by_hand_is_read(tmp_path):
    write_bundle(tmp_path, ROWS, BYTES)
    found = musicnn.read_bundle(tmp_path)
    assert set(found) == {"dense/kernel", "dense/bias"}
    assert_array_equal(found["dense/kernel"], KERNEL)
    assert found["dense/bias"].shape == () and found["dense/bias"] == -2.5


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": 1}, "compressed block"),
        ({"header": b"\x08\x02"}, "one little-endian file"),
        ({"header": b"\x08\x01\x10\x01"}, "one little-endian file"),
        ({"data": BYTES[:-1]}, "dense/bias: not a whole float32 tensor"),
        ({"rows": [(b"step", entry((), 0, 8, dtype=9))]}, "step: not a whole float32 tensor"),
    ],
)
def test_what_is_not_read_is_refused_in_one_line(tmp_path, change, said):
    write_bundle(tmp_path, **({"rows": ROWS, "data": BYTES} | change))
    with pytest.raises(ValueError, match=said) as error:
        musicnn.read_bundle(tmp_path)
    assert "\n" not in str(error.value)


def test_another_file_is_no_index(tmp_path):
    (tmp_path / ".index").write_bytes(b"something else" * 10)
    with pytest.raises(ValueError, match="not the index of a TensorFlow checkpoint"):
        musicnn.read_bundle(tmp_path)
