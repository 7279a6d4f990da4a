"""The data set in use, and the workspace of a run. Opening never makes a data set: its error names the command."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mousai.config import Profile
from mousai.data.clips import Chunks, RandomCrops, ShardCrops
from mousai.data.embedded import embedded_root
from mousai.data.lengths import fits_encoder
from mousai.data.records import SPLITS, Fits, Manifest
from mousai.data.shards import INDEX, Shards, read_index, sharded
from mousai.files import runs_dir, user_data_root
from mousai.shapes import Wave

MANIFEST = "manifest.jsonl"
MOST_GENRES = 10  # as many as a confusion matrix shows
PREPARE = "run `mousai data prepare` or `mousai data import` first"


class DataSet:
    """A data set: a folder that `mousai data prepare`, `import` or `shards` wrote.

    Raises FileNotFoundError, which ends with `mend`, the command to run, where the folder holds no data set.
    """

    def __init__(self, root: Path, mend: str = PREPARE):
        self.root = root
        self.sharded = sharded(root)
        self.index = root / (INDEX if self.sharded else MANIFEST)
        if not self.index.is_file():
            raise FileNotFoundError(f"{root}: no manifest of a data set is here: {mend}")

    @cached_property
    def key(self) -> str:
        """12 hexadecimal digits that change with the content: the cache key for all that is computed from the data."""
        return hashlib.sha256(self.index.read_bytes()).hexdigest()[:12]

    @cached_property
    def genres(self) -> tuple[str, ...]:
        """The most frequent genres of the train split, at most `MOST_GENRES`, in alphabetical order."""
        counts = Counter(record.genre for record in self.records("train") if record.genre)
        return tuple(sorted(genre for genre, _ in counts.most_common(MOST_GENRES)))

    @cached_property
    def licence(self) -> str:
        """The five most frequent licences of the training pieces; "unknown" for shards."""
        if self.sharded:
            return "unknown"
        counts = Counter(record.licence or "unknown" for record in self.records("train"))
        names = [name for name, _ in counts.most_common(6)]
        return "; ".join(names[:5]) + ("; and others" if len(names) > 5 else "")

    @cached_property
    def segments(self) -> int:
        """The most frequent n of "k of n", the number of chunks of a piece."""
        return Counter(record.chunks for record in self.records()).most_common(1)[0][0]

    def records(self, split: str | None = None) -> Manifest:
        """The pieces of one split (train, valid, test) or of all.

        Raises ValueError for an unknown split, or for shards, which hold chunks and no pieces.
        """
        if split not in (None, *SPLITS):
            raise ValueError(f"unknown split {split!r}: choose train, valid or test")
        if self.sharded:
            raise ValueError(f"{self.root}: holds shards, for training only: use the folder they were made from")
        return Manifest(self.index, split)

    def chunks(self, split: str, pieces: int | None = None) -> Chunks | Shards:
        """Every chunk of a split in order, or only of its first `pieces` pieces; with shards `pieces` is ignored."""
        if self.sharded:
            return Shards(self.root, split)
        records = self.records(split)
        return Chunks(records if pieces is None else records[:pieces], self.root)

    def crops(self, split: str, length: int, batch: int, seed: int) -> Callable[[int], Wave]:
        """A function: step -> waveforms [batch, 2, length], the same for the same (seed, step)."""
        if self.sharded:
            return ShardCrops(Shards(self.root, split), length, batch, seed)
        return RandomCrops(self.records(split), self.root, length, batch, seed)

    def has(self, split: str) -> bool:
        """Whether the split has any music."""
        if self.sharded:
            return bool(read_index(self.root).splits[split])
        return len(self.records(split)) > 0


@dataclass(frozen=True)
class Workspace:
    """What every measurement depends on.

    profile: sizes and settings. root: the data set's folder. runs: the folder for everything that is written. device:
    torch's name of it, None for the fastest there is.
    """

    profile: Profile
    root: Path
    runs: Path
    device: str | None = None

    @cached_property
    def data(self) -> DataSet:
        """The data set, opened once. Raises FileNotFoundError with the command that prepares it."""
        prepare = f"mousai data prepare --profile {self.name}"
        command = f"mousai data import FROM --out {self.root}" if self.own_data else prepare
        return DataSet(self.root, f"run `{command}` first")

    @cached_property
    def fits(self) -> Fits:
        """A function: text -> whether it is short enough for the profile's text encoder."""
        return fits_encoder(self.profile.tcld.text)

    @property
    def name(self) -> str:
        """The profile's name."""
        return self.profile.name

    @property
    def own_data(self) -> bool:
        """Whether the data set is the user's own, not the embedded one."""
        return self.root != embedded_root(self.profile, self.runs)


def workspace(profile: Profile, environment: Mapping[str, str], device: str | None = None) -> Workspace:
    """The workspace that these environment variables name.

    Everything is written below `runs_dir`. The data set is the user's own, else the embedded one of the profile.
    """
    runs = runs_dir(environment)
    root = user_data_root(environment) or embedded_root(profile, runs)
    return Workspace(profile, root, runs, device or None)
