"""A data set becomes shards, split by split: each chunk a FLAC and its JSON, as many a shard as a size allows.

Which chunks a shard holds is known beforehand, so processes write one each. Finished ones are noted in `journal.jsonl`:
an interrupted run goes on with what is missing, and another one makes anew what has been damaged since.
"""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import soundfile

from mousai.data.clips import Chunks
from mousai.data.dataset import DataSet
from mousai.data.locking import one_writer, remove_temporary
from mousai.data.records import SPLITS, Record, Sound, load_chunk
from mousai.data.shards import MOST, Index, Shard, describe, read_index, sharded, write_index
from mousai.data.sound import SAMPLE_RATE
from mousai.data.workers import Workers
from mousai.files import append_line, atomic_write, lines_of, sha256
from mousai.progress import progress_bar


@dataclass(frozen=True)
class Job:
    """One shard: its chunks, of which `first` is the number of the first in its split, below `root`."""

    path: Path
    split: str
    first: int
    items: list[tuple[Record, int]]
    root: Path
    noted: Shard | None


def write_shards(data: DataSet, out: Path, megabytes: int, jobs: int = 2) -> Index:
    """The data set as `out`/train-000000.tar and so on, of at most `megabytes` each; returns their index.

    Raises ValueError where `out` holds shards of another data set or size, or where the data set is shards itself.
    """
    root = data.root
    if data.sharded or out.resolve() == root.resolve():
        raise ValueError(f"{out}: shards are made of pieces, beside them: choose another --out, or another MOUSAI_DATA")
    chunks = {split: Chunks(data.records(split), root) for split in SPLITS}
    first = next(one.about(0)[0] for one in chunks.values() if len(one))
    samples = first.samples // first.chunks
    each = min(MOST, max(1, megabytes * 10**6 // (4 * samples)))  # 16-bit stereo: FLAC makes it smaller
    about = " ".join([str(each), *(one.digest() for one in chunks.values())])
    index = Index(hashlib.sha256(about.encode()).hexdigest(), samples, {split: [] for split in SPLITS})
    with one_writer(out):
        remove_temporary(out)
        return write_all(chunks, index, each, root, out, jobs)


def write_all(chunks: dict, index: Index, each: int, root: Path, out: Path, jobs: int) -> Index:
    """Fill the index, noting each finished shard at once."""
    noted, total = read_noted(out, index.source), sum(-(-len(one) // each) for one in chunks.values())
    bar = progress_bar(None, "shards", total, 0, "shard")
    with bar, Workers(jobs) as pool:
        for job, shard in pool.each(write_shard, plan(chunks, index.samples, each, root, out, noted)):
            if shard != job.noted:
                append_line(json.dumps({"source": index.source, **asdict(shard)}), out / "journal.jsonl")
            index.splits[job.split].append(shard)
            bar.update()
    write_index(index, out)
    (out / "journal.jsonl").unlink(missing_ok=True)
    return index


def read_noted(out: Path, source: str) -> dict[str, Shard]:
    """What earlier runs wrote. Raises ValueError where that was not of this data set and size."""
    noted, sources = {}, set()
    if sharded(out):
        index = read_index(out)
        noted, sources = {shard.name: shard for split in SPLITS for shard in index.splits[split]}, {index.source}
    for line in lines_of(out / "journal.jsonl"):
        try:
            entry = json.loads(line)
            sources.add(entry.pop("source"))
            noted[entry["name"]] = Shard(**entry)
        except (ValueError, KeyError, TypeError, AttributeError):  # the line that was being written when it was cut off
            continue
    if sources - {source}:
        raise ValueError(f"{out}: shards of another data set or size are there: delete them, or choose another --out")
    return noted


def plan(chunks: dict, samples: int, each: int, root: Path, out: Path, noted: dict[str, Shard]) -> Iterator[Job]:
    """Every shard in order. Raises ValueError where a chunk is of another length than the first."""
    for split, some in chunks.items():
        for number, first in enumerate(range(0, len(some), each)):
            items = [some.about(i) for i in range(first, min(first + each, len(some)))]
            for record, _ in items:
                if record.samples // record.chunks != samples:
                    lengths = f"chunks of {record.samples // record.chunks} samples, others {samples}"
                    raise ValueError(f"{record.id} in {root} has {lengths}: import all of it with one --profile")
            name = f"{split}-{number:06d}.tar"
            yield Job(out / name, split, first, items, root, noted.get(name))


def write_shard(job: Job) -> Shard:
    """The shard, written unless it is there as it was noted; the same job, the same bytes. Runs in another process."""
    if job.noted and job.path.is_file() and sha256(job.path) == job.noted.sha256:
        return job.noted
    from webdataset.writer import TarWriter

    with atomic_write(job.path) as temporary, temporary.open("wb") as file, TarWriter(file, mtime=0) as tar:
        for number, (record, k) in enumerate(job.items, job.first):
            flac = flac_of(load_chunk(record, k, job.root))
            tar.write({"__key__": f"{number:09d}", "flac": flac, "json": describe(record, k)})
    return Shard(job.path.name, len(job.items), job.path.stat().st_size, sha256(job.path))


def flac_of(wave: Sound) -> bytes:
    """16-bit FLAC; what was read from 16 bits comes back to the bit."""
    file = io.BytesIO()
    numbers = (wave.T * 2**15).round().clip(-(2**15), 2**15 - 1).astype(np.int16)
    soundfile.write(file, numbers, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
