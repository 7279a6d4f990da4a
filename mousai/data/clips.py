"""What training and evaluation read: random crops of pieces or shards, and every chunk of a manifest's pieces once."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from mousai.data.records import Record, Sound, as_fields, load_chunk, load_crop
from mousai.data.shards import Epochs, Shards, located
from mousai.shapes import Wave


class RandomCrops:
    """Batches of random crops. The batch of step s depends only on (seed, s), so that a resumed run gets the same ones.

    Which pieces and where is uniform, with replacement.
    """

    def __init__(self, records: Sequence[Record], root: Path, crop: int, batch: int, seed: int):
        """`batch` crops of `crop` samples a step. Raises ValueError where there is no record, or one is shorter."""
        if not records:
            raise ValueError("no records to crop from: is the split empty?")
        if short := next((record.id for record in records if record.samples < crop), ""):
            raise ValueError(f"crop of {crop} samples is longer than piece {short}: choose a shorter crop")
        self.records, self.root, self.crop, self.batch, self.seed = records, root, crop, batch, seed

    def __call__(self, step: int) -> Wave:
        """[batch, 2, crop], float32 in [-1, 1]."""
        rng = np.random.default_rng([self.seed, step])
        waves = []
        for index in rng.integers(len(self.records), size=self.batch).tolist():
            record = self.records[index]
            start = int(rng.integers(record.samples - self.crop + 1))
            waves.append(torch.from_numpy(load_crop(record, start, self.crop, self.root)))
        return torch.stack(waves)


class ShardCrops:
    """As `RandomCrops`, from shards: one crop a chunk, and every chunk once an epoch."""

    def __init__(self, shards: Shards, crop: int, batch: int, seed: int):
        """Raises ValueError where the chunks are shorter than a crop."""
        if shards.samples < crop:
            raise ValueError(f"crop of {crop} samples is longer than a chunk of {shards.root}, {shards.samples}")
        self.shards, self.crop, self.batch, self.seed = shards, crop, batch, seed
        self.order = Epochs(shards.counts, seed)

    def __call__(self, step: int) -> Wave:
        """[batch, 2, crop], float32 in [-1, 1]."""
        rng = np.random.default_rng([self.seed, step])
        starts = rng.integers(self.shards.samples - self.crop + 1, size=self.batch)
        spots = zip(self.order.batch(step, self.batch), starts.tolist(), strict=True)
        return torch.stack([torch.from_numpy(self.shards.crop(i, start, self.crop)) for i, start in spots])


class Chunks:
    """Every chunk of every piece once, in order: piece 1 chunk 1, piece 1 chunk 2, ..."""

    def __init__(self, records: Sequence[Record], root: Path):
        self.records, self.root = records, root
        self.ends = np.fromiter((record.chunks for record in records), np.int64).cumsum()

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def about(self, i: int) -> tuple[Record, int]:
        """(record, k) of chunk i: it is chunk k of the record's n, k from 1."""
        piece, number = located(self.ends, i)
        return self.records[piece], number + 1

    def __getitem__(self, i: int) -> tuple[Record, int, Sound]:
        """(record, k, waveform) of chunk i, the waveform float32 [2, record.samples // record.chunks]."""
        record, k = self.about(i)
        return record, k, load_chunk(record, k, self.root)

    def __iter__(self) -> Iterator[tuple[Record, int, Sound]]:
        return (self[i] for i in range(len(self)))

    def digest(self) -> str:
        """sha256 of every field of the records, which include the sha256 of each sound."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps(as_fields(record)).encode())
        return digest.hexdigest()
