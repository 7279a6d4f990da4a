"""Tunes from music21's corpus: old dance music, out of copyright, with title, collection and key.

Three collections in ABC notation are used: Ryan's Mammoth Collection, O'Neill's Music of Ireland, Aird's Airs. Essen
("non-commercial") and Palestrina (rights reserved) are left out because of their licences. The choice is ours, because
Text2Music, the paper's data, was never published.
"""

import re
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

Note = tuple[float, float, int]  # start and length in beats from the bar's beginning, MIDI pitch
Bar = tuple[Note, ...]

# Metre -> (notated bars in one of our bars of four beats, beats in a quarter note). Other metres don't fit our grooves.
METRES = {
    "C": (1, 1.0),
    "C|": (1, 1.0),
    "4/4": (1, 1.0),
    "2/2": (1, 1.0),
    "2/4": (1, 2.0),
    "6/8": (2, 2 / 3),
    "12/8": (1, 2 / 3),
}
LICENCE = "tune in the public domain; encoding distributed with music21 by permission of its encoder"
NOT_COMPOSERS = {"irish", "scotch", "scots", "english", "west india", "virginian", "french", "german", "unknown"}


@dataclass(frozen=True)
class Collection:
    """A printed book of tunes, and its folder in music21's corpus."""

    folder: str
    album: str
    artist: str  # who compiled it, for tunes that name no composer
    year: int | None


COLLECTIONS = (
    Collection("ryansMammoth", "Ryan's Mammoth Collection", "William Bradbury Ryan", 1883),
    Collection("oneills1850", "O'Neill's Music of Ireland", "Francis O'Neill", 1903),
    Collection("airdsAirs", "Aird's Airs", "James Aird", None),  # only the first book's file names a year
)
AIRD_FIRST_BOOK = 1778


@dataclass(frozen=True)
class Header:
    """What is known about one tune before its notes are read."""

    title: str
    artist: str
    album: str
    year: int | None
    metre: str
    text: str  # the ABC notation
    source: str  # folder, file and tune number inside music21's corpus


@dataclass(frozen=True)
class Tune:
    """A melody in bars of four beats."""

    header: Header
    tonic: int  # pitch class, C = 0
    minor: bool
    sharps: int  # key signature, flats negative
    bars: tuple[Bar, ...]

    @property
    def triple(self) -> bool:
        """Whether its beats divide into three, as in jigs."""
        return self.header.metre in ("6/8", "12/8")


def corpus_folder() -> Path:
    """The folder of music21's corpus. Raises FileNotFoundError where this copy of music21 comes without it."""
    import music21

    folder = Path(music21.__file__).parent / "corpus"
    if not (folder / "ryansMammoth").is_dir():
        raise FileNotFoundError(f"{folder}: no corpus in this copy of music21: pip install --force-reinstall music21")
    return folder


def clean_title(title: str) -> str:
    """'KILKENNY JIG, THE' -> 'The Kilkenny Jig'; 'AMAZON -- HORNPIPE' -> 'Amazon Hornpipe'."""
    title = title.removeprefix("T:").replace("\\", "").strip()
    title = re.sub(r"\s*\(.*\)\s*|\s+-+\s+", " ", title)
    title = re.sub(r"\s+", " ", title).strip(" .,-:\"'")
    if title.isupper():
        title = string.capwords(title)
        title = re.sub(r"\b(O'|Mc)([a-z])", lambda m: m[1] + m[2].upper(), title)
    if match := re.fullmatch(r"(.+), (The|A|An)", title, re.IGNORECASE):
        title = f"{match[2].capitalize()} {match[1]}"
    return title[:1].upper() + title[1:]


def _field(text: str, letter: str) -> str:
    """The first non-empty ABC header field of that letter, without its comment, or ""."""
    for line in re.findall(rf"^{letter}:(.*)$", text, re.MULTILINE):
        if value := line.split("%")[0].strip():
            return value
    return ""


