"""Render an arrangement: midirenderer plays the MIDI on pretty_midi's sound font; then fader, level, limiter, file."""

import io
from functools import cache
from pathlib import Path

import midirenderer
import numpy as np
import pretty_midi
import soundfile

from mousai.data.arranger import Arrangement
from mousai.data.records import Sound
from mousai.files import atomic_write, sha256

SAMPLE_RATE = 48_000
KNEE, PEAK = 0.6, 0.97  # the limiter leaves samples below the knee as they are; none exceeds the peak


@cache
def sound_font() -> bytes:
    """The bytes of TimGM6mb.sf2 from pretty_midi's package. Raises FileNotFoundError where this copy lacks it."""
    path = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no sound font: pip install --force-reinstall pretty_midi")
    return path.read_bytes()


def render(arrangement: Arrangement, samples: int, rms: float) -> Sound:
    """The piece as 48 kHz stereo, float32 [2, samples].

    Each piece is scaled to the same `rms` over its whole length, because raw peaks lie between 0.14 and 0.8. A limiter
    then bends samples above 0.6. Differences of level within a piece are kept.
    """
    wave_file = midirenderer.render_wave_from(sound_font(), arrangement.midi)
    played = soundfile.read(io.BytesIO(wave_file), samples, dtype="float32", always_2d=True)[0].T
    wave = np.zeros((2, samples), np.float32)
    wave[:, : played.shape[1]] = played
    wave *= fader(arrangement, samples)
    wave *= np.float32(rms / np.sqrt(np.vdot(wave, wave) / wave.size + 1e-12))
    return limit(wave)


def limit(wave: Sound) -> Sound:
    """Compress samples beyond the knee smoothly to below the peak, in place; return `wave`."""
    high = np.abs(wave) > KNEE
    room = PEAK - KNEE
    wave[high] = np.sign(wave[high]) * (KNEE + room * np.tanh((np.abs(wave[high]) - KNEE) / room))
    return wave


def fader(arrangement: Arrangement, samples: int) -> np.ndarray:
    """Gain over time [samples]: it rises through the intro, falls through the ending, and fades to 0 at the end.

    The gains at both ends are the arrangement's `floor_db`; the last fade takes a second, or an eighth of the piece.
    """
    form, (first, last) = arrangement.form, arrangement.floor_db
    bar = samples / form.bars
    knots = np.array([0.0, form.intro * bar, samples - form.ending * bar, samples])
    places = np.arange(0, samples + 480, 480)  # every 10 ms is fine enough for a slow change
    slow = 10 ** (np.interp(places, knots, [first, 0.0, 0.0, last]) / 20)
    out = min(SAMPLE_RATE, samples // 8)
    slow *= np.clip((samples - places) / out, 0.0, 1.0) ** 2  # so that the piece ends without a click
    return np.interp(np.arange(samples), places, slow).astype(np.float32)


def write_flac(wave: Sound, path: Path) -> str:
    """Write 16-bit FLAC, complete or not at all; return the file's sha256. The same wave gives the same bytes."""
    with atomic_write(path) as temporary:
        soundfile.write(temporary, wave.T, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return sha256(path)
