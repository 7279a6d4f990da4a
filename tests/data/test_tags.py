"""Tags of every container by one set of names."""

import mutagen
import pytest
import soundfile
from helpers.music import RATE, tag, tone, write, write_lossy
from mutagen.id3 import ID3, TALB, TCON, TCOP, TIT2, TPE1, TXXX

from mousai.data.tags import clean, read_tags

ALL = {"title": "A Tune", "artist": "Somebody", "album": "Songs", "genre": "Pop", "date": "1987"}


@pytest.mark.parametrize(("ending", "codec"), [("m4a", "aac"), ("wma", "wmav2"), ("mka", "aac")])
def test_containers_of_ffmpeg(tmp_path, ending, codec):
    path = write_lossy(tmp_path / f"a.{ending}", tone(1), RATE, codec, copyright="CC0", **ALL)
    assert read_tags(path) == {name: [text] for name, text in (ALL | {"licence": "CC0"}).items()}


def test_list_info_of_wav(tmp_path):
    with soundfile.SoundFile(tmp_path / "a.wav", "w", RATE, 2) as file:
        for name, text in ALL.items():
            setattr(file, name, text)
        file.write(tone(1))
    assert read_tags(tmp_path / "a.wav") == {name: [text] for name, text in ALL.items()}


@pytest.mark.parametrize("ending", ["wav", "mp3", "aiff"])
def test_two_artists_are_the_same_two_in_every_container_of_id3(tmp_path, ending):
    path = write(tmp_path / f"a.{ending}", tone(1))
    tags = mutagen.File(path)
    tags.add_tags()
    for frame in (TPE1(3, ["A One", "B Two"]), TIT2(3, ["A Tune"]), TALB(3, ["Songs"]), TCON(3, ["(13)"])):
        tags.tags.add(frame)
    tags.tags.add(TCOP(3, ["1999 Somebody"]))
    tags.tags.add(TXXX(3, "LICENSE", ["CC-BY"]))
    tags.save()
    found = read_tags(path)
    assert found["artist"] == ["A One", "B Two"] and found["genre"] == ["Pop"] and found["licence"] == ["CC-BY"]


@pytest.mark.parametrize(("said", "meant"), [(["A One", "B Two"], ["A One", "B Two"]), (["AC/DC"], ["AC/DC"])])
@pytest.mark.parametrize("version", [3, 4])
def test_id3_before_version_4_separates_artists_by_a_slash(tmp_path, version, said, meant):
    path = write(tmp_path / "a.mp3", tone(1))
    tags = ID3()
    tags.add(TPE1(3, said))
    tags.save(path, v2_version=version)
    assert read_tags(path)["artist"] == meant


@pytest.mark.parametrize("name", ["ORIGINALYEAR", "ORIGINALDATE"])
def test_the_original_year_stands_in_for_a_date(tmp_path, name):
    path = write(tmp_path / "a.flac", tone(1))
    assert read_tags(tag(path, **{name: "1970"})) == {"date": ["1970"]}
    assert read_tags(tag(path, DATE="1999")) == {"date": ["1999"]}


@pytest.mark.parametrize("ending", ["ogg", "flac"])
def test_vorbis_comments_and_their_variants(tmp_path, ending):
    said = {"license": "CC-BY-SA-3.0", "copyright": "1988 Somebody", "YEAR": "1988", "albumartist": "Bjo\u0308rk"}
    path = tag(write(tmp_path / f"a.{ending}", tone(1)), **said)
    assert read_tags(path) == {"licence": ["CC-BY-SA-3.0"], "date": ["1988"], "artist": ["Bj\u00f6rk"]}


def test_damaged_tags_are_no_tags(tmp_path):
    path = write(tmp_path / "a.mp3", tone(1))
    path.write_bytes(b"ID3\x04\x00\xff\x7f\x7f\x7f\x7f" + path.read_bytes())
    assert read_tags(path) == {}


def test_text_is_one_short_printable_composed_line():
    assert clean(" a\n\tb\x00c\u202e ") == "a b c"
    assert clean("Bjo\u0308rk") == "Bj\u00f6rk"
    assert len(clean("x" * 10_000)) == 200
