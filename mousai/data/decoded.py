"""A stranger's file becomes 48 kHz stereo, block by block: libsndfile reads most kinds, FFmpeg (PyAV) AAC and WMA."""

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mousai.data.records import Sound
from mousai.data.sound import SAMPLE_RATE

BY_FFMPEG = (".m4a", ".aac", ".wma")  # endings; libsndfile does not know what is inside
RATES = (4_000, 768_000)  # Hz; a header that says another is damaged
BLOCK = 2**21  # numbers read at once
UNREAD = "not readable: "  # may go well another time

Block = np.ndarray  # [time, channels], float32


class Skipped(Exception):
    """This file cannot be used; the text says why, up to a colon the same for all of a kind."""


def resampled_blocks(file: Path) -> Iterator[Sound]:
    """The file as 48 kHz stereo, block by block: mono twice, of more channels the first two. Raises `Skipped`.

    soxr, not torchaudio: it takes a stream, and rates with no common divisor, for which a table of sines has gigabytes.
    """
    library, blocks = ("FFmpeg", ffmpeg) if file.suffix.lower() in BY_FFMPEG else ("libsndfile", libsndfile)
    try:
        if not file.stat().st_size:
            raise Skipped("empty")
        with closing(blocks(file)) as read:
            yield from resampled(read)
    except (soundfile.SoundFileError, RuntimeError, AssertionError, TypeError, ValueError, MemoryError) as error:
        raise Skipped(f"not readable as sound: damaged, or of a kind that {library} does not know") from error
    except OSError as error:
        raise Skipped(f"{UNREAD}{error.strerror}") from error


def resampled(blocks: Iterator[tuple[Block, int]]) -> Iterator[Sound]:
    """Blocks at their own rate, all the same, to 48 kHz stereo [2, time]. Raises `Skipped` for a rate that is none."""
    resampler, rate, at = None, 0, 0
    for block, rate in blocks:
        if not RATES[0] <= rate <= RATES[1]:
            raise Skipped(f"the header is damaged: a sample rate of {rate} Hz")
        resampler = resampler or soxr.ResampleStream(rate, SAMPLE_RATE, 2, "float32")
        yield resampler.resample_chunk(stereo(block, at / rate)).T
        at += len(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros((0, 2), np.float32), last=True).T


def libsndfile(file: Path) -> Generator[tuple[Block, int]]:
    """Blocks of a file and its sample rate."""
    with soundfile.SoundFile(os.fsencode(file)) as sound:  # type: ignore[arg-type]  # bytes: names in any encoding
        while len(block := sound.read(max(1, BLOCK // sound.channels), dtype="float32", always_2d=True)):
            yield block, sound.samplerate


def ffmpeg(file: Path) -> Generator[tuple[Block, int]]:
    """The same of a file's first stream of sound. It is given opened, so that no file makes FFmpeg open another."""
    import av

    try:
        with file.open("rb") as opened, av.open(opened, "r") as container:
            if not container.streams.audio:
                raise Skipped("no sound in it")
            as_float = av.AudioResampler(format="fltp")  # changes how numbers are written, no more
            for frame in container.decode(container.streams.audio[0]):
                for part in as_float.resample(frame):
                    yield part.to_ndarray().T, part.sample_rate
    except av.FFmpegError as error:  # many are no kind of ValueError: no decoder, not written yet, another library's
        raise error if isinstance(error, OSError) else ValueError(str(error)) from error


def stereo(block: Block, second: float) -> np.ndarray:
    """[time, channels] -> [time, 2]. Raises `Skipped` where a number is not finite."""
    if not np.isfinite(block).all():
        raise Skipped(f"holds numbers that are not finite: after {second:.0f} s")
    return np.ascontiguousarray(block[:, [0, min(1, block.shape[1] - 1)]])
