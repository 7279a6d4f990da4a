"""Arrange a tune: form, harmony, layers, MIDI. One seeded generator draws everything; all of it is ours.

The form is the one that Figure 6 measures: an intro (layers enter, the level rises), a body, and an ending (layers
leave, the level falls).
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pretty_midi

from mousai.data.styles import CRASH, KICK, STYLES, TOM, Style
from mousai.data.tunes import Bar, Tune

Item = TypeVar("Item")
Event = tuple[float, float, int, int]  # start and length in beats from the piece's beginning, MIDI pitch, velocity
HIT = {"o": 50, "x": 88, "X": 112}  # sign in a drum pattern -> MIDI velocity
KEYS = ("C", "D flat", "D", "E flat", "E", "F", "F sharp", "G", "A flat", "A", "B flat", "B")


@dataclass(frozen=True)
class Form:
    """How the piece is built: bars in all, in the intro and in the ending; layer -> (first bar, bar after its last)."""

    bars: int
    intro: int
    ending: int
    spans: dict[str, tuple[int, int]]

    def level(self, bar: int) -> float:
        """Level of a bar: 0 at both ends of the piece, 1 in the body, linear between."""
        return float(np.clip(min(bar / self.intro, (self.bars - bar) / self.ending), 0.0, 1.0))


@dataclass(frozen=True)
class Arrangement:
    """MIDI bytes, and what `mousai.data.sound` and the record need to know about them."""

    midi: bytes
    tempo: float  # beats a minute
    key: str
    form: Form
    floor_db: tuple[float, float]  # gain in dB at the very beginning and at the very end


def draw(rng: np.random.Generator, pool: Sequence[Item]) -> Item:
    """One item of a pool, each as likely as any other."""
    return pool[int(rng.integers(len(pool)))]


def make_form(style: Style, seconds: float, rng: np.random.Generator) -> tuple[Form, float]:
    """(form, tempo in beats a minute): a whole number of bars of four beats that fills `seconds` exactly."""
    bars = max(4, round(seconds * rng.uniform(*style.tempo) / 240))
    intro, ending = max(1, round(bars * rng.uniform(0.2, 0.3))), max(1, round(bars * rng.uniform(0.16, 0.24)))
    layers = [name for name, chance in style.layer_chances.items() if rng.random() < chance]
    if not {"lead", "chords", "arp"} & set(layers):
        layers.append("lead")
    spans = {}
    for way in ("enter", "leave"):
        # Drums and bass enter late and leave early more often than the rest, so that the rhythm builds up.
        late = {name: rng.random() + (0.5 if name in ("drums", "bass") else 0.0) for name in layers}
        for rank, name in enumerate(sorted(layers, key=late.__getitem__)):
            share = rank / len(layers)
            bar = round(intro * share) if way == "enter" else bars - round(ending * share * 0.8)
            spans[name] = (bar,) if way == "enter" else (spans[name][0], bar)
    return Form(bars, intro, ending, spans), bars * 240 / seconds


def chord_of(bar: Bar, tune: Tune) -> tuple[int, bool]:
    """(root pitch class, whether it is minor) of the triad of the key that covers most of a bar's notes."""
    weight = np.zeros(12)
    for start, length, pitch in bar:
        weight[pitch % 12] += length * (1.5 if start % 2 == 0 else 1.0)
    scale = tune.sharps * 7 % 12  # the major key with this signature
    best = (-1.0, 0, False)
    for degree, minor in ((0, False), (5, False), (7, False), (9, True), (2, True), (4, True)):
        root = (scale + degree) % 12
        score = weight[[root, (root + (3 if minor else 4)) % 12, (root + 7) % 12]].sum() + 0.4 * weight[root]
        score += 0.6 if root == tune.tonic else 0.0
        best = max(best, (float(score), root, minor))
    return best[1], best[2]


