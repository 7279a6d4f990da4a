"""Write a data set as shards, split by split: each chunk is a FLAC with its JSON; a shard has a largest size.

Which chunks a shard holds is known beforehand, so that processes write one shard each. Finished shards are recorded in
`journal.jsonl`: an interrupted run continues with what is missing, and a later one writes damaged shards again.
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
    """One shard to write.

    path: its file. first: number, in its split, of its first chunk. items: (record, k) of its chunks. root: folder of
    the data set. noted: what an earlier run recorded of it, None where there was none.
    """

    path: Path
    split: str
    first: int
    items: list[tuple[Record, int]]
    root: Path
    noted: Shard | None


def write_shards(data: DataSet, out: Path, megabytes: int, jobs: int = 2) -> Index:
    """Write the data set as `out`/train-000000.tar and so on, each of at most `megabytes` (10^6 bytes).

    Returns the index, which is written last.

    Raises ValueError where `out` holds shards of another data set or size, or is the data set's own folder, or where
    the data set is shards already.
    """
    root = data.root
    if data.sharded or out.resolve() == root.resolve():
        raise ValueError(f"{out}: shards are made of pieces, beside them: choose another --out, or another MOUSAI_DATA")
    chunks = {split: Chunks(data.records(split), root) for split in SPLITS}
    first = next(one.about(0)[0] for one in chunks.values() if len(one))
    samples = first.samples // first.chunks
    each = min(MOST, max(1, megabytes * 10**6 // (4 * samples)))  # chunks a shard: FLAC is smaller than 16-bit stereo
    about = " ".join([str(each), *(one.digest() for one in chunks.values())])
    index = Index(hashlib.sha256(about.encode()).hexdigest(), samples, {split: [] for split in SPLITS})
    with one_writer(out):
        remove_temporary(out)
        return write_all(chunks, index, each, root, out, jobs)


def write_all(chunks: dict, index: Index, each: int, root: Path, out: Path, jobs: int) -> Index:
    """Write every shard that is missing, record each at once, then write and return the filled index.

    chunks: split -> its `Chunks`. each: chunks a shard.
    """
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
    """Name -> shard of what earlier runs wrote. Raises ValueError where those are of another data set or size.

    source: digest of the data set and of the number of chunks a shard.
    """
    noted, sources = {}, set()
    if sharded(out):
        index = read_index(out)
        noted, sources = {shard.name: shard for split in SPLITS for shard in index.splits[split]}, {index.source}
    for line in lines_of(out / "journal.jsonl"):
        try:
            entry = json.loads(line)
            sources.add(entry.pop("source"))
            noted[entry["name"]] = Shard(**entry)
        except (ValueError, KeyError, TypeError, AttributeError):  # the line that an interrupted run was writing
            continue
    if sources - {source}:
        raise ValueError(f"{out}: shards of another data set or size are there: delete them, or choose another --out")
    return noted


def plan(chunks: dict, samples: int, each: int, root: Path, out: Path, noted: dict[str, Shard]) -> Iterator[Job]:
    """A job for every shard, in order. Raises ValueError where a chunk does not have `samples` samples."""
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
    """Write the shard, unless it is there with the recorded sha256. The same job gives the same bytes.

    Runs in a worker process.
    """
    if job.noted and job.path.is_file() and sha256(job.path) == job.noted.sha256:
        return job.noted
    from webdataset.writer import TarWriter

    with atomic_write(job.path) as temporary, temporary.open("wb") as file, TarWriter(file, mtime=0) as tar:
        for number, (record, k) in enumerate(job.items, job.first):
            flac = flac_of(load_chunk(record, k, job.root))
            tar.write({"__key__": f"{number:09d}", "flac": flac, "json": describe(record, k)})
    return Shard(job.path.name, len(job.items), job.path.stat().st_size, sha256(job.path))


def flac_of(wave: Sound) -> bytes:
    """The waveform [2, time] as a 16-bit FLAC file. A waveform that was read from 16-bit samples is kept exactly."""
    file = io.BytesIO()
    numbers = (wave.T * 2**15).round().clip(-(2**15), 2**15 - 1).astype(np.int16)
    soundfile.write(file, numbers, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return file.getvalue()
