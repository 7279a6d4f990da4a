"""The tags of a sound file, under one set of names for every container.

ID3 (MP3, WAV, AIFF), MP4, Vorbis comments (FLAC, Ogg, Opus), ASF (WMA) and APE are read by mutagen; LIST/INFO of WAV
and other chunks by libsndfile; what neither reads, such as Matroska, by FFmpeg.
"""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import soundfile

LONGEST = 200  # characters of a tag; the rest is cut off
ALBUM_ARTIST = ("albumartist", "album artist", "album_artist", "tpe2", "aart", "wm/albumartist")
ORIGINAL_DATE = ("originaldate", "originalyear", "tdor", "tory", "tdrl")
NAMES = {
    "title": ("title", "tit2", "©nam", "tracktitle", "name"),
    "artist": ("artist", "artists", "tpe1", "©art", "author", "performer", *ALBUM_ARTIST),
    "album": ("album", "talb", "©alb", "wm/albumtitle", "albumtitle"),
    "genre": ("genre", "tcon", "©gen", "wm/genre", "style"),
    "date": ("date", "tdrc", "year", "tyer", "©day", "wm/year", *ORIGINAL_DATE),
    "licence": ("license", "licence", "licenseurl", "wcop", "copyright", "tcop", "cprt", "©cpy", "rights"),
}  # our name -> the containers' names in lower case, in order of preference


def read_tags(file: Path) -> dict[str, list[str]]:
    """Our name -> its values, cleaned, each once; names without a value are left out. Damaged tags are ignored."""
    found: dict[str, list[str]] = {}
    for source in (by_mutagen, by_libsndfile, by_ffmpeg):
        try:
            for name, values in source(file).items():
                found.setdefault(name, values)
        except Exception:  # parsers of untrusted files raise nearly anything
            continue
        if ours_of(found):
            break
    return ours_of(found)


def ours_of(found: dict[str, list[str]]) -> dict[str, list[str]]:
    """Our name -> values, from `found`: the containers' names in lower case -> values."""
    best = {ours: next((found[name] for name in theirs if name in found), []) for ours, theirs in NAMES.items()}
    return {ours: texts for ours, texts in best.items() if texts}


def by_mutagen(file: Path) -> dict[str, list[str]]:
    """What mutagen finds: the container's name in lower case -> values."""
    import mutagen

    with file.open("rb") as opened:
        tags = mutagen.File(opened)  # type: ignore[reportPrivateImportUsage]
    version = getattr(getattr(tags, "tags", None), "version", None)  # of ID3
    found: dict[str, list[str]] = {}
    for key, value in (tags or {}).items():  # type: ignore[union-attr]
        name = str(key).lower()
        if name.startswith(("txxx:", "----:")):  # ID3 and MP4: user-defined names
            name = name.rsplit(":", 1)[-1]
        texts = cleaned(texts_of(value))
        if key == "TPE1" and version == (2, 3, 0):
            texts = cleaned([artist for text in texts for artist in artists_of(text)])
        if texts:
            found[name] = list(dict.fromkeys([*found.get(name, []), *texts]))
    return found


def artists_of(text: str) -> list[str]:
    """The artists of a text of ID3v2.3, which separates several by "/". "AC/DC" is one, because a part has no small
    letter.
    """
    parts = text.split("/")
    return parts if all(any(letter.islower() for letter in part) for part in parts) else [text]


def texts_of(value: Any) -> Iterator[str]:
    """The texts of a value of any container: ID3 frames, lists, bytes, ASF and APE values."""
    if isinstance(value, bytes):
        yield value.decode(errors="replace")
    elif isinstance(value, str):
        yield from value.split("\0")  # APE, and some ID3, separate several values so
    elif isinstance(value, list | tuple):
        for one in value:
            yield from texts_of(one)
    elif hasattr(value, "genres"):  # ID3's genre numbers, by their names
        yield from value.genres
    elif hasattr(value, "text"):
        yield from texts_of(value.text)
    elif hasattr(value, "url"):
        yield value.url
    elif hasattr(value, "value"):
        yield from texts_of(value.value)
    else:
        yield str(value)


def by_libsndfile(file: Path) -> dict[str, list[str]]:
    """What libsndfile finds: name -> values. Only files that begin as `KNOWN` says; it would try others as MP3."""
    from mousai.data.decoded import KNOWN

    with file.open("rb") as opened:
        if opened.read(4) not in KNOWN:
            return {}
    with soundfile.SoundFile(os.fsencode(file)) as sound:  # type: ignore[arg-type]
        return {name: texts for name, text in sound.copy_metadata().items() if (texts := cleaned([text]))}


def by_ffmpeg(file: Path) -> dict[str, list[str]]:
    """What FFmpeg finds in the container, else in its first audio stream: name in lower case -> values."""
    import av

    with file.open("rb") as opened, av.open(opened, "r", options={"protocol_whitelist": "none"}) as container:
        streams = [dict(stream.metadata) for stream in container.streams.audio[:1]]
        found = {**(streams[0] if streams else {}), **dict(container.metadata)}
    return {name.lower(): texts for name, text in found.items() if (texts := cleaned(text.split(";")))}


def cleaned(texts: Iterator[str] | list[str]) -> list[str]:
    """The texts, cleaned, each once, in their order; empty ones are left out."""
    return list(dict.fromkeys(text for text in map(clean, texts) if text))


def clean(text: str) -> str:
    """One line of at most `LONGEST` printable characters, in Unicode's NFC form, so that equal texts compare equal."""
    composed = unicodedata.normalize("NFC", text)
    printable = "".join(letter if letter.isprintable() else " " for letter in composed)
    return " ".join(printable.split())[:LONGEST]
