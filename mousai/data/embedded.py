"""The embedded data set: tunes are arranged and rendered here, from packages that pip installed; no sound is shipped.

It is split by tune, its genres are balanced, and every piece has the same number of chunks "k of n". Each finished
piece is recorded in `journal.jsonl`, so that an interrupted run continues; `manifest.jsonl` is written last.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from mousai.config import GENRES, DataConfig, Profile
from mousai.data.arranger import arrange
from mousai.data.locking import one_writer, remove_temporary
from mousai.data.records import Record, parsed, write_manifest
from mousai.data.sound import SAMPLE_RATE, render, write_flac
from mousai.data.tunes import LICENCE, Header, Tune, headers, read_tune
from mousai.data.workers import Workers
from mousai.files import append_line, lines_of, sha256
from mousai.progress import progress_bar

VERSION = 1  # of the arranger: increase it when the same seed gives other bytes
RMS = 0.14  # of every piece over its whole length, full scale 1


@dataclass(frozen=True)
class Job:
    """One piece to be rendered into the folder `root`; its record still lacks key, tempo and sha256."""

    record: Record
    tune: Tune
    seed: tuple[int, int]
    root: Path


def embedded_root(profile: Profile, runs: Path) -> Path:
    """The folder of a profile's embedded music below `runs`: another one for each DataConfig and arranger `VERSION`."""
    text = json.dumps([asdict(profile.data), VERSION], sort_keys=True)
    return runs / "data" / f"{profile.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def prepare(config: DataConfig, root: Path, jobs: int = 2, progress: bool = True) -> Path:
    """Render the embedded music into `root` with `jobs` processes; return `root`. A second call waits for the first.

    Files that are there and undamaged are kept, the others are rendered. The same seed gives the same bytes whatever
    `jobs` is. Raises ValueError where `jobs` is below 1 or no tune can be read.
    """
    if jobs < 1:
        raise ValueError(f"jobs {jobs}: at least 1 is needed")
    with one_writer(root):
        remove_temporary(root / "audio")
        done = _kept(root)
        if len(done) < config.pieces:
            write_manifest(list(done.values()), root / "journal.jsonl")
            (root / "manifest.jsonl").unlink(missing_ok=True)
            with Workers(jobs) as pool:
                todo = [job for job in _plan(config, root, pool, progress) if job.record.id not in done]
                _render_all(todo, root, pool, done, progress)
        write_manifest([done[id] for id in sorted(done)], root / "manifest.jsonl")
        (root / "journal.jsonl").unlink(missing_ok=True)
    return root


def _kept(root: Path) -> dict[str, Record]:
    """Id -> record of the pieces of an earlier run whose file still has the recorded sha256."""
    kept = {}
    for line in [*lines_of(root / "manifest.jsonl"), *lines_of(root / "journal.jsonl")]:
        try:
            record = parsed(line)
        except ValueError:  # the line that was being written when the run was interrupted
            continue
        path = root / record.file
        if path.is_file() and sha256(path) == record.sha256:
            kept[record.id] = record
    return kept


def _plan(config: DataConfig, root: Path, pool: Workers, progress: bool) -> Iterator[Job]:
    """A job for every piece of the data set: tunes in a seeded order, genres in rotation, splits by tune."""
    tunes = _tunes(config, pool, progress)
    splits = _splits(config, len(tunes))
    for i in range(config.pieces):
        tune = tunes[i % len(tunes)]  # a tune is used twice only where there are more pieces than tunes
        record = _record(config, i, tune.header, splits[i % len(tunes)])
        yield Job(record, tune, (config.seed, i), root)


def _tunes(config: DataConfig, pool: Workers, progress: bool) -> list[Tune]:
    """As many readable tunes as there are pieces, or all there are, in an order drawn from the seed."""
    order = np.random.default_rng(config.seed).permutation(len(headers()))
    bar = progress_bar(None, "tunes", config.pieces, 0, "tune", progress)
    tunes: list[Tune] = []
    first = 0
    while len(tunes) < config.pieces and first < len(order):
        # Only as many as are still missing, because the choice must not depend on how many processes read ahead.
        chosen = order[first : first + config.pieces - len(tunes)]
        for _, tune in pool.each(read_tune, [headers()[i] for i in chosen]):
            tunes += [tune] if tune is not None else []
            bar.update(tune is not None)
        first += len(chosen)
    bar.close()
    if not tunes:
        raise ValueError("no tune of music21's corpus could be read: pip install --force-reinstall music21")
    return tunes


def _splits(config: DataConfig, tunes: int) -> list[str]:
    """The split of each tune, with the same shares in every genre, because piece i has genre i mod 4.

    From nine tunes on no split is empty at the usual shares.
    """
    groups = -(-tunes // len(GENRES))
    valid = max(1, round(groups * config.valid_share))
    test = max(1, round(groups * config.test_share))
    names = ["valid"] * valid + ["test"] * test + ["train"] * max(0, groups - valid - test)
    return [names[i // len(GENRES)] for i in range(tunes)]


def _record(config: DataConfig, i: int, header: Header, split: str) -> Record:
    """The record of piece i without what arranging and rendering give: key, tempo and sha256."""
    return Record(
        id=f"{i:05d}",
        title=header.title,
        artist=header.artist,
        album=header.album,
        genre=GENRES[i % len(GENRES)],
        year=header.year,
        key="",
        tempo=0.0,
        licence=LICENCE,
        split=split,
        file=f"audio/{i:05d}.flac",
        samples=config.piece_samples,
        chunks=config.chunks,
        sha256="",
        source=header.source,
    )


def render_piece(job: Job) -> Record:
    """Arrange, render and write one piece; return its complete record. The same job gives the same bytes."""
    record = job.record
    rng = np.random.default_rng(job.seed)
    arrangement = arrange(job.tune, record.genre, record.samples / SAMPLE_RATE, rng)
    digest = write_flac(render(arrangement, record.samples, RMS), job.root / record.file)
    return replace(record, key=arrangement.key, tempo=round(arrangement.tempo, 2), sha256=digest)


def _render_all(jobs: list[Job], root: Path, pool: Workers, done: dict[str, Record], progress: bool) -> None:
    """Render these jobs; add each finished piece to the journal and to `done` at once."""
    bar = progress_bar(None, "pieces", len(jobs) + len(done), len(done), "piece", progress)
    with bar:
        for _, record in pool.each(render_piece, jobs):
            append_line(json.dumps(asdict(record)), root / "journal.jsonl")
            done[record.id] = record
            bar.update()
