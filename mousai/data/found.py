"""Turn one music file of the user's into one piece: its sound cut into chunks, its tags as a record."""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from mousai.data.catalogues import Row, is_file
from mousai.data.decoded import Skipped, early_end, resampled_blocks
from mousai.data.records import Record, as_fields
from mousai.data.sound import SAMPLE_RATE
from mousai.data.tags import clean, read_tags
from mousai.files import atomic_write, sha256

ENDINGS = (
    *(".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".m4a", ".m4b", ".aac", ".wma", ".aif"),
    *(".aiff", ".aifc", ".au", ".snd", ".caf", ".w64", ".mka", ".ac3", ".ape", ".wv", ".tta", ".weba", ".webm", ".mp4"),
)
LOUDEST = 4.0  # peak; a file above it is not in -1 to 1 at all
SILENT = 1e-4  # peak; a chunk below it counts as silent
CRASHED = "its decoder crashed"  # such a file is tried again by the next import
# 1500 to 2099 as its own number, or at the beginning of digits that are a date (YYYYMM, YYYYMMDD).
YEAR = r"(?<!\d)(1[5-9]\d\d|20\d\d)(?=(?:0[1-9]|1[0-2])[0-3]\d(?!\d)|(?:0[1-9]|1[0-2])(?!\d)|\D|$)"


@dataclass(frozen=True)
class Job:
    """One file to be read, which lies below `source`; the piece is written below `out`.

    chunk: samples of a chunk. listed: the tags that a list gives it. fill: artist and genre for a file without.
    by_folder: whether the folders name artist and album.
    """

    file: Path
    source: Path
    out: Path
    chunk: int
    listed: Row
    fill: Row
    by_folder: bool

    @property
    def place(self) -> str:
        """The path relative to `source`, as text that can be written in UTF-8."""
        return os.fsencode(self.file.relative_to(self.source)).decode(errors="replace")

    @property
    def id(self) -> str:
        """16 hexadecimal digits: a hash of the path relative to `source`."""
        return hashlib.sha256(os.fsencode(self.file.relative_to(self.source))).hexdigest()[:16]

    def stamp(self) -> str:
        """16 hexadecimal digits that change with the file's size or time, the list's tags, and what is asked for."""
        try:
            about = self.file.stat()
            state = [about.st_size, about.st_mtime_ns]
        except OSError:  # gone since it was listed
            state = []
        asked = [self.chunk, sorted(self.listed.items()), sorted(self.fill.items()), self.by_folder]
        return hashlib.sha256(json.dumps([self.id, state, asked]).encode()).hexdigest()[:16]


def music_files(source: Path, out: Path) -> tuple[dict[Path, Row], list[tuple[str, str]]]:
    """(music file -> empty tags, in a fixed order; (other file, why it is left out)), of all below `source`.

    The file name's ending decides what is music. Linked folders are followed, each once; what lies in `out` is ignored.
    Pipes and devices are left out, because they may never end. Raises ValueError where there is no music.
    """

    def shown(path: Path) -> str:
        return os.fsencode(path.relative_to(source)).decode(errors="replace")

    music: dict[Path, Row] = {}
    others: list[tuple[str, str]] = []
    seen = {os.path.realpath(source), os.path.realpath(out)}
    for folder, folders, names in os.walk(source, followlinks=True):
        new = {name: os.path.realpath(Path(folder, name)) for name in sorted(folders)}
        folders[:] = []
        for name, real in new.items():
            if real not in seen:
                seen.add(real)
                folders.append(name)
            elif real != os.path.realpath(out):
                others.append((shown(Path(folder, name)), "a folder that is read already, under another name"))
        for name in sorted(names):
            path = Path(folder, name)
            if not is_file(path):
                others.append((shown(path), "not a file: a pipe, a device, or a link to nothing"))
            elif name.lower().endswith(ENDINGS):
                music[path] = {}
            else:
                others.append((shown(path), f"not a kind of music file: {path.suffix or 'no ending'}"))
    if not music:
        raise ValueError(f"{source}: no music here: files that end in {', '.join(ENDINGS)} are read")
    return music, others


def import_one(job: Job) -> dict[str, object]:
    """{"record": ..., "notes": [...], "split": ...}, or {"skipped": reason}, with "seconds" where it is too short.

    Runs in a worker process, so the result is plain data.
    """
    path = job.out / "audio" / f"{job.id}.flac"
    try:
        with atomic_write(path) as temporary:
            cut = copy_chunks(job.file, temporary, job.chunk)
            if cut.peak > 1:  # written again, with a gain, because a 16-bit file holds nothing above 1
                cut = copy_chunks(job.file, temporary, job.chunk, 1 / cut.peak)
            check_cut(cut, job.chunk)
    except Skipped as reason:
        skipped: dict[str, object] = {"skipped": str(reason)}
        return skipped | ({"seconds": reason.seconds} if isinstance(reason, Short) else {})
    record = tagged(job)
    about = as_fields(record) | {"samples": cut.kept * job.chunk, "chunks": cut.kept, "sha256": sha256(path)}
    return {"record": about, "notes": notes(cut, job.file), "split": job.listed.get("split", "")}


@dataclass
class Cut:
    """What was cut from a file.

    kept: chunks written. silent: numbers, from 1, of the chunks left out as silent. seconds, peak: of the whole file.
    gain: what its samples were multiplied by.
    """

    kept: int
    silent: list[int]
    seconds: float
    peak: float
    gain: float


class Short(Skipped):
    """The file is shorter than a chunk; `seconds` is its length."""

    def __init__(self, text: str, seconds: float):
        super().__init__(text)
        self.seconds = seconds


def copy_chunks(file: Path, path: Path, chunk: int, gain: float = 1.0) -> Cut:
    """Write the complete chunks of `file` to `path` as 16-bit FLAC, times `gain`, without the silent ones.

    Memory holds about one chunk. Raises `Skipped` where the file cannot be read or its peak is above `LOUDEST`.
    """
    held = np.zeros((2, 0), np.float32)
    cut = Cut(0, [], 0.0, 0.0, gain)
    number = 0
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 2, "PCM_16", format="FLAC") as flac:
        for wave in resampled_blocks(file):
            cut.peak = max(cut.peak, float(np.abs(wave).max(initial=0)))
            cut.seconds += wave.shape[1] / SAMPLE_RATE
            held = np.concatenate([held, wave], axis=1)
            while held.shape[1] >= chunk:
                number += 1
                if np.abs(held[:, :chunk]).max() < SILENT:
                    cut.silent.append(number)
                else:
                    flac.write((gain * held[:, :chunk]).T.clip(-1, 1))
                    cut.kept += 1
                held = held[:, chunk:]
            if cut.peak > LOUDEST:
                raise Skipped(f"sample values are not in -1 to 1: its peak is {cut.peak:.3g}")
    return cut


