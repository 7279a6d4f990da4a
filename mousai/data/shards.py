"""Shards in WebDataset's layout: tars of `000000123.flac`, `000000123.json`, a pair a chunk; `index.json` beside them.

In this file a "record" is such a pair. It is read from its place in the tar, so that any step of an epoch is reached at
once. Memory holds only the index: of each shard its name, number of records, size and sha256.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile

from mousai.data.records import SPLITS, Record, Sound, as_fields, checked
from mousai.data.sound import SAMPLE_RATE
from mousai.files import sha256, write_text

INDEX = "index.json"
MOST = 100_000  # records a shard, because the order of a window's records is held in memory
HELD = 64  # shards kept open
WINDOW = 8  # shards whose records are shuffled together
MEND = "fetch it again, or write the shards anew"


@dataclass(frozen=True, slots=True)
class Shard:
    """One tar: its name in the folder of the index, its number of records, its size and sha256."""

    name: str
    records: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Index:
    """source: digest of the data set that the shards were made from. samples: of each chunk, at 48 kHz."""

    source: str
    samples: int
    splits: dict[str, list[Shard]]


def sharded(root: Path) -> bool:
    """Whether this folder holds shards."""
    return (root / INDEX).is_file()


def write_index(index: Index, root: Path) -> None:
    """Write index.json, complete or not at all; it is written last, so that its presence means complete shards."""
    write_text(json.dumps(asdict(index), indent=0), root / INDEX)


def read_index(root: Path) -> Index:
    """The index of a folder of shards, which is not trusted. Raises ValueError where it is no index, or implausible."""
    path = root / INDEX
    try:
        content = json.loads(path.read_bytes())
        splits = {split: [Shard(**shard) for shard in content["splits"][split]] for split in SPLITS}
        index = Index(content["source"], content["samples"], splits)
    except (ValueError, KeyError, TypeError, RecursionError) as error:  # not JSON; other names; deeply nested brackets
        raise ValueError(f"{path}: not an index of shards: {MEND}") from error
    if wrong := implausible(index):
        raise ValueError(f"{path}: {wrong}: {MEND}")
    return index


def implausible(index: Index) -> str:
    """What is wrong with an index: a name that leads out of the folder, or impossible numbers; "" where nothing is."""
    shards = [shard for split in SPLITS for shard in index.splits[split]]
    if type(index.source) is not str or type(index.samples) is not int or not 1 <= index.samples <= 2**31:
        return f"chunks of {index.samples!r:.40} samples"
    for shard in shards:
        if type(shard.name) is not str or not re.fullmatch(r"\w[\w.-]{0,200}\.tar", shard.name, re.ASCII):
            return f"shard {shard.name!r:.80} is not the name of a .tar in this folder"
        whole = type(shard.records) is int and type(shard.bytes) is int
        if not whole or not 1 <= shard.records <= MOST or not 1024 * shard.records <= shard.bytes <= 2**48:
            return f"{shard.name} with {shard.records!r:.40} records in {shard.bytes!r:.40} bytes"
        if type(shard.sha256) is not str or not re.fullmatch("[0-9a-f]{64}", shard.sha256):
            return f"{shard.name} with sha256 {shard.sha256!r:.80}"
    return "a shard is named twice" if len({shard.name for shard in shards}) < len(shards) else ""


class OpenShard:
    """The records of one shard, by their number in it.

    Raises FileNotFoundError where the file is missing, ValueError where it is not what the index says. `seen`: its
    sha256 was compared before.
    """

    def __init__(self, path: Path, shard: Shard, seen: bool = False):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing, but its index names it: fetch it")
        size = path.stat().st_size
        if size != shard.bytes:
            raise ValueError(f"{path}: {size} bytes, its index says {shard.bytes}: fetch it again")
        if not seen and sha256(path) != shard.sha256:
            raise ValueError(f"{path}: damaged, or not the shard that its index means (another sha256): fetch it again")
        self.path, self.places, self.file = path, places(path, shard), path.open("rb", buffering=0)

    def __getitem__(self, i: int) -> tuple[bytes, bytes]:
        """(bytes of the FLAC, bytes of the JSON) of record i."""
        flac, flac_size, text, text_size = self.places[i].tolist()
        return os.pread(self.file.fileno(), flac_size, flac), os.pread(self.file.fileno(), text_size, text)


def places(path: Path, shard: Shard) -> np.ndarray:
    """[records, 4]: offset and bytes of the FLAC, offset and bytes of the JSON.

    Raises ValueError where the file is no tar or not what the index says.
    """
    try:
        with tarfile.open(path, "r:") as tar:
            members = [member for member in tar if member.isreg()]
    except (tarfile.TarError, EOFError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: not a tar: fetch it again") from error
    found, ends = [os.path.splitext(member.name) for member in members], (".flac", ".json")
    pairs = all(a == (b[0], ".flac") and b == (a[0], ".json") for a, b in zip(found[::2], found[1::2], strict=False))
    if len(found) != 2 * shard.records or not pairs:
        raise ValueError(f"{path}: its index says {shard.records} records, each {' and '.join(ends)}: fetch it again")
    spans = [(member.offset_data, member.size) for member in members]
    if not all(0 <= size <= shard.bytes - place for place, size in spans):
        raise ValueError(f"{path}: a record that goes beyond its end: fetch it again")
    return np.array(spans, np.int64).reshape(-1, 4)


class Shards:
    """Every chunk of a split, in the order of its shards; the counterpart of `Chunks`, which reads a manifest."""

    def __init__(self, root: Path, split: str):
        index = read_index(root)
        self.root, self.samples, self.shards = root, index.samples, index.splits[split]
        if not self.shards:
            raise ValueError(f"{root}: no shard of {split}: choose a data set with more music")
        self.counts = np.array([shard.records for shard in self.shards])
        self.ends = self.counts.cumsum()
        self.opened: dict[int, OpenShard] = {}
        self.seen: set[int] = set()

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, i: int) -> tuple[Record, int, Sound]:
        """(record, k, waveform) of chunk i, the waveform float32 [2, samples]."""
        return *self.about(i), self.crop(i, 0, self.samples)

    def __iter__(self) -> Iterator[tuple[Record, int, Sound]]:
        return (self[i] for i in range(len(self)))

    def about(self, i: int) -> tuple[Record, int]:
        """(record, k) of chunk i: it is chunk k of the record's n. Raises ValueError where its JSON is not valid."""
        shard, number = self.found(i)
        try:
            return described(shard[number][1], self.samples)
        except ValueError as error:
            raise ValueError(f"{shard.path}, record {number}: not a record: fetch it again") from error

    def crop(self, i: int, start: int, length: int) -> Sound:
        """`length` samples of chunk i from `start` on, float32 [2, length]. Raises ValueError for a damaged FLAC."""
        shard, number = self.found(i)
        try:
            with soundfile.SoundFile(io.BytesIO(shard[number][0])) as file:
                if (file.samplerate, file.channels, file.frames) != (SAMPLE_RATE, 2, self.samples):
                    raise ValueError("of another kind")
                file.seek(start)
                wave = file.read(length, dtype="float32", always_2d=True).T
            if wave.shape != (2, length):
                raise ValueError("cut off")
        except (soundfile.SoundFileError, RuntimeError, ValueError) as error:
            form = f"48 kHz stereo of {self.samples} samples"
            raise ValueError(f"{shard.path}, record {number}: not readable as {form}: fetch it again") from error
        return np.ascontiguousarray(wave)

    def found(self, i: int) -> tuple[OpenShard, int]:
        """(the opened shard of chunk i, the chunk's number in it). A shard's sha256 is compared once a process."""
        at, number = located(self.ends, i)
        if at not in self.opened:
            shard = self.shards[at]
            self.opened[at] = OpenShard(self.root / shard.name, shard, at in self.seen)
            self.seen.add(at)
            while len(self.opened) > HELD:
                del self.opened[next(iter(self.opened))]
        return self.opened[at], number

    def digest(self) -> str:
        """sha256 over the sha256 of every shard."""
        return hashlib.sha256(" ".join(shard.sha256 for shard in self.shards).encode()).hexdigest()


