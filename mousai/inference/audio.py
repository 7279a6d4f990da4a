"""Sound files: many formats are read, as 48 kHz stereo; WAV, FLAC and OGG are written, at a loudness if asked."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mousai.files import atomic_write
from mousai.inference.checks import number, shown, whole

if TYPE_CHECKING:  # imported only where needed, so that this file needs nothing of the model
    from mousai.inference.metadata import GenerationMetadata

SAMPLE_RATE = 48_000
MAX_SECONDS = 3600
MAX_RATE = 192_000  # of a file; every format takes it
FORMATS = {".wav": ("WAV", "PCM_24"), ".flac": ("FLAC", "PCM_24"), ".ogg": ("OGG", "VORBIS")}
BLOCK = 2**20  # samples processed at once
BLOCK_SECONDS = 0.4  # of a block whose loudness is measured (BS.1770-4)
LOUDNESS_HOP = 0.1  # seconds between two of them
LOUDNESS_PIECE = 600  # blocks measured at once, a minute
WARM_UP = 10  # blocks measured before each piece and dropped, until the weighting filters have settled

Stereo = Float[Tensor, "2 _"]


def sample_count(seconds: Any, sample_rate: int = SAMPLE_RATE) -> int:
    """round(seconds * sample_rate). Raises ValueError unless 0 < seconds <= 3600 and that is at least 1."""
    mend = f"choose more than 0 and at most {MAX_SECONDS}"
    samples = round(number("seconds", seconds, 0, MAX_SECONDS, mend) * sample_rate)
    if samples < 1:
        raise ValueError(f"seconds is {seconds}: {mend}")
    return samples


def as_stereo(w: Any) -> Stereo:
    """A tensor or array in float32: mono [time] or [1, time] becomes two equal channels, stereo [2, time] stays so.

    Raises ValueError for anything else, and for integers, whose full scale is unknown.
    """
    if not isinstance(w, Tensor | np.ndarray):
        raise ValueError(f"audio is {shown(w)}: pass a tensor or an array, [2, time] or mono")
    w = torch.as_tensor(w)
    if not w.is_floating_point():
        raise ValueError(f"audio holds {w.dtype}: pass floating point, full scale is 1")
    if w.ndim == 3:
        raise ValueError(f"audio has shape {[*w.shape]}, a batch: pass one item of it, [2, time], such as w[0]")
    if w.ndim not in (1, 2) or (w.ndim == 2 and len(w) not in (1, 2)):
        raise ValueError(f"audio has shape {[*w.shape]}: pass mono, [time], or stereo, [2, time]")
    w = w.float()
    return w.expand(2, -1) if w.ndim == 1 or len(w) == 1 else w


def read_audio(path: Path) -> Stereo:
    """A sound file of any kind that `mousai data import` takes, resampled to 48 kHz stereo: float32 [2, samples].

    The samples are in a temporary file, not in memory. Raises ValueError where the file cannot be read or has no sound.
    """
    from mousai.data.decoded import Skipped, resampled_blocks

    try:
        w = on_disk(torch.from_numpy(block) for block in resampled_blocks(Path(path)))
    except Skipped as reason:
        raise ValueError(f"{path}: {reason}: choose another file") from None
    if not w.shape[-1]:
        raise ValueError(f"{path}: no sound in it: choose another file")
    return w


def on_disk(parts: Iterable[Stereo]) -> Stereo:
    """The parts concatenated, float32 [2, samples], mapped from a temporary file that exists as long as the tensor."""
    with tempfile.TemporaryFile() as file:
        for part in parts:
            file.write(np.ascontiguousarray(part.detach().cpu().float().numpy().T).tobytes())
        file.flush()
        samples = os.fstat(file.fileno()).st_size // 8
        if not samples:
            return torch.zeros(2, 0)
        return torch.from_numpy(np.memmap(file, np.float32, "c", shape=(samples, 2))).T


def write_audio(
    w: Tensor | np.ndarray | Iterable[Tensor],
    path: str | Path,
    sample_rate: int = SAMPLE_RATE,
    metadata: "GenerationMetadata | None" = None,
    loudness: float | None = None,
) -> int:
    """Write WAV, FLAC (24 bit) or OGG by the file's ending, whole or not at all; return how many samples were clipped.

    `w`: [2, time], mono, or its parts from left to right, which are written as they come. Samples outside [-1, 1] are
    clipped, because these formats cannot hold them. `metadata` goes into the tags. `loudness`, in LUFS, is reached with
    one gain for the whole sound (ITU-R BS.1770-4, by pyloudnorm); all parts are then collected before any is written.

    Raises ValueError for another ending, a batch, no sound, a sample that is not finite, too little sound for a
    loudness, a loudness outside [-70, 0], or a sample rate that is no whole number.
    """
    import soundfile

    path = Path(path)
    ending = path.suffix.lower()
    if ending not in FORMATS:
        raise ValueError(f"{path.name}: cannot write {ending or 'a file without ending'}, use {', '.join(FORMATS)}")
    sample_rate = whole("sample_rate", sample_rate, 1, MAX_RATE)
    parts = checked([w] if isinstance(w, Tensor | np.ndarray) or not isinstance(w, Iterable) else w, path)
    if loudness is not None:
        loudness = number("loudness", loudness, -70, 0, "choose a number of LUFS from -70 to 0")
        parts = normalized(on_disk(parts), loudness, sample_rate)
    container, subtype = FORMATS[ending]
    clipped = samples = 0
    with atomic_write(path) as temporary:
        with soundfile.SoundFile(temporary, "w", sample_rate, 2, subtype, format=container) as file:
            for part in parts:
                clipped += int((part.abs() > 1).sum())
                samples += part.shape[-1]
                for second in part.clamp(-1, 1).T.split(sample_rate):  # libvorbis can fail on more at once
                    file.write(second.numpy())
        if not samples:
            raise ValueError(f"{path.name}: there is no sound: nothing was written")
        if container == "OGG":
            fix_serial(temporary)
        if metadata is not None:
            from mousai.inference.metadata import write_metadata

            write_metadata(metadata, temporary, ending)
    return clipped


def fix_serial(path: Path) -> None:
    """Set the Ogg stream's serial number to 0; libsndfile draws it at random, so equal sounds would differ in bytes."""
    from mutagen.ogg import OggPage

    size = path.stat().st_size
    with path.open("r+b") as file:
        while (start := file.tell()) < size:
            page = OggPage(file)
            page.serial = 0
            file.seek(start)
            file.write(page.write())  # with its checksum