class Writer:
    """Writes the notes of one piece, one method a layer; everything is drawn from `rng`."""

    def __init__(self, tune: Tune, style: Style, form: Form, rng: np.random.Generator):
        self.style, self.form, self.rng = style, form, rng
        self.shift = int(rng.integers(-6, 6))
        self.swing = 2 / 3 if tune.triple else rng.uniform(*style.swing)
        self.pair = 1.0 if tune.triple else 0.5  # length in beats of the pair that swing divides
        offset = 0 if rng.random() < 0.7 else len(tune.bars) // 2  # some pieces begin with the second part
        self.bars = [tune.bars[(i + offset) % len(tune.bars)] for i in range(form.bars)]
        self.harmony = [chord_of(bar, tune) for bar in self.bars]
        self.harmony[-1] = (tune.tonic, tune.minor)

    def playing(self, layer: str) -> range:
        """Bars in which a layer plays; none where the piece does not have it."""
        first, last = self.form.spans.get(layer, (0, 0))
        return range(first, last)

    def at(self, bar: int, step: int) -> float:
        """Where sixteenth `step` of a bar falls, with swing, in beats from the piece's beginning."""
        beat = step / 4
        inside = beat % self.pair / self.pair
        warped = inside * 2 * self.swing if inside < 0.5 else self.swing + (inside - 0.5) * 2 * (1 - self.swing)
        return 4 * bar + beat - beat % self.pair + warped * self.pair

    def velocity(self, bar: int, base: int) -> int:
        """MIDI velocity near `base`: lower towards both ends of the piece, with random variation."""
        return int(np.clip(base * (0.65 + 0.35 * self.form.level(bar)) + self.rng.normal(0, 5), 20, 127))

    def drums(self) -> list[Event]:
        """Kick, snare and hat patterns, drawn separately; a fill in the last beat of every fourth or eighth bar."""
        rng, style = self.rng, self.style
        voices = (
            (KICK, draw(rng, style.kicks), 1.0),
            (draw(rng, style.snare_notes), draw(rng, style.snares), 1.0),
            (draw(rng, style.hat_notes), draw(rng, style.hats), rng.uniform(0.7, 1.1)),
        )
        phrase = draw(rng, (4, 8))
        events = []
        for bar in self.playing("drums"):
            fill = bar % phrase == phrase - 1
            for note, pattern, gain in voices:
                for step, sign in enumerate(pattern[: 12 if fill else 16]):
                    if sign in HIT:
                        events.append((self.at(bar, step), 0.2, note, self.velocity(bar, int(HIT[sign] * gain))))
            if fill:
                for step in range(12, 16):
                    note = TOM + int(rng.integers(0, 5))
                    events.append((self.at(bar, step), 0.2, note, self.velocity(bar, 85 + 5 * (step - 12))))
            if bar % phrase == 0 and self.form.level(bar) >= 1:
                events.append((4.0 * bar, 1.0, CRASH, self.velocity(bar, 90)))
        return events

    def bass(self) -> list[Event]:
        """A one-bar line over the chord's root, which lies between the low E (28) and the D sharp above (39)."""
        line, gate = draw(self.rng, self.style.bass_lines), self.rng.uniform(0.5, 1.0)
        steps = [step for step, sign in enumerate(line) if sign != "."]
        events = []
        for bar in self.playing("bass"):
            root = 28 + (self.harmony[bar][0] + self.shift - 28) % 12
            for step, after in zip(steps, [*steps[1:], 16], strict=True):
                pitch = root + {"r": 0, "5": 7, "8": 12}[line[step]]
                start = self.at(bar, step)
                events.append((start, (self.at(bar, after) - start) * gate, pitch, self.velocity(bar, 95)))
        return events

    def voicing(self, bar: int, low: int) -> list[int]:
        """MIDI pitches of the bar's root, third and fifth within the octave above `low`, ascending."""
        root, minor = self.harmony[bar]
        return sorted(low + (root + self.shift + step - low) % 12 for step in (0, 3 if minor else 4, 7))

    def chords(self, power: bool) -> list[Event]:
        """Struck chords; power chords are root, fifth and octave in the guitar's low register."""
        line, gate = draw(self.rng, self.style.chord_hits), self.rng.uniform(0.4, 1.0)
        steps = [step for step, sign in enumerate(line) if sign == "x"]
        low = 38 if power else int(self.rng.integers(50, 60))
        events = []
        for bar in self.playing("chords"):
            root = low + (self.harmony[bar][0] + self.shift - low) % 12
            pitches = [root, root + 7, root + 12] if power else self.voicing(bar, low)
            for step, after in zip(steps, [*steps[1:], 16], strict=True):
                start = self.at(bar, step)
                length, velocity = (self.at(bar, after) - start) * gate, self.velocity(bar, 88)
                events += [(start, length, pitch, velocity) for pitch in pitches]
        return events

    def pad(self) -> list[Event]:
        """One held chord a bar."""
        low = int(self.rng.integers(48, 62))
        return [
            (4.0 * bar, 4.0, pitch, self.velocity(bar, 75))
            for bar in self.playing("pad")
            for pitch in self.voicing(bar, low)
        ]

    def arp(self) -> list[Event]:
        """An arpeggio: the chord's notes one after another, in one figure of eight notes."""
        low, every = int(self.rng.integers(52, 70)), draw(self.rng, (1, 2, 2, 3))
        figure = [int(i) for i in self.rng.integers(0, 4, 8)]
        events = []
        for bar in self.playing("arp"):
            notes = self.voicing(bar, low)
            notes.append(notes[0] + 12)
            for i, step in enumerate(range(0, 16, every)):
                length = every / 4 * 0.9
                events.append((self.at(bar, step), length, notes[figure[i % 8]], self.velocity(bar, 80)))
        return events

    def lead(self) -> list[Event]:
        """The tune itself. Every note on the beat is played, of those off the beat a drawn share.

        Where that share is small, a note is held until the next one, for two beats at most.
        """
        share = self.rng.uniform(*self.style.melody)
        mean = np.mean([pitch for bar in self.bars for _, _, pitch in bar])
        shift = self.shift + 12 * round((self.rng.uniform(64, 77) - mean - self.shift) / 12)
        events: list[Event] = []
        for bar in self.playing("lead"):
            for start, length, pitch in self.bars[bar]:
                if start % 1 == 0 or self.rng.random() < share:
                    place = 4 * bar + start
                    if events and share < 0.6:
                        last = events[-1]
                        events[-1] = (last[0], min(place - last[0], 2.0), last[2], last[3])
                    events.append((place, length * 0.95, pitch + shift, self.velocity(bar, 95)))
        return events