class Epochs:
    """The order in which training reads shards with `counts` records each; it depends only on the seed.

    An epoch shuffles the shards, takes `WINDOW` of them at a time, and shuffles the records of these together. Batches
    are numbered over all processes, so that no two processes get the same record.
    """

    def __init__(self, counts: np.ndarray, seed: int):
        self.counts, self.seed, self.total = counts, seed, int(counts.sum())
        self.starts = counts.cumsum() - counts
        self.shards, self.window = lru_cache(2)(self.shards_of), lru_cache(2)(self.window_of)

    def batch(self, number: int, size: int) -> list[int]:
        """The numbers of the `size` records in batch `number`, from 0."""
        return [self.record(place) for place in range(number * size, (number + 1) * size)]

    def record(self, place: int) -> int:
        """The number of the record at this place of the order, which continues from epoch to epoch."""
        epoch, place = divmod(place, self.total)
        window, number = located(self.shards(epoch)[1], place)
        return int(self.window(epoch, window)[number])

    def shards_of(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """(the epoch's order of the shards, how many records there are up to the end of each window)."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.counts))
        return order, np.add.reduceat(self.counts[order], np.arange(0, len(order), WINDOW)).cumsum()

    def window_of(self, epoch: int, window: int) -> np.ndarray:
        """The numbers of a window's records, in the epoch's order."""
        shards = self.shards(epoch)[0][window * WINDOW : (window + 1) * WINDOW]
        records = np.concatenate([np.arange(self.starts[s], self.starts[s] + self.counts[s]) for s in shards])
        return np.random.default_rng([self.seed, epoch, window + 1]).permutation(records)


def located(ends: np.ndarray, i: int) -> tuple[int, int]:
    """(part, number in it) of item i. ends [parts]: how many items there are up to each part's end.

    Raises IndexError where there is no item i.
    """
    if not 0 <= i < ends[-1]:
        raise IndexError(i)
    part = int(np.searchsorted(ends, i, "right"))
    return part, int(i - (ends[part - 1] if part else 0))


def describe(record: Record, k: int) -> bytes:
    """The JSON that a shard holds for chunk k of a record: the record's fields and k."""
    return json.dumps({**as_fields(record), "k": k}).encode()


def described(text: bytes, samples: int | None = None) -> tuple[Record, int]:
    """(record, k) from what `describe` wrote.

    Raises ValueError for other fields, a k that is not in 1..n, or chunks that do not have `samples` samples.
    """
    try:
        about = json.loads(text)
        k = about.pop("k")
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("no k") from error
    record = checked(about)
    if type(k) is not int or not 1 <= k <= record.chunks or samples not in (None, record.samples // record.chunks):
        raise ValueError(f"{k!r} of {record.chunks}, {record.samples} samples")
    return record, k
