"""Decode any sound file to 48 kHz stereo, block by block.

libsndfile reads what it knows well. FFmpeg (PyAV) reads what libsndfile refuses or is known to misjudge: MP3 and Ogg,
files whose header gives no length, and files of more than two channels. The content decides, not the file's name.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mousai.data.records import Sound
from mousai.data.sound import SAMPLE_RATE

RATES = (4_000, 768_000)  # Hz; a header that says another is damaged
BLOCK = 2**21  # numbers read at once
UNKNOWN = 2**62  # frames; where a header does not say its length, libsndfile reports this many or more
UNREAD = "not readable: "  # begins a reason that may not hold another time, so that the file is tried again
DAMAGED = "not readable as sound: damaged, or of a kind that neither libsndfile nor FFmpeg knows"
UNREADABLE = (soundfile.SoundFileError, RuntimeError, AssertionError, TypeError, ValueError, MemoryError)
KNOWN = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"fLaC", b"OggS", b"caff", b".snd")  # first bytes of a file
MISJUDGED = ("MP3", "OGG")  # libsndfile's names of the formats whose length it misjudges
HALF = 0.5**0.5  # -3 dB
LEFT = ("FL", "BL", "SL", "FLC", "TFL", "TBL", "WL", "TSL", "BFL", "DL", "SDL")  # FFmpeg's names of channels
RIGHT = ("FR", "BR", "SR", "FRC", "TFR", "TBR", "WR", "TSR", "BFR", "DR", "SDR")
SILENT = ("LFE", "LFE2")  # left out of a mix for two speakers
USUAL = {
    3: ("FL", "FR", "FC"),
    4: ("FL", "FR", "BL", "BR"),
    5: ("FL", "FR", "FC", "BL", "BR"),
    6: ("FL", "FR", "FC", "LFE", "BL", "BR"),
    7: ("FL", "FR", "FC", "LFE", "BC", "SL", "SR"),
    8: ("FL", "FR", "FC", "LFE", "BL", "BR", "SL", "SR"),
}  # number of channels -> their order in WAV and FLAC

Block = np.ndarray  # [time, channels], float32
Read = tuple[Block, int, tuple[str, ...]]  # a block, its sample rate in Hz, the names of its channels (() if unknown)
Reader = Callable[[Path], Generator[Read]]


class Skipped(Exception):
    """A file cannot be used. The text says why; its part before the first colon is what `Imported.counts` counts by."""


def resampled_blocks(file: Path) -> Iterator[Sound]:
    """The file as 48 kHz stereo [2, time], float32, block by block; channels as in `stereo`.

    Raises `Skipped` where it cannot be read to its end. soxr resamples, not torchaudio, because it takes a stream, and
    because torchaudio's table of sines needs gigabytes for two rates without a common divisor.
    """
    try:
        if not file.stat().st_size:
            raise Skipped("empty")
        with closing(blocks_of(file)) as read:
            yield from resampled(read)
    except UNREADABLE as error:
        raise Skipped(DAMAGED) from error
    except OSError as error:
        raise Skipped(f"{UNREAD}{error.strerror}") from error


def blocks_of(file: Path) -> Generator[Read]:
    """The blocks of the first reader that gives any. Raises what the last reader raises."""
    *others, last = readers(file)
    for reader in others:
        blocks = reader(file)
        try:
            first = next(blocks, None)
        except (*UNREADABLE, Skipped):
            continue
        if first is not None:
            yield from chain([first], blocks)
            return
    yield from last(file)


def readers(file: Path) -> list[Reader]:
    """Which readers to try, in order."""
    with file.open("rb") as opened:
        begin = opened.read(4)
    if begin not in KNOWN:  # libsndfile would try it as MP3, and its mpg123 writes to stderr without naming the file
        return [ffmpeg]
    try:
        with soundfile.SoundFile(os.fsencode(file)) as sound:  # type: ignore[arg-type]  # bytes: any encoding
            doubtful = sound.format in MISJUDGED or not 0 < sound.frames < UNKNOWN or sound.channels > 2
    except UNREADABLE:
        return [ffmpeg]
    return [ffmpeg, libsndfile] if doubtful else [libsndfile]


def resampled(blocks: Iterator[Read]) -> Iterator[Sound]:
    """Blocks of one sample rate to 48 kHz stereo [2, time].

    Raises `Skipped` for a sample rate outside of `RATES`, or for numbers that are not finite.
    """
    resampler = None
    frames = 0
    for block, rate, channels in blocks:
        if not RATES[0] <= rate <= RATES[1]:
            raise Skipped(f"the header is damaged: a sample rate of {rate} Hz")
        if not np.isfinite(block).all():
            raise Skipped(f"holds numbers that are not finite: after {frames / rate:.0f} s")
        resampler = resampler or soxr.ResampleStream(rate, SAMPLE_RATE, 2, "float32")
        yield resampler.resample_chunk(stereo(block, channels)).T
        frames += len(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros((0, 2), np.float32), last=True).T


def libsndfile(file: Path) -> Generator[Read]:
    """The blocks of a file by libsndfile, which does not name channels: their order is taken to be that of `USUAL`."""
    with soundfile.SoundFile(os.fsencode(file)) as sound:  # type: ignore[arg-type]
        while len(block := sound.read(max(1, BLOCK // sound.channels), dtype="float32", always_2d=True)):
            yield block, sound.samplerate, ()


def ffmpeg(file: Path) -> Generator[Read]:
    """The blocks of a file's first audio stream by FFmpeg, which may open no other file, whatever this one refers to.

    Raises `Skipped` where there is no audio stream, ValueError or OSError where it cannot be decoded.
    """
    import av

    try:
        with file.open("rb") as opened, av.open(opened, "r", options={"protocol_whitelist": "none"}) as container:
            if not container.streams.audio:
                raise Skipped("no sound in it")
            as_float = av.AudioResampler(format="fltp")  # changes the number format only, not the rate
            empty = True
            for frame in container.decode(container.streams.audio[0]):
                for part in as_float.resample(frame):
                    empty = False
                    names = tuple(channel.name for channel in part.layout.channels)
                    yield part.to_ndarray().T, part.sample_rate, names
            if empty:
                raise ValueError("not one frame of sound")
    except av.FFmpegError as error:  # many of them are neither OSError nor ValueError
        raise error if isinstance(error, OSError) else ValueError(str(error)) from error


def stereo(block: Block, channels: tuple[str, ...]) -> np.ndarray:
    """[time, channels] -> [time, 2]: one channel twice, two as they are, more mixed down as in ITU-R BS.775."""
    count = block.shape[1]
    if count <= 2:
        return np.ascontiguousarray(block[:, [0, count - 1]])
    return np.ascontiguousarray(block @ mix(count, channels))


def mix(count: int, channels: tuple[str, ...]) -> np.ndarray:
    """Weights [count, 2] of each channel in left and right.

    Front left and right have weight 1; side and rear channels are at -3 dB on their side; channels of the middle, and
    all of an unknown layout, at -3 dB on both sides; low-frequency effects are left out.
    """
    known = len(channels) == count and "NONE" not in channels
    names = channels if known else USUAL.get(count, ())
    weights = np.full((count, 2), HALF, np.float32)
    for i, name in enumerate(names):
        level = 1.0 if name in ("FL", "FR") else HALF
        if name in SILENT:
            weights[i] = 0.0
        elif name in LEFT:
            weights[i] = level, 0.0
        elif name in RIGHT:
            weights[i] = 0.0, level
    return weights