def _artist(text: str, collection: Collection) -> str:
    """The composer where the tune names a person, else who compiled the collection."""
    name = re.sub(r"\s+", " ", _field(text, "C").strip(" .?\"'"))
    if not re.fullmatch(r"(?!A |By |The )[A-Z][A-Za-z.' ]{4,28}", name) or name.lower().split(".")[0] in NOT_COMPOSERS:
        return collection.artist
    return string.capwords(name) if name.isupper() else name


def _headers(path: Path, collection: Collection) -> Iterator[Header]:
    """The header of every tune of one ABC file whose metre and title can be used."""
    for text in re.split(r"^(?=X:)", path.read_text(encoding="utf-8", errors="replace"), flags=re.MULTILINE):
        metre, title = _field(text, "M"), clean_title(_field(text, "T"))
        if not text.startswith("X:") or metre not in METRES or not re.fullmatch(r"[A-Z][A-Za-z0-9,.&' -]{2,47}", title):
            continue
        year = AIRD_FIRST_BOOK if path.name == "book1.abc" else collection.year
        source = f"music21 corpus, {collection.folder}/{path.name}, X:{_field(text, 'X')}"
        yield Header(title, _artist(text, collection), collection.album, year, metre, text, source)


@cache
def headers() -> tuple[Header, ...]:
    """Every usable tune, one for each title, because one tune from two books must not be in two splits."""
    found: dict[str, Header] = {}
    for collection in COLLECTIONS:
        for path in sorted((corpus_folder() / collection.folder).glob("*.abc")):
            for header in _headers(path, collection):
                found.setdefault(_same_tune(header.title), header)
    return tuple(found.values())


def _same_tune(title: str) -> str:
    """The title reduced so that its spellings agree: letters only, without articles and kinds of dance."""
    words = re.sub(r"[^a-z ]", "", title.lower()).split()
    drop = {"the", "a", "an", "reel", "jig", "hornpipe", "strathspey", "clog", "march", "air"}
    return "".join(word for word in words if word not in drop) or title.lower()


def read_tune(header: Header) -> Tune | None:
    """The tune with its notes, at most 32 bars of four beats.

    None where music21 can't read it, or where it has fewer than 8 bars or on average fewer than 4 notes a bar.
    """
    from music21 import converter

    try:
        score: Any = converter.parse(header.text, format="abc")
        part = score.parts[0]
        key = part.recurse().getElementsByClass("KeySignature")[0]
        measures = list(part.getElementsByClass("Measure"))
    except Exception:  # music21 raises many kinds of errors on unusual ABC; there are enough other tunes
        return None
    key = key.asKey() if not hasattr(key, "tonic") else key
    bars = _bars(measures, header.metre)
    if len(bars) < 8 or sum(map(len, bars)) < 4 * len(bars):
        return None
    above = (key.sharps * 7 - key.tonic.pitchClass) % 12  # semitones from the tonic to the major key of these sharps
    minor = above in (3, 10, 8)  # aeolian, dorian, phrygian
    return Tune(header, key.tonic.pitchClass, minor, key.sharps, bars[:32])


def _bars(measures: list, metre: str) -> tuple[Bar, ...]:
    """The complete measures, joined and scaled to bars of four beats; upbeats and incomplete measures are dropped."""
    group, scale = METRES[metre]
    quarters = 4 / scale / group
    full = [m for m in measures if 0.7 * quarters <= m.duration.quarterLength <= 1.01 * quarters]
    bars = []
    for first in range(0, len(full) - group + 1, group):
        notes = []
        for i, measure in enumerate(full[first : first + group]):
            notes += _notes(measure, i * quarters, scale)
        bars.append(tuple(notes))
    return tuple(bars)


def _notes(measure: Any, offset: float, scale: float) -> list[Note]:
    """Notes of one measure, in beats.

    offset: where it begins in our bar, in quarter notes. scale: beats in a quarter note. Grace notes, which have no
    length, are left out; of a chord the last pitch is taken.
    """
    return [
        (float((note.offset + offset) * scale), float(note.quarterLength * scale), int(note.pitches[-1].midi))
        for note in measure.flatten().notes
        if note.quarterLength > 0
    ]
