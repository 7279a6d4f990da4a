"""Read lists of music: which file has which title, artist, album, genre, date. CSV, TSV or JSON, in several layouts.

FMA (https://github.com/mdeff/fma): tracks.csv, three rows of headers, files by number: 000/000002.mp3.
MTG-Jamendo (https://github.com/MTG/mtg-jamendo-dataset): *.tsv with TRACK_ID and PATH; names in *.meta.tsv beside it.
Any other list: a column `file` (or `path`), and any of title, artist, album, genre, date, licence, split; CSV with
commas, semicolons, tabs or vertical bars, or as a first line `sep=;` says. Text is UTF-8, or UTF-16 with its mark.
"""

import codecs
import csv
import io
import json
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

KINDS = (".csv", ".tsv", ".json", ".jsonl")
TAGS = ("title", "artist", "album", "genre", "date", "licence", "split")
SAME = {"path": "file", "filename": "file", "name": "title", "year": "date", "license": "licence"}
SEPARATORS = (",", ";", "\t", "|")
FMA = {
    ("track", "title"): "title",
    ("artist", "name"): "artist",
    ("album", "title"): "album",
    ("track", "genre_top"): "genre",
    ("album", "date_released"): "date",
    ("track", "license"): "licence",
}
JAMENDO = {"TRACK_NAME": "title", "ARTIST_NAME": "artist", "ALBUM_NAME": "album", "RELEASEDATE": "date"}

Row = dict[str, str]


@dataclass
class Catalogue:
    """What a list says. files: file -> its tags, none of them empty. refused: (row or file, why it cannot be used)."""

    files: dict[Path, Row] = field(default_factory=dict)
    refused: list[tuple[str, str]] = field(default_factory=list)


def read_catalogue(path: Path, audio: Path) -> Catalogue:
    """Read the list at `path`, whose files lie below the folder `audio`.

    A row that cannot be read, or names no file, is refused by its number, a file that is missing or listed again by its
    name. Raises ValueError for an empty list, one of no known layout, or one that names a file outside of `audio`.
    """
    catalogue = Catalogue()
    text = text_of(path)
    if not text.strip():
        raise ValueError(f"{path}: the list is empty: choose another file")
    try:
        rows = rows_of(text, path, audio, catalogue.refused)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError, csv.Error) as error:
        mend = "a column `file` is needed, see mousai/data/catalogues.py"
        raise ValueError(f"{path}: not a list of music: {mend}") from error
    for number, row in rows:
        name = row.get("file", "")
        place = Path(name.replace("\\", "/"))  # Windows' separator, unless it is a part of the name
        if place.is_absolute() or ".." in place.parts or "\0" in name:
            raise ValueError(f"{path}: {name!r} points outside of {audio}: nothing of it is used")
        file = (existing(audio / name) or existing(audio / place)) if name else None
        if not name:
            catalogue.refused.append((f"row {number} of {path.name}", "no file name"))
        elif file is None:
            catalogue.refused.append((name, "listed, but not there"))
        elif file in catalogue.files:
            catalogue.refused.append((name, "listed again, its first row counts"))
        else:
            catalogue.files[file] = {tag: row[tag] for tag in TAGS if row.get(tag)}
    return catalogue


def text_of(path: Path) -> str:
    """The text of a list, in UTF-16 where its mark says so, else in UTF-8."""
    with path.open("rb") as file:
        is_utf_16 = file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    return path.read_text(encoding="utf-16" if is_utf_16 else "utf-8-sig", errors="replace")


def existing(file: Path) -> Path | None:
    """The file under this name, or under another Unicode form of it (NFC, NFD); None where there is none."""
    forms = (str(file), unicodedata.normalize("NFC", str(file)), unicodedata.normalize("NFD", str(file)))
    return next((Path(form) for form in forms if is_file(Path(form))), None)


