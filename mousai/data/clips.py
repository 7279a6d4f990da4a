"""What training and evaluation read: random crops, and every chunk once."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from mousai.data.records import Record, Sound, load_chunk, load_crop
from mousai.shapes import Wave


class RandomCrops:
    """Batches of random crops. Step s is a pure function of (seed, s): a resumed run sees what it would have seen."""

    def __init__(self, records: Sequence[Record], root: Path, crop: int, batch: int, seed: int):
        """Crops of `crop` samples, `batch` a step. Raises ValueError if there is no record or one is shorter."""
        if not records:
            raise ValueError("no records to crop from: is the split empty?")
        if short := [record.id for record in records if record.samples < crop]:
            raise ValueError(f"crop of {crop} samples is longer than piece {short[0]}: choose a shorter crop")
        self.records, self.root, self.crop, self.batch, self.seed = list(records), root, crop, batch, seed

    def __call__(self, step: int) -> Wave:
        """[batch, 2, crop], float32 in [-1, 1]."""
        rng = np.random.default_rng([self.seed, step])
        waves = []
        for index in rng.integers(len(self.records), size=self.batch):
            record = self.records[index]
            start = int(rng.integers(record.samples - self.crop + 1))
            waves.append(torch.from_numpy(load_crop(record, start, self.crop, self.root)))
        return torch.stack(waves)


class Chunks:
    """Every chunk of every piece once, in order: piece 1 chunk 1, piece 1 chunk 2, ..."""

    def __init__(self, records: Sequence[Record], root: Path):
        self.root = root
        self.items = [(record, k) for record in records for k in range(1, record.chunks + 1)]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, i: int) -> tuple[Record, int, Sound]:
        """(record, k, float32 [2, samples // chunks])."""
        record, k = self.items[i]
        return record, k, load_chunk(record, k, self.root)

    def __iter__(self) -> Iterator[tuple[Record, int, Sound]]:
        return (self[i] for i in range(len(self)))
