"""Which pieces are for training, validation and test. Artists or albums stay together; no split is empty if possible.

A hash of the artist decides, so that a piece stays in its split when others are added. Where that leaves a split empty,
single groups are moved.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Literal

from mousai.config import DataConfig
from mousai.data.records import SPLITS, Record

SplitBy = Literal["artist", "album", "piece"]
ALIASES = {"training": "train", "validation": "valid", "val": "valid", "dev": "valid", "testing": "test"}


def with_splits(
    records: Sequence[Record], config: DataConfig, by: SplitBy = "artist", given: dict[str, str] | None = None
) -> list[Record]:
    """The records with their splits, about in the shares of `config`.

    by: what stays together; with fewer than three such groups the pieces are split one by one. given: id -> split that
    a list gave, which is kept; no split is filled then. Of two pieces one is for training and one for validation; a
    single piece is for training.
    """
    given = given or {}
    free = [record for record in records if record.id not in given]
    groups = grouped(free, by)
    if len(groups) < 3:
        groups = grouped(free, "piece")
    splits = {name: drawn(name, config) for name in groups}
    if not given:
        fill(splits, groups)
    chosen = given | {record.id: splits[name] for name, members in groups.items() for record in members}
    return [replace(record, split=chosen[record.id]) for record in records]


def grouped(records: Sequence[Record], by: SplitBy) -> dict[str, list[Record]]:
    """Name of a group -> its records."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(group_of(record, by), []).append(record)
    return groups


def group_of(record: Record, by: SplitBy) -> str:
    """The name of a record's group. By artist: the artist, else the album, else the folder, else the file. By album:
    artist and album, else the folder, else the file.
    """
    folder = str(PurePosixPath(record.source).parent)
    place = record.source if folder == "." else folder
    names = {
        "artist": record.artist or record.album or place,
        "album": f"{record.artist}/{record.album}" if record.album else place,
        "piece": record.id,
    }
    return names[by].casefold()


def drawn(name: str, config: DataConfig) -> str:
    """The split that the hash of a group's name falls into."""
    share = place_of(name)
    if share < config.test_share:
        return "test"
    return "valid" if share < config.test_share + config.valid_share else "train"


def place_of(name: str) -> float:
    """A number in [0, 1) from a name's hash, evenly spread over names."""
    return int.from_bytes(hashlib.sha256(name.encode(errors="surrogatepass")).digest()[:8]) / 2**64


def fill(splits: dict[str, str], groups: dict[str, list[Record]]) -> None:
    """Change `splits` (group -> split) in place until no split is empty, training first, and training is the largest.

    Whole groups are moved: the smallest one to fill validation or test, the largest to fill training.
    """

    def pieces(split: str) -> int:
        return sum(len(groups[name]) for name in splits if splits[name] == split)

    def names(split: str) -> list[str]:
        return sorted((name for name in splits if splits[name] == split), key=lambda n: (len(groups[n]), place_of(n)))

    for split in SPLITS[: len(splits)]:  # one group: training only; two groups: training and validation
        if not names(split):
            rich = max(SPLITS, key=lambda other: (len(names(other)), pieces(other)))
            splits[names(rich)[-1 if split == "train" else 0]] = split
    for split in ("test", "valid"):
        while pieces("train") < pieces(split) and len(names(split)) > 1:
            splits[names(split)[-1]] = "train"
    if pieces("train") < max(pieces("valid"), pieces("test")):  # one large group
        large = max(("valid", "test"), key=pieces)
        for name in splits:
            splits[name] = {"train": large, large: "train"}.get(splits[name], splits[name])


def sizes(records: Sequence[Record]) -> str:
    """Pieces in each split, and in the train split by genre, as one line."""
    counts = Counter(record.split for record in records)
    genres = Counter(record.genre or "no genre" for record in records if record.split == "train")
    named = ", ".join(f"{genre} {count}" for genre, count in genres.most_common(8))
    more = f" and {len(genres) - 8} more" if len(genres) > 8 else ""
    return ", ".join(f"{split} {counts[split]}" for split in SPLITS) + f"; train by genre: {named}{more}"
