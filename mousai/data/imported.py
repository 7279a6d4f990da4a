"""Import the user's own music: a folder, an archive or a list becomes records with chunks of 48 kHz stereo.

No single file stops an import: one that cannot be used is listed in `skipped.csv` with the reason. What was changed in
a file that is used, or is missing in it, stands in `notes.csv`. Each file is recorded in `journal.jsonl` at once, so
that an interrupted import continues where it was, and a second one reads only what is new.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from mousai.config import DataConfig
from mousai.data.archives import unpacked
from mousai.data.catalogues import KINDS, Row, read_catalogue
from mousai.data.decoded import UNREAD
from mousai.data.found import CRASHED, Job, import_one, music_files
from mousai.data.locking import one_writer, remove_temporary
from mousai.data.records import Record, checked, elements, write_manifest
from mousai.data.splits import ALIASES, SplitBy, sizes, with_splits
from mousai.data.workers import Workers
from mousai.files import append_line, lines_of, sha256, write_text
from mousai.progress import progress_bar

Reasons = list[tuple[str, str]]  # (file, why it was skipped, or what was changed in it)


@dataclass(frozen=True)
class Wanted:
    """The settings of an import.

    chunk: samples of a chunk at 48 kHz; what follows the last complete chunk of a piece is left out. config: shares of
    the splits. audio: the folder of a list's files, by default the list's own. split_by: what is never divided between
    splits. genre, artist: stand in for pieces without one.
    """

    chunk: int
    config: DataConfig
    audio: Path | None = None
    split_by: SplitBy = "artist"
    genre: str = ""
    artist: str = ""


class NothingFits(ValueError):
    """No file is as long as a chunk; `longest` is the length of the longest in seconds."""

    def __init__(self, text: str, longest: float):
        super().__init__(text)
        self.longest = longest


@dataclass(frozen=True)
class Imported:
    """The result of an import: records; (file, reason) of what was skipped; (file, note) of what was changed."""

    records: list[Record]
    skipped: Reasons
    notes: Reasons

    def counts(self) -> dict[str, int]:
        """{"pieces": n, "chunks": n}, then reason -> how many files were skipped for it, the most frequent first."""
        reasons = Counter(reason.split(":")[0] for _, reason in self.skipped)
        chunks = sum(record.chunks for record in self.records)
        return {"pieces": len(self.records), "chunks": chunks} | dict(reasons.most_common())

    def untagged(self) -> int:
        """The number of pieces without artist, album, genre and year."""
        return sum(not (r.artist or r.album or r.genre or r.year) for r in self.records)

    def too_long(self, fits: Callable[[str], bool]) -> int:
        """The number of pieces whose full caption does not fit the text encoder; `fits` as in `fits_encoder`."""
        return sum(not fits(", ".join(elements(record, record.chunks))) for record in self.records)

    def sizes(self) -> str:
        """Pieces in each split and of each genre, as one line."""
        return sizes(self.records)


def import_music(source: Path, out: Path, wanted: Wanted, jobs: int = 2) -> Imported:
    """Read all music of `source` into the folder `out`: audio/*.flac, manifest.jsonl, skipped.csv, notes.csv.

    `source` is a folder, a .zip or .tar, or a list as `catalogues` reads it; a list's tags take precedence over a
    file's own. With one job everything is read in this process, so that a crashing decoder ends it. Raises ValueError
    where there is no music, where a list or an archive points outside of its folder (nothing of it is used then), or
    where the manifest in `out` was edited; `NothingFits` where no file has the length of a chunk.
    """
    listed: dict[Path, Row] | None = None
    refused: Reasons = []
    if source.is_file() and source.suffix.lower() in KINDS:
        catalogue = read_catalogue(source, wanted.audio or source.parent)
        listed, refused = catalogue.files, catalogue.refused
        if not listed:
            where = f", the first: {': '.join(refused[0])}" if refused else ""
            raise ValueError(f"{source}: none of the listed files is there{where}")
        source = wanted.audio or source.parent
    elif source.is_dir():
        listed, refused = music_files(source, out)
    with one_writer(out):
        check_manifest(out)
        if listed is None:
            source = unpacked(source, out / "unpacked")
            listed, refused = music_files(source, out)
        remove_temporary(out / "audio")
        (out / "audio").mkdir(exist_ok=True)
        by_folder = "artist" not in {tag for row in listed.values() for tag in row}
        fill = {"genre": wanted.genre, "artist": wanted.artist}
        files = [Job(file, source, out, wanted.chunk, row, fill, by_folder) for file, row in listed.items()]
        return summed_up(read_all(files, out, jobs), refused, out, wanted)


def read_all(files: list[Job], out: Path, jobs: int) -> list[dict]:
    """Read the files that are not in the journal yet and record each; return the journal's entry of every file."""
    journal = read_journal(out)
    stamps = [job.stamp() for job in files]
    todo = [(job, stamp) for job, stamp in zip(files, stamps, strict=True) if stamp not in journal]
    bar = progress_bar(None, "files", len(files), len(files) - len(todo), "file")
    with bar, Workers(jobs) as pool:
        done = pool.each(import_one, (job for job, _ in todo), lambda job: {"skipped": CRASHED})
        for (job, stamp), (_, found) in zip(todo, done, strict=True):
            entry = {"stamp": stamp, "file": job.place, **found}
            journal[stamp] = entry
            append_line(json.dumps(entry), out / "journal.jsonl")
            bar.update()
    return [journal[stamp] for stamp in stamps]


def read_journal(out: Path) -> dict[str, dict]:
    """Stamp -> entry of what earlier runs did.

    Left out, so that they are read again: failures that may not happen again, and pieces whose FLAC has changed.
    """
    entries = {}
    for line in lines_of(out / "journal.jsonl"):
        try:
            entry = json.loads(line)
            if "record" in entry:
                record = checked(entry["record"])
                keep = sha256(out / record.file) == record.sha256
            else:
                keep = not entry["skipped"].startswith((CRASHED, UNREAD))
            entries |= {entry["stamp"]: entry} if keep else {}
        except (ValueError, TypeError, KeyError, AttributeError, OSError):
            continue
    return entries


def summed_up(entries: list[dict], refused: Reasons, out: Path, wanted: Wanted) -> Imported:
    """Write manifest.jsonl, skipped.csv and notes.csv. Of files with the same sound only the first is used.

    Raises ValueError where no file can be used, or the list names an unknown split.
    """
    seen: dict[str, str] = {}
    records: list[Record] = []
    given: dict[str, str] = {}
    skipped, notes = list(refused), []
    for entry in entries:
        if "record" not in entry:
            skipped.append((entry["file"], entry["skipped"]))
            continue
        record = checked(entry["record"])
        first = seen.setdefault(record.sha256, entry["file"])
        if first != entry["file"]:
            skipped.append((entry["file"], f"the same sound: {first}"))
            continue
        records.append(record)
        notes += [(entry["file"], note) for note in entry.get("notes", [])]
        split = entry.get("split", "").casefold()
        if split:
            given[record.id] = ALIASES.get(split) or split
    write_table([("file", "reason"), *skipped], out / "skipped.csv")
    write_table([("file", "note"), *notes], out / "notes.csv")
    if not records:
        raise nothing(entries, skipped, wanted.chunk)
    unknown = sorted(set(given.values()) - {"train", "valid", "test"})
    if unknown:
        raise ValueError(f"split {unknown[0]!r} in the list: it must be train, valid or test")
    records = with_splits(sorted(records, key=lambda record: record.id), wanted.config, wanted.split_by, given)
    write_manifest(records, out / "manifest.jsonl")
    append_line(json.dumps({"manifest": sha256(out / "manifest.jsonl")}), out / "journal.jsonl")
    return Imported(records, skipped, notes)


def nothing(entries: list[dict], skipped: Reasons, chunk: int) -> ValueError:
    """The error that says why no file can be used."""
    lengths = [entry["seconds"] for entry in entries if "seconds" in entry]
    text = f"none of {len(skipped)} files can be used: the first, {': '.join(skipped[0])}"
    if not lengths:
        return ValueError(text)
    longest = f"the longest that can be read has {max(lengths):.1f} s, a chunk {chunk / 48_000:.1f} s"
    return NothingFits(f"{text}; {longest}", max(lengths))


def check_manifest(out: Path) -> None:
    """Raises ValueError where the manifest was edited after the last import, because another would undo the edit."""
    path = out / "manifest.jsonl"
    written = ""
    for line in lines_of(out / "journal.jsonl"):
        try:
            written = json.loads(line).get("manifest", written)
        except (ValueError, AttributeError):
            continue
    if path.is_file() and written and sha256(path) != written:
        mend = "rename it, or delete it, or import to another --out (a list may have a column `split`)"
        raise ValueError(f"{path}: edited since it was written, an import would undo that: {mend}")


def write_table(rows: Iterable[tuple[str, str]], path: Path) -> None:
    """Write rows of two columns as CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    write_text(text.getvalue(), path)