def checked(parts: Iterable, path: Path) -> Iterator[Stereo]:
    """The parts as stereo on the CPU. Raises ValueError where a sample is not finite."""
    for part in parts:
        w = as_stereo(part).detach().cpu()
        if not w.isfinite().all():
            raise ValueError(f"{path.name}: the sound holds samples that are not finite (NaN): nothing was written")
        yield w


def normalized(w: Stereo, loudness: float, sample_rate: int) -> Iterator[Stereo]:
    """Blocks of w times the one gain that brings its integrated loudness to `loudness` LUFS; silence stays silence."""
    present = integrated_loudness(w, sample_rate)
    gain = 10 ** ((loudness - present) / 20) if np.isfinite(present) else 1.0
    for block in w.split(BLOCK, dim=-1):
        yield gain * block


def integrated_loudness(w: Stereo, sample_rate: int = SAMPLE_RATE) -> float:
    """Integrated loudness in LUFS (ITU-R BS.1770-4), with a minute of w in memory at a time; -inf for silence.

    pyloudnorm weights the frequencies and measures blocks; the two gates, which need all blocks, are applied here.
    Raises ValueError for less than a block, 0.4 s.
    """
    from pyloudnorm import Meter

    check_measurable(w.shape[-1], sample_rate)
    meter = Meter(sample_rate)
    hop, width = round(LOUDNESS_HOP * sample_rate), round(BLOCK_SECONDS * sample_rate)
    count = (w.shape[-1] - width) // hop + 1
    levels = []
    for first in range(0, count, LOUDNESS_PIECE):
        lead = min(first, WARM_UP)
        last = min(first + LOUDNESS_PIECE, count) - 1
        piece = w[:, hop * (first - lead) : hop * last + width].T.double().numpy()
        meter.integrated_loudness(piece)
        levels += meter.blockwise_loudness[lead:]
    blocks = np.array(levels)
    loud = blocks[blocks >= -70]
    if not len(loud):
        return -np.inf
    return mean_level(loud[loud > mean_level(loud) - 10])


def check_measurable(samples: int, sample_rate: int = SAMPLE_RATE) -> None:
    """Raise ValueError for less sound than a loudness can be measured of: a block, 0.4 s."""
    if samples < round(BLOCK_SECONDS * sample_rate):
        raise ValueError(
            f"{samples / sample_rate:g} s are too short for a loudness: it takes {BLOCK_SECONDS} s at least"
        )


def mean_level(levels: np.ndarray) -> float:
    """The mean of powers; powers and mean are in dB."""
    return 10 * np.log10(np.mean(10 ** (levels / 10)))
