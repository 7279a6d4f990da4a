"""Lists of music: which file has which title, artist, album, genre, date; CSV, TSV or JSON, of several layouts.

FMA (https://github.com/mdeff/fma): tracks.csv, three rows of headers, files by number: 000/000002.mp3.
MTG-Jamendo (https://github.com/MTG/mtg-jamendo-dataset): *.tsv with TRACK_ID and PATH; names in *.meta.tsv beside it.
Any other: a column `file` (or `path`), and of title, artist, album, genre, date, copyright those that are known.
"""

from pathlib import Path
from typing import Any

import pandas as pd

KINDS = (".csv", ".tsv", ".json", ".jsonl")
TAGS = ("title", "artist", "album", "genre", "date", "copyright")
SAME = {"path": "file", "filename": "file", "name": "title", "year": "date", "licence": "copyright"}
FMA = {
    ("track", "title"): "title",
    ("artist", "name"): "artist",
    ("album", "title"): "album",
    ("track", "genre_top"): "genre",
    ("album", "date_released"): "date",
    ("track", "license"): "copyright",
}
JAMENDO = {"TRACK_NAME": "title", "ARTIST_NAME": "artist", "ALBUM_NAME": "album", "RELEASEDATE": "date"}


def read_catalogue(path: Path, audio: Path) -> dict[Path, dict[str, str]]:
    """file below `audio` -> its tags, without those that are empty.

    Raises ValueError for a list of no known layout, or one that names a file outside of `audio`.
    """
    try:
        rows = rows_of(path, audio)
        tags = rows.reindex(columns=list(TAGS)).fillna("").astype(str).to_dict("records")
        files = rows["file"].astype(str).tolist()
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, RecursionError) as error:  # pandas has many
        mend = "a column `file` is needed, see mousai/data/catalogues.py"
        raise ValueError(f"{path}: not a list of music: {mend}") from error
    for file in files:
        place = Path(file)
        if place.is_absolute() or ".." in place.parts or "\0" in file:
            raise ValueError(f"{path}: {file!r} points outside of {audio}: nothing of it is used")
    found = zip(files, tags, strict=True)
    return {audio / file: {key: text for key, text in row.items() if text} for file, row in found}


def is_file(path: Path) -> bool:
    """Whether it can be asked and is a file; not for names that no disk takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def rows_of(path: Path, audio: Path) -> pd.DataFrame:
    """One row a file: `file` and the tags."""
    ending = path.suffix.lower()
    if ending in (".json", ".jsonl"):
        as_it_is: dict[str, Any] = {"dtype": False, "convert_dates": False}
        return named(pd.read_json(path, lines=ending == ".jsonl", **as_it_is))
    with path.open(encoding="utf-8", errors="replace") as file:
        head = file.readline()
    if {"album", "artist", "track"} <= set(head.strip().split(",")) and head.startswith(","):
        return fma(path)
    if {"TRACK_ID", "PATH"} <= set(head.split()):
        return jamendo(path, audio)
    return named(pd.read_csv(path, sep="\t" if ending == ".tsv" else ",", dtype=str, on_bad_lines="skip"))


def named(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose columns say what they are; case does not matter, of two with one meaning the first counts."""
    table = table.rename(columns=lambda name: str(name).strip().lower()).rename(columns=SAME)
    table = table.loc[:, ~table.columns.duplicated()]
    return table.dropna(subset=["file"])


def fma(path: Path) -> pd.DataFrame:
    """tracks.csv; the number of a track is where its file lies."""
    table = pd.read_csv(path, index_col=0, header=[0, 1], low_memory=False)
    rows = pd.DataFrame({tag: table[column] for column, tag in FMA.items() if column in table.columns})
    rows["file"] = [f"{int(number):06d}.mp3" for number in table.index]
    rows["file"] = rows["file"].str[:3] + "/" + rows["file"]
    return rows


def jamendo(path: Path, audio: Path) -> pd.DataFrame:
    """A list of MTG-Jamendo, whose tags are columns without a name; names come by the track's number."""
    lines = [line.split("\t", 5) for line in path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]]
    parts = [(line[0], line[3], genre_of(line[-1])) for line in lines if len(line) > 3]
    rows = pd.DataFrame(parts, columns=["TRACK_ID", "file", "genre"])  # type: ignore[arg-type]
    small = [Path(file).with_suffix(".low.mp3") for file in rows["file"]]  # the set's smaller version
    rows["file"] = [str(s if is_file(audio / s) else f) for s, f in zip(small, rows["file"], strict=True)]
    beside = next(iter(sorted(path.parent.glob("*.meta.tsv"))), None)
    if beside is None:
        return rows
    names = pd.read_csv(beside, sep="\t", dtype=str, on_bad_lines="skip").rename(columns=JAMENDO)
    return rows.merge(names[["TRACK_ID", *JAMENDO.values()]], on="TRACK_ID", how="left")


def genre_of(tags: str) -> str:
    """The first genre among tags such as "genre---hiphop", "mood/theme---happy"."""
    genres = [tag.removeprefix("genre---") for tag in tags.split() if tag.startswith("genre---")]
    return genres[0] if genres else ""
