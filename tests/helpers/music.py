"""Sound files that the tests make up."""

import os
from fractions import Fraction
from pathlib import Path

import numpy as np
import soundfile

RATE = 48_000


def tone(seconds: float, rate: int = RATE, channels: int = 2, level: float = 0.3, pitch: float = 440.0) -> np.ndarray:
    """A sine [time, channels], each channel a tenth softer than the one before."""
    wave = level * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
    return np.stack([wave * (1 - 0.1 * channel) for channel in range(channels)], axis=1)


def write(path: Path, wave: np.ndarray, rate: int = RATE, **form) -> Path:
    """[time, channels] to a file by libsndfile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), wave, rate, **form)
    return path


def tag(path: Path, easy: bool = False, **tags: str | list[str]) -> Path:
    """Set tags of a file, by mutagen; `easy`: by its common names."""
    import mutagen

    file = mutagen.File(path, easy=easy)
    file.update(tags)
    file.save()
    return path


def write_lossy(path: Path, wave: np.ndarray, rate: int, codec: str = "aac", **tags: str) -> Path:
    """[time, channels] as a lossy file of the kind of its ending, by FFmpeg."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[wave.shape[1]]
    with av.open(str(path), "w") as container:
        container.metadata.update(tags)
        stream = container.add_stream(codec, rate=rate, layout=layout, bit_rate=128_000)
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave.T, np.float32), "fltp", layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return path