def is_file(path: Path) -> bool:
    """Whether it is a file that may be looked at; False, too, for a name that no file system accepts."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def rows_of(text: str, path: Path, audio: Path, refused: list[tuple[str, str]]) -> list[tuple[int, Row]]:
    """(its number from 1, or of its last line, and a row with `file` and the tags), of the list `text` that was read
    from `path`; a row that does not fit the header is added to `refused`.
    """
    ending = path.suffix.lower()
    if ending == ".json":
        return [*enumerate(map(named, json.loads(text)), 1)]
    if ending == ".jsonl":
        return [(i, named(json.loads(line))) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    head = text.split("\n", 1)[0].strip("\r")
    if {"TRACK_ID", "PATH"} <= set(head.split()):
        return [*enumerate(jamendo(path, text, audio), 1)]
    if {"album", "artist", "track"} <= set(head.split(",")) and head.startswith(","):
        return [*enumerate(fma(text), 1)]
    said = re.match(r'"?sep=(.)"?\n', text, re.IGNORECASE)  # Excel's first line, which is no header
    separator = said[1] if said else max(SEPARATORS, key=head.count)
    header, *lines = numbered(text[said.end() - 1 :] if said else text, separator)
    columns = [str(name).strip().lower() for name in header[1]]
    if not {"file", *(name for name in SAME if SAME[name] == "file")} & set(columns):
        raise ValueError("no column `file`")
    rows = []
    for number, values in lines:
        if len(values) > len(columns):
            refused.append((f"row {number} of {path.name}", f"{len(values)} fields, the header has {len(columns)}"))
        else:
            rows.append((number, named(dict(zip(columns, values, strict=False)))))
    return rows


def numbered(text: str, separator: str) -> list[tuple[int, list[str]]]:
    """(number of its last line, fields) of every row that is not empty, the header first.

    A quotation mark may open a field of several lines, or belong to a title. It belongs to the text where fields are
    separated by tabs, and where the rows would otherwise not have as many fields as the header.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        rows = [(reader.line_num, row) for row in reader if any(value.strip() for value in row)]
        if separator != "\t" and all(len(row) == len(rows[0][1]) for _, row in rows):
            return rows
    except csv.Error:  # a quotation mark that belongs to the text
        pass
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        quoting = csv.QUOTE_NONE if line.count('"') % 2 else csv.QUOTE_MINIMAL
        fields = next(csv.reader([line.rstrip("\r")], delimiter=separator, quoting=quoting), [])
        if any(value.strip() for value in fields):
            rows.append((number, fields))
    return rows


def named(row: dict[str, Any]) -> Row:
    """The row under our names, as text. Case does not matter; of two columns that mean the same the first that is not
    empty counts, and the first of several values (JSON).
    """
    found: Row = {}
    for name, values in row.items():
        value = next(iter(values), None) if isinstance(values, list) else values
        key = str(name).strip().lower()
        text = "" if value is None else str(value).strip()
        if text:
            found.setdefault(SAME.get(key, key), text)
    if "copyright" in found:
        found.setdefault("licence", found["copyright"])
    return found


def fma(text: str) -> list[Row]:
    """Rows of FMA's tracks.csv; a track's number gives the path of its file."""
    upper, lower, *lines = csv.reader(io.StringIO(text, newline=""))
    places = {FMA[pair]: i for i, pair in enumerate(zip(upper, lower, strict=True)) if pair in FMA}
    rows = []
    for values in lines:
        if not values or not values[0].isdigit():  # the third row of headers names the index
            continue
        name = f"{int(values[0]):06d}"
        rows.append({"file": f"{name[:3]}/{name}.mp3"} | {tag: values[i] for tag, i in places.items()})
    return rows


def jamendo(path: Path, text: str, audio: Path) -> list[Row]:
    """Rows of a list of MTG-Jamendo. Its tags are columns without a name; titles come from the first *.meta.tsv, by the
    track's number. Nothing is quoted, so a quotation mark belongs to the text.
    """
    beside = sorted(path.parent.glob("*.meta.tsv"))
    names: dict[str, Row] = {}
    for meta in beside[:1]:
        header, *lines = meta.read_text(encoding="utf-8", errors="replace").split("\n")
        for line in lines:
            row = dict(zip(header.split("\t"), line.split("\t"), strict=False))
            if not row["TRACK_ID"]:
                continue
            names[row["TRACK_ID"]] = {ours: row[theirs].strip() for theirs, ours in JAMENDO.items() if row.get(theirs)}
    rows = []
    for line in text.split("\n")[1:]:
        values = line.split("\t", 5)
        if len(values) > 3:
            small = str(Path(values[3]).with_suffix(".low.mp3"))  # the set's smaller version
            file = small if is_file(audio / small) else values[3]
            rows.append({"file": file, "genre": genre_of(values[-1])} | names.get(values[0], {}))
    return rows


def genre_of(tags: str) -> str:
    """The first genre among tags such as "genre---hiphop mood/theme---happy", or ""."""
    genres = [tag.removeprefix("genre---") for tag in tags.split() if tag.startswith("genre---")]
    return genres[0] if genres else ""
