"""Anybody's music becomes the same records: a folder, an archive or a list -> whole chunks of 48 kHz stereo.

No file stops an import: one that cannot be used is listed in `skipped.csv` with the reason. What is done is noted in
`journal.jsonl` at once, so that an interrupted import goes on where it was, and a second one reads only what is new.
"""

import csv
import hashlib
import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile
from filelock import FileLock, Timeout

from mousai.config import DataConfig
from mousai.data.archives import unpacked
from mousai.data.catalogues import KINDS, is_file, read_catalogue
from mousai.data.decoded import UNREAD, Skipped, resampled_blocks
from mousai.data.records import Record, write_manifest
from mousai.data.sound import SAMPLE_RATE
from mousai.data.workers import Workers
from mousai.files import append_line, atomic_write, lines_of, sha256, write_text
from mousai.progress import progress_bar

ENDINGS = (".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".m4a", ".aac", ".wma", ".aif", ".aiff")
LOUDEST, SILENT = 4.0, 1e-4  # peaks: above, the file counts in other units; below, there is nothing to hear
LONGEST_TAG = 200  # letters
ID3 = {"TIT2": "title", "TPE1": "artist", "TALB": "album", "TCON": "genre", "TDRC": "date", "TCOP": "copyright"}
CRASHED = "its decoder crashed"  # may go well another time, as what is `UNREAD`


@dataclass(frozen=True)
class Job:
    """One file to be read; `told` is what a list says of it."""

    file: Path
    source: Path
    out: Path
    chunk: int
    config: DataConfig
    told: dict[str, str]

    @property
    def place(self) -> str:
        """The name from `source` on, as text that every file can hold."""
        return os.fsencode(self.file.relative_to(self.source)).decode(errors="replace")

    @property
    def id(self) -> str:
        """The name as 16 hexadecimal digits."""
        return hashlib.sha256(os.fsencode(self.file.relative_to(self.source))).hexdigest()[:16]

    def stamp(self) -> str:
        """Changes with the file, what a list says of it, and what is asked for."""
        try:
            about = self.file.stat()
            state = [about.st_size, about.st_mtime_ns]
        except OSError:  # gone since it was listed
            state = []
        asked = [self.chunk, self.config.valid_share, self.config.test_share, sorted(self.told.items())]
        return hashlib.sha256(json.dumps([self.id, state, asked]).encode()).hexdigest()[:16]


def import_music(
    source: Path, out: Path, chunk: int, config: DataConfig, jobs: int = 2, audio: Path | None = None
) -> dict[str, int]:
    """Read all music under `source`; returns counts: pieces, chunks, and each reason for files that were skipped.

    `source` is a folder, a .zip or .tar, or a list as `catalogues` reads it, of files below `audio`, by default the
    list's folder; what a list says goes before a file's own tags. Writes out/audio/*.flac, manifest.jsonl and
    skipped.csv. `chunk`: samples of 48 kHz; the rest of a piece is left out. Splits are by artist, in the shares of
    `config`. With one job all is read in this process, which a decoder that crashes takes with it. Raises ValueError
    where there is no music, or where a list or an archive points outside of its folder: nothing of it is used then.
    """
    source, told = files_of(source, out, audio)
    files = [Job(file, source, out, chunk, config, tags) for file, tags in told.items()]
    if not files:
        raise ValueError(f"{source}: no music here: files that end in {', '.join(ENDINGS)} are read")
    (out / "audio").mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(out / ".lock", timeout=0):
            return read_all(files, out, jobs)
    except Timeout:
        raise ValueError(f"{out}: another import writes there: wait for it, or choose another --out") from None


def files_of(source: Path, out: Path, audio: Path | None) -> tuple[Path, dict[Path, dict[str, str]]]:
    """The folder that holds the music, and its files, each with what a list says of it."""
    if source.is_file() and source.suffix.lower() in KINDS:
        audio = audio or source.parent
        return audio, {file: tags for file, tags in read_catalogue(source, audio).items() if is_file(file)}
    folder = unpacked(source, out / "unpacked") if source.is_file() else source
    return folder, {file: {} for file in music_files(folder, out)}


def music_files(source: Path, out: Path) -> Iterator[Path]:
    """Every file that ends like music, in one order, but what is in `out`. Pipes and devices, which may never end, are
    left out.
    """
    for folder, folders, names in os.walk(source):
        folders[:] = sorted(name for name in folders if Path(folder, name).resolve() != out.resolve())
        music = (Path(folder, name) for name in sorted(names) if name.lower().endswith(ENDINGS))
        yield from filter(is_file, music)


def read_all(files: list[Job], out: Path, jobs: int) -> dict[str, int]:
    """Read what is not in the journal yet, note each file, then sum up."""
    journal, stamps = read_journal(out), [job.stamp() for job in files]
    todo = [(job, stamp) for job, stamp in zip(files, stamps, strict=True) if stamp not in journal]
    bar = progress_bar(None, "files", len(files), len(files) - len(todo), "file")
    with bar, Workers(jobs) as pool:
        done = pool.each(import_one, (job for job, _ in todo), lambda job: {"skipped": CRASHED})
        for (job, stamp), (_, found) in zip(todo, done, strict=True):
            journal[stamp] = {"stamp": stamp, "file": job.place, **found}
            append_line(json.dumps(journal[stamp]), out / "journal.jsonl")
            bar.update()
    return summed_up([journal[stamp] for stamp in stamps], out)


def read_journal(out: Path) -> dict[str, dict]:
    """What earlier runs did, but what may go well another time, and pieces whose sound is not as it was written."""
    entries = {}
    for line in lines_of(out / "journal.jsonl"):
        try:
            entry = json.loads(line)
            if "record" in entry:
                record = Record(**entry["record"])
                keep = sha256(out / record.file) == record.sha256
            else:
                keep = not entry["skipped"].startswith((CRASHED, UNREAD))
            entries |= {entry["stamp"]: entry} if keep else {}
        except (ValueError, TypeError, KeyError, AttributeError, OSError):
            continue
    return entries


def summed_up(entries: list[dict], out: Path) -> dict[str, int]:
    """Manifest and list of skipped files; a sound that is there already, by its content, counts once."""
    seen: dict[str, str] = {}
    records, skipped = [], []
    for entry in entries:
        record = entry.get("record")
        first = seen.setdefault(record["sha256"], entry["file"]) if record else ""
        if record and first == entry["file"]:
            records.append(Record(**record))
        else:
            skipped.append((entry["file"], f"the same sound: {first}" if record else entry["skipped"]))
    if not records:
        raise ValueError(f"none of {len(skipped)} files can be used: the first, {': '.join(skipped[0])}")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "reason"), *skipped])
    write_text(text.getvalue(), out / "skipped.csv")
    write_manifest(sorted(records, key=lambda record: record.id), out / "manifest.jsonl")
    reasons = Counter(reason.split(":")[0] for _, reason in skipped)
    return {"pieces": len(records), "chunks": sum(record.chunks for record in records)} | dict(reasons.most_common())