def check_cut(cut: Cut, chunk: int) -> None:
    """Raises `Skipped` where no chunk was kept: the file is too short, or silent."""
    if not cut.kept and not cut.silent:
        text = f"shorter than a chunk of {chunk / SAMPLE_RATE:.1f} s: {cut.seconds:.1f} s"
        raise Short(text, cut.seconds)
    if not cut.kept:
        raise Skipped("silent")


def notes(cut: Cut, file: Path) -> list[str]:
    """What was changed in a file that is used, or is missing in it, for notes.csv."""
    early = early_end(file, cut.seconds)
    found = [early] if early else []
    if cut.silent:
        numbers = ", ".join(map(str, cut.silent))
        found.append(f"silent chunks left out: {numbers} of {cut.kept + len(cut.silent)}")
    if cut.gain < 1:
        found.append(f"brought down by {-20 * np.log10(cut.gain):.1f} dB: its peak was {cut.peak:.3g}")
    return found


def tagged(job: Job) -> Record:
    """The record by the list, else the file's tags, else `fill`, else the folders. Texts are cleaned.

    Without a title the file's name is the title; other unknown fields are empty. Samples, chunks, sha256 and split are
    placeholders still.
    """
    tags = {name: list(texts) for name, texts in read_tags(job.file).items()}
    tags |= {name: [clean(text)] for name, text in job.listed.items() if clean(text)}
    folders = [clean(part) for part in Path(job.place).parent.parts] if job.by_folder else []
    defaults = {"artist": job.fill["artist"] or (folders[0] if folders else ""), "genre": job.fill["genre"]}
    defaults |= {"album": folders[1] if len(folders) > 1 else ""}
    defaults |= {"title": clean(os.fsencode(job.file.stem).decode(errors="replace"))}
    for name, text in defaults.items():
        if text and not tags.get(name):
            tags[name] = [clean(text)]
    first = {name: texts[0] for name, texts in tags.items() if texts}
    year = re.search(YEAR, first.get("date", ""))
    return Record(
        id=job.id,
        title=first.get("title", job.id),
        artist=first.get("artist", ""),
        album=first.get("album", ""),
        genre=first.get("genre", ""),
        year=int(year[0]) if year else None,
        key="",
        tempo=0.0,
        licence=first.get("licence", ""),
        split="train",
        file=f"audio/{job.id}.flac",
        samples=1,
        chunks=1,
        sha256="",
        source=job.place,
        more_artists=tuple(tags.get("artist", [])[1:]),
    )
