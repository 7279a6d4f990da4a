"""Decode any sound file to 48 kHz stereo, block by block.

libsndfile reads what it knows well. FFmpeg (PyAV) reads what libsndfile refuses or is known to misjudge: MP3 and Ogg,
files whose header gives no length, and files of more than two channels. The content decides, not the file's name.
Where one of the two fails, the other goes on from there.
"""

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mousai.data.records import Sound
from mousai.data.sound import SAMPLE_RATE

RATES = (4_000, 768_000)  # Hz; a header that says another is damaged
BLOCK = 2**21  # numbers read at once
UNKNOWN = 2**62  # frames; where a header does not say its length, libsndfile reports this many or more
UNWRITTEN = 2**31 - 2**16  # bytes; programs that write WAV to a pipe give this length or more, whatever it is
OGG_PAGE = 2**16  # bytes; the largest page of Ogg
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
    """The blocks of the first reader; where it fails, the last goes on from there. Raises what the last one raises."""
    *others, last = readers(file)
    frames = 0
    for reader in others:
        try:
            for read in reader(file):
                yield read
                frames += len(read[0])
            if frames:
                return
        except (*UNREADABLE, Skipped):
            continue
    for block, rate, channels in last(file):
        if len(block) > frames:
            yield block[frames:], rate, channels
        frames = max(0, frames - len(block))


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
    return [ffmpeg, libsndfile] if doubtful else [libsndfile, ffmpeg]


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

    A FLAC may end within a frame, because its header gives the length that is missing (`early_end`). Raises `Skipped`
    where there is no audio stream, ValueError or OSError where it cannot be decoded.
    """
    import av
    from av.error import InvalidDataError

    try:
        with file.open("rb") as opened, av.open(opened, "r", options={"protocol_whitelist": "none"}) as container:
            if not container.streams.audio:
                raise Skipped("no sound in it")
            stream = container.streams.audio[0]
            is_flac = stream.codec_context.name == "flac"
            if is_flac:  # else a damaged frame would be decoded as noise
                stream.codec_context.options = {"err_detect": "crccheck+explode"}
            # It changes the number format only, not the rate; PyAV crashes on more than 8 channels as separate planes.
            as_float = av.AudioResampler(format="flt")
            empty, failed = True, None
            for packet in container.demux(stream):
                if failed and packet.size:
                    raise failed
                try:
                    frames = packet.decode()
                except InvalidDataError as error:
                    if not is_flac:
                        raise
                    failed, frames = error, []
                for part in (part for frame in frames for part in as_float.resample(frame)):
                    empty = False
                    names = tuple(channel.name for channel in part.layout.channels)
                    yield part.to_ndarray().reshape(-1, len(names)), part.sample_rate, names
            if empty:
                raise ValueError("not one frame of sound")
    except av.FFmpegError as error:  # many of them are neither OSError nor ValueError
        raise error if isinstance(error, OSError) else ValueError(str(error)) from error


def early_end(file: Path, seconds: float) -> str:
    """A note on a file that gave `seconds` of sound, less than its header says, or an Ogg file without its last page;
    else "". Lengths that are only estimated, or that a pipe could not write, do not count.
    """
    import mutagen
    from mutagen.aac import AACInfo
    from mutagen.mp3 import BitrateMode

    try:
        with file.open("rb") as opened:
            begin = opened.read(4)
            if begin == b"OggS":
                opened.seek(max(0, file.stat().st_size - 2 * OGG_PAGE))
                tail = opened.read()
                last = tail[tail.rfind(b"OggS") :]
                return "" if len(last) > 5 and last[5] & 4 else "ends early: its last page is missing"
            opened.seek(0)
            info = mutagen.File(opened).info  # type: ignore[reportPrivateImportUsage, reportOptionalMemberAccess]
            size = info.length * getattr(info, "bitrate", 0) / 8  # bytes
    except Exception:  # parsers of untrusted files raise nearly anything
        return ""
    estimated = isinstance(info, AACInfo) or getattr(info, "bitrate_mode", None) == BitrateMode.UNKNOWN
    slack = 0.02 if begin in KNOWN else 0.3  # seconds; lossy codecs count what they add at the ends, each its own way
    if estimated or size > UNWRITTEN or seconds > info.length - slack:
        return ""
    return f"ends early: {seconds:.1f} s are there of {info.length:.1f} s"


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