def import_one(job: Job) -> dict[str, object]:
    """{"record": ...} or {"skipped": the reason}. Runs in a process of its own."""
    path = job.out / "audio" / f"{job.id}.flac"
    try:
        with atomic_write(path) as temporary:
            chunks = copy_chunks(job.file, temporary, job.chunk)
    except Skipped as reason:
        return {"skipped": str(reason)}
    record = asdict(tagged(job))
    return {"record": record | {"samples": chunks * job.chunk, "chunks": chunks, "sha256": sha256(path)}}


def copy_chunks(file: Path, path: Path, chunk: int) -> int:
    """Write the whole chunks of a file as 16-bit FLAC; returns how many. Raises `Skipped`; memory is one chunk's."""
    held, chunks, peak = np.zeros((2, 0), np.float32), 0, 0.0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2, "PCM_16", format="FLAC") as flac:
        for wave in resampled_blocks(file):
            peak = max(peak, float(np.abs(wave).max(initial=0)))
            held = np.concatenate([held, wave], axis=1)
            while held.shape[1] >= chunk:
                flac.write(held[:, :chunk].T.clip(-1, 1))
                held, chunks = held[:, chunk:], chunks + 1
    if not chunks:
        raise Skipped(f"shorter than a chunk of {chunk / SAMPLE_RATE:.1f} s: {held.shape[1] / SAMPLE_RATE:.1f} s")
    if peak > LOUDEST:
        raise Skipped(f"not in -1 to 1: its peak is {peak:.3g}")
    if peak < SILENT:
        raise Skipped("silent")
    return chunks


def tagged(job: Job) -> Record:
    """What a list or the tags say, cleaned; the title is else the file's name, all other things are left empty.

    Samples, chunks and hash are not known yet."""
    tags = read_tags(job.file) | {key: clean(text) for key, text in job.told.items()}
    year, folder = re.search(r"\b(1[5-9]|20)\d\d\b", tags.get("date", "")), str(Path(job.place).parent)
    who = tags.get("artist") or tags.get("album") or (job.place if folder == "." else folder)
    return Record(
        id=job.id,
        title=tags.get("title") or clean(os.fsencode(job.file.stem).decode(errors="replace")),
        artist=tags.get("artist", ""),
        album=tags.get("album", ""),
        genre=tags.get("genre", ""),
        year=int(year[0]) if year else None,
        key="",
        tempo=0.0,
        licence=tags.get("copyright", ""),
        split=split_of(who, job.config),
        file=f"audio/{job.id}.flac",
        samples=0,
        chunks=0,
        sha256="",
        source=job.place,
    )


def read_tags(file: Path) -> dict[str, str]:
    """Tag -> text; nothing where the tags are damaged, whatever mutagen thinks of them."""
    import mutagen

    tags = {}
    try:
        with file.open("rb") as opened:
            for key, value in (mutagen.File(opened, easy=True) or {}).items():  # type: ignore[reportPrivateImportUsage]
                first = value[0] if isinstance(value, list) and value else value
                tags[ID3.get(key, key)] = clean(str(first))  # WAV and AIFF have no easy names
    except Exception:  # mutagen's parsers of strangers' files raise nearly anything
        return {}
    return tags


def clean(text: str) -> str:
    """One line of at most `LONGEST_TAG` printable letters."""
    printable = "".join(letter if letter.isprintable() else " " for letter in text)
    return " ".join(printable.split())[:LONGEST_TAG]


def split_of(who: str, config: DataConfig) -> str:
    """train, valid or test, always the same for an artist."""
    share = int.from_bytes(hashlib.sha256(who.casefold().encode()).digest()[:8]) / 2**64
    if share < config.test_share:
        return "test"
    return "valid" if share < config.test_share + config.valid_share else "train"
