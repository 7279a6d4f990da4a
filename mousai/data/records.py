"""One piece of music with its tags: the manifest, captions as in the paper, and reading sound from disk.

A manifest is JSON Lines, one `Record` a line; the audio is FLAC in folders beside it. The embedded music and the user's
own have the same form.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
import soundfile
from jaxtyping import Float

from mousai.files import write_text

Sound = Float[np.ndarray, "2 time"]  # float32 stereo, in [-1, 1]
Fits = Callable[[str], bool]  # whether a text is short enough for the text encoder

SPLITS = ("train", "valid", "test")
LONGEST = 2**40  # samples of a piece, 265 days: a larger number in a manifest is an error
DROP = 0.1  # chance of each caption element to be left out (Section "Training"; [M])


@dataclass(frozen=True)
class Record:
    """What is known about one piece. `file` is relative to the manifest; `chunks` is the n of "k of n"."""

    id: str
    title: str
    artist: str
    album: str
    genre: str
    year: int | None
    key: str
    tempo: float  # beats a minute
    licence: str
    split: str  # train, valid or test
    file: str
    samples: int
    chunks: int
    sha256: str  # of the file
    source: str  # where the piece comes from: its place in music21's corpus, or the imported file
    more_artists: tuple[str, ...] = ()  # after `artist`, where there are several


KINDS = {field.name: (int, float) if field.type is float else field.type for field in fields(Record)}
KINDS["more_artists"] = tuple


def as_fields(record: Record) -> dict[str, Any]:
    """A record as a dictionary for JSON, without `more_artists` where it is empty."""
    about = asdict(record)
    if not record.more_artists:
        del about["more_artists"]
    return about


def write_manifest(records: Sequence[Record], path: Path) -> None:
    """Write records as JSON Lines. A temporary file is renamed at the end, so that a manifest is complete or absent."""
    write_text("".join(json.dumps(as_fields(record), ensure_ascii=False) + "\n" for record in records), path)


def read_manifest(path: Path) -> list[Record]:
    """The records of a manifest, in its order.

    Raises FileNotFoundError where it is missing, ValueError, with the line's number, where a line is no record.
    """
    return [record for _, record in placed(path)]


class Manifest(Sequence[Record]):
    """The records of a manifest, or of one split of it, in its order; 8 bytes of memory each.

    All lines are checked when it is opened, and each is read again when it is asked for. Raises as `read_manifest`.
    """

    def __init__(self, path: Path, split: str | None = None):
        self.path, self.split = path, split
        self.places = array("Q", (place for place, record in placed(path) if split in (None, record.split)))

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, i: int) -> Record: ...
    @overload
    def __getitem__(self, i: slice) -> list[Record]: ...
    def __getitem__(self, i: int | slice) -> Record | list[Record]:
        if isinstance(i, slice):
            return [self[j] for j in range(len(self))[i]]
        with self.path.open("rb") as file:
            file.seek(self.places[i])
            return parsed(file.readline().decode(errors="replace"))

    def __iter__(self) -> Iterator[Record]:
        return (record for _, record in placed(self.path) if self.split in (None, record.split))


def placed(path: Path) -> Iterator[tuple[int, Record]]:
    """(byte at which it begins, record) of every line of a manifest. Raises as `read_manifest`."""
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no manifest: run `mousai data prepare` or `mousai data import` first")
    place = 0
    with path.open("rb") as file:
        for number, line in enumerate(file if path.stat().st_size else [b""], 1):
            try:
                record = parsed(line.decode(errors="replace"))
            except ValueError as error:
                mend = "delete the file and prepare again"
                raise ValueError(f"{path}, line {number}: not a record: {mend}") from error
            yield place, record
            place += len(line)


def parsed(line: str) -> Record:
    """The record of one line, which is not trusted. Raises ValueError where a field is missing or not valid."""
    try:
        return checked(json.loads(line))
    except RecursionError as error:  # deeply nested brackets
        raise ValueError("not the fields of a record") from error


def checked(about: Any) -> Record:
    """The record with these fields, which are not trusted. Raises ValueError where one is missing or not valid."""
    try:
        record = Record(**about | {"more_artists": tuple(about.get("more_artists", ()))})
    except (TypeError, AttributeError) as error:  # not a dictionary, or not these names
        raise ValueError("not the fields of a record") from error
    for name, kind in KINDS.items():
        if not isinstance(getattr(record, name), kind):  # type: ignore[arg-type]
            raise ValueError(f"{name} is {getattr(record, name)!r}")
    if not all(isinstance(name, str) for name in record.more_artists):
        raise ValueError(f"more_artists is {record.more_artists!r}")
    place = Path(record.file)
    inside = not place.is_absolute() and ".." not in place.parts and "\0" not in record.file
    if not inside or not 1 <= record.chunks <= record.samples <= LONGEST or record.split not in SPLITS:
        raise ValueError("a file outside the folder, no samples, or an unknown split")
    return record


def elements(record: Record, k: int) -> list[str]:
    """The elements of a caption: title, artist, album, genre, year (where known), segment tag "k of n" ([B/M]).

    A record always has a title. Raises ValueError where k is not in 1..n.
    """
    if not 1 <= k <= record.chunks:
        raise ValueError(f"chunk {k} of {record.id}: there are chunks 1 to {record.chunks}")
    year = "" if record.year is None else str(record.year)
    known = [text for text in (record.artist, record.album, record.genre, year) if text]
    return [record.title, *known, f"{k} of {record.chunks}"]


def fitted(parts: list[str], fits: Fits | None) -> list[str]:
    """The elements, without the longest ones where all of them are too long for the text encoder; none is cut.

    The last of `parts`, which is the segment tag in a prompt, is the last to be left out. `fits` None: any length fits.
    """
    kept = list(parts)
    while fits is not None and kept and not fits(", ".join(kept)):
        kept.remove(max(kept[:-1] or kept, key=len))
    return kept


def caption(
    record: Record, k: int, rng: np.random.Generator, title_drop: float = DROP, fits: Fits | None = None
) -> str:
    """A training caption (Section "Training"; [M]): elements shuffled, each dropped with probability 0.1, joined by
    spaces or by commas, half of the time each.

    title_drop: the probability for the title. fits: as in `fitted`. Empty where every element is dropped.
    """
    parts = elements(record, k)
    order = rng.permutation(len(parts))
    kept = rng.random(len(parts)) >= np.where(order == 0, title_drop, DROP)
    joint = " " if rng.random() < 0.5 else ", "
    chosen = [int(i) for i, keep in zip(order, kept, strict=True) if keep]
    short = fitted([parts[i] for i in sorted(chosen)], fits)
    return joint.join(parts[i] for i in chosen if parts[i] in short)


def training_caption(
    record: Record, k: int, rng: np.random.Generator, title_drop: float = DROP, fits: Fits | None = None
) -> str:
    """As `caption`, but the segment tag where every element is dropped, because a text encoder takes no empty text."""
    return caption(record, k, rng, title_drop, fits) or f"{k} of {record.chunks}"


def prompt(record: Record, k: int, fits: Fits | None = None) -> str:
    """The prompt for evaluation: every element that fits, in the fixed order of `elements`, joined by commas."""
    return ", ".join(fitted(elements(record, k), fits))


def load_crop(record: Record, start: int, length: int, root: Path) -> Sound:
    """`length` samples of a piece from sample `start` on, float32 [2, length].

    Raises ValueError where the crop exceeds the piece or the file can't be read, FileNotFoundError where it is missing.
    """
    if start < 0 or length < 1 or start + length > record.samples:
        raise ValueError(f"crop {start}..{start + length} of {record.id}: the piece has {record.samples} samples")
    path = root / record.file
    if not path.is_file():
        raise FileNotFoundError(f"{path}: missing: run `mousai data prepare`, or `import`, again")
    try:
        wave = soundfile.read(path, length, start, dtype="float32", always_2d=True)[0].T
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise ValueError(f"{path}: {_MEND}") from error
    if wave.shape != (2, length):
        raise ValueError(f"{path}: {wave.shape[::-1]} instead of {(length, 2)} samples: {_MEND}")
    return np.ascontiguousarray(wave)


_MEND = "not readable as sound: run `mousai data prepare`, or `import`, again: broken files are made anew"


def load_chunk(record: Record, k: int, root: Path) -> Sound:
    """Chunk k of n, k from 1: float32 [2, samples // n]. Errors as in `elements` and `load_crop`."""
    elements(record, k)
    length = record.samples // record.chunks
    return load_crop(record, (k - 1) * length, length, root)


def load_piece(record: Record, root: Path) -> Sound:
    """The whole piece, float32 [2, samples]. Errors as in `load_crop`."""
    return load_crop(record, 0, record.samples, root)
