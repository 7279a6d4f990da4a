"""The latents of a data set, each with its record: encoded once by stage 1, so that training stage 2 reads no sound.

They are stored in parts of `PART` chunks, each a safetensors file that is complete or absent. Latents are read from the
files on demand, so that memory holds only what is asked for.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mousai.checkpoint import save_tensors
from mousai.data.clips import Chunks
from mousai.data.locking import one_writer
from mousai.data.records import Record, Sound
from mousai.data.shards import Shards, describe, described, located
from mousai.progress import progress_bar
from mousai.shapes import Latent

PART = 256  # chunks
HELD = 64  # files kept open


class Latents:
    """z of every chunk, and which chunk it is of, by the chunk's number. counts [parts]: chunks in each part."""

    def __init__(self, folder: Path):
        """Raises ValueError where the folder has no parts, or their latents differ in shape."""
        self.parts = sorted(folder.glob("*.safetensors"))
        heads = [head(path) for path in self.parts]
        if not heads:
            raise ValueError(f"{folder}: no latents: is the split empty?")
        if len({shape for _, shape, _ in heads}) > 1:
            raise ValueError(f"{folder}: latents of several lengths: import the music with one --profile")
        self.counts, self.shape = np.array([count for count, _, _ in heads]), heads[0][1]
        self.sums = np.sum([sums for *_, sums in heads], axis=0)
        self.ends = self.counts.cumsum()
        self.open = lru_cache(HELD)(lambda part: safe_open(self.parts[part], "pt"))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, picks: Sequence[int]) -> Latent:
        """z of the chunks with these numbers, [picks, channels, time], float32."""
        places = [located(self.ends, i) for i in picks]
        return torch.cat([self.open(part).get_slice("z")[row : row + 1] for part, row in places]).float()

    def about(self, i: int) -> tuple[Record, int]:
        """(record, k) of chunk i: it is chunk k of the record's n."""
        part, row = located(self.ends, i)
        file = self.open(part)
        first, last = file.get_slice("ends")[row : row + 2].tolist()
        return described(file.get_slice("text")[first:last].numpy().tobytes())

    def std(self) -> Tensor:
        """Standard deviation over all elements of all latents, float32 []."""
        n, (total, squares) = len(self) * math.prod(self.shape), self.sums
        return torch.tensor(math.sqrt((squares - total * total / n) / (n - 1)))


def head(path: Path) -> tuple[int, tuple[int, ...], np.ndarray]:
    """(number of latents, shape of each, [sum, sum of squares]) of a part, without reading the latents."""
    with safe_open(path, "pt") as file:
        count, *shape = file.get_slice("z").get_shape()
        return count, tuple(shape), file.get_tensor("sums").numpy()


def write_latents(
    chunks: Chunks | Shards,
    encode: Callable[[Sound], Latent],
    folder: Path,
    encoder: str,
    rank: int = 0,
    world: int = 1,
    name: str | None = None,
) -> int:
    """Encode the parts that are missing, as process `rank` of `world`; return how many parts are still missing.

    encode: waveform [2, time] -> z [1, channels, time]. encoder: hash of its weights, written into every part; a part
    that is damaged or of another encoder is made again. name: of the progress bar. Where another process makes the same
    parts, this one waits and uses them.
    """
    parts = [range(first, min(first + PART, len(chunks))) for first in range(0, len(chunks), PART)]
    paths = [folder / f"{part:06d}.safetensors" for part in range(len(parts))]

    def missing() -> list[int]:
        return [part for part in range(rank, len(parts), world) if not whole(paths[part], parts[part], encoder)]

    if missing():
        with one_writer(folder, share=str(rank)):
            mine = missing()  # another process may have made them meanwhile
            with progress_bar(None, name, sum(len(parts[part]) for part in mine), 0, "chunk") as bar:
                for part in mine:
                    write_part(chunks, parts[part], encode, paths[part], encoder, bar)
    return sum(not path.is_file() for path in paths)


def whole(path: Path, numbers: range, encoder: str) -> bool:
    """Whether this part exists, is complete, and was made by this encoder."""
    if not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as file:
            return file.metadata()["encoder"] == encoder and head(path)[0] == len(numbers)
    except (SafetensorError, KeyError, TypeError, ValueError):
        return False


def write_part(
    chunks: Chunks | Shards, numbers: range, encode: Callable[[Sound], Latent], path: Path, encoder: str, bar
) -> None:
    """Encode the chunks `numbers` into the part at `path`. Raises ValueError where chunks differ in length.

    z: float16 latents. text, ends: the records as JSON, one after another, and where each begins and ends. sums: sum
    and sum of squares of z.
    """
    rows, texts, sums = [], [], torch.zeros(2, dtype=torch.float64)
    for i in numbers:
        record, k, wave = chunks[i]
        rows.append(encode(wave).half())
        texts.append(describe(record, k))
        if rows[-1].shape != rows[0].shape:
            raise ValueError(f"chunk {k} of {record.id} is of another length: import all music with one --profile")
        sums += torch.stack([rows[-1].double().sum(), rows[-1].double().square().sum()])
        bar.update()
    tensors = {
        "z": torch.cat(rows),
        "sums": sums,
        "text": torch.frombuffer(bytearray(b"".join(texts)), dtype=torch.uint8),
        "ends": torch.tensor([0, *map(len, texts)]).cumsum(0),
    }
    save_tensors(tensors, path, {"encoder": encoder})