def arrange(tune: Tune, genre: str, seconds: float, rng: np.random.Generator) -> Arrangement:
    """One piece of exactly `seconds`, in one of `GENRES`. The same generator gives the same piece."""
    style = STYLES[genre]
    form, tempo = make_form(style, seconds, rng)
    writer = Writer(tune, style, form, rng)
    power = rng.random() < style.power_chords
    parts = {"drums": writer.drums(), "bass": writer.bass(), "chords": writer.chords(power), "pad": writer.pad()}
    parts |= {"arp": writer.arp(), "lead": writer.lead()}
    midi = pretty_midi.PrettyMIDI(initial_tempo=tempo)
    for name, events in parts.items():
        _add(midi, name, events, style, tempo, power, rng)
    _last_chord(midi, writer, tempo)
    key = f"{KEYS[(tune.tonic + writer.shift) % 12]} {'minor' if tune.minor else 'major'}"
    buffer = io.BytesIO()
    midi.write(buffer)
    floor = (float(rng.uniform(-11, -5)), float(rng.uniform(-9, -4)))
    return Arrangement(buffer.getvalue(), tempo, key, form, floor)


def _add(
    midi, name: str, events: list[Event], style: Style, tempo: float, power: bool, rng: np.random.Generator
) -> None:
    """Add a layer to `midi` as an instrument with its own volume, pan, reverb and chorus; power chords as two guitars,
    left and right.
    """
    pools = {"drums": style.kits, "bass": style.basses, "chords": style.chords, "pad": style.pads}
    program = draw(rng, (pools | {"arp": style.arps, "lead": style.leads})[name])
    volume = rng.uniform(*style.volumes[name])
    pan = 0.0 if name in ("drums", "bass") else rng.uniform(-0.7, 0.7)
    sides = (-0.85, 0.85) if name == "chords" and power else (pan,)
    for side in sides:
        part = pretty_midi.Instrument(program, is_drum=name == "drums", name=name)
        settings = ((7, 127 * volume), (10, 64 + 63 * side), (91, rng.uniform(10, 90)), (93, rng.uniform(0, 50)))
        part.control_changes = [pretty_midi.ControlChange(number, int(value), 0.0) for number, value in settings]
        late = rng.normal(0, 0.006, len(events)) if side == 0.85 else np.zeros(len(events))
        for (start, length, pitch, velocity), delay in zip(events, late, strict=True):
            begin = max(0.0, start * 60 / tempo + delay)
            part.notes.append(pretty_midi.Note(velocity, pitch, begin, begin + max(0.05, length * 60 / tempo)))
        midi.instruments.append(part)


def _last_chord(midi, writer: Writer, tempo: float) -> None:
    """Add the tonic chord, held for nearly the whole last bar, to every instrument that plays chords."""
    begin = (writer.form.bars - 1) * 240 / tempo
    for part in midi.instruments:
        if part.name in ("chords", "pad", "arp") and part.notes:
            for pitch in writer.voicing(writer.form.bars - 1, 50):
                part.notes.append(pretty_midi.Note(60, pitch, begin, begin + 220 / tempo))
