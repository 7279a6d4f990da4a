"""An arrangement becomes sound: midirenderer plays the MIDI on pretty_midi's sound font; then fader, level, file."""

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
KNEE, PEAK = 0.6, 0.97  # the limiter leaves what is below the knee as it is, and nothing passes the peak


@cache
def sound_font() -> bytes:
    """TimGM6mb.sf2 from pretty_midi's package. Raises FileNotFoundError if this copy comes without it."""
    path = Path(pretty_midi.__file__).parent / "TimGM6mb.sf2"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no sound font: pip install --force-reinstall pretty_midi")
    return path.read_bytes()


def render(arrangement: Arrangement, samples: int, rms: float) -> Sound:
    """Exactly `samples` of 48 kHz stereo, float32 [2, samples].

    Each piece is brought to the same `rms` over its whole length, because raw peaks lie between 0.14 and 0.8; a limiter
    then rounds off drum hits above 0.6. Loud and soft within a piece stay as they are.
    """
    wave_file = midirenderer.render_wave_from(sound_font(), arrangement.midi)
    played = soundfile.read(io.BytesIO(wave_file), samples, dtype="float32", always_2d=True)[0].T
    wave = np.zeros((2, samples), np.float32)
    wave[:, : played.shape[1]] = played
    wave *= fader(arrangement, samples)
    wave *= np.float32(rms / np.sqrt(np.vdot(wave, wave) / wave.size + 1e-12))
    return limit(wave)


def limit(wave: Sound) -> Sound:
    """Samples beyond the knee are bent towards the peak, smoothly; the rest is untouched. Changes `wave` in place."""
    high = np.abs(wave) > KNEE
    room = PEAK - KNEE
    wave[high] = np.sign(wave[high]) * (KNEE + room * np.tanh((np.abs(wave[high]) - KNEE) / room))
    return wave


def fader(arrangement: Arrangement, samples: int) -> np.ndarray:
    """The mixing desk's hand: gain over time [samples], up through the intro, down through the ending, then out."""
    form, (first, last) = arrangement.form, arrangement.floor_db
    bar = samples / form.bars
    knots = np.array([0.0, form.intro * bar, samples - form.ending * bar, samples])
    places = np.arange(0, samples + 480, 480)  # every 10 ms is enough for a hand
    slow = 10 ** (np.interp(places, knots, [first, 0.0, 0.0, last]) / 20)
    out = min(SAMPLE_RATE, samples // 8)
    slow *= np.clip((samples - places) / out, 0.0, 1.0) ** 2  # the very end falls silent without a click
    return np.interp(np.arange(samples), places, slow).astype(np.float32)


def write_flac(wave: Sound, path: Path) -> str:
    """Write 16-bit FLAC, aside and renamed. Returns the file's sha256; the same wave gives the same bytes."""
    with atomic_write(path) as temporary:
        soundfile.write(temporary, wave.T, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return sha256(path)
