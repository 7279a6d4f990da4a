"""Strangers' music: used where it can be, else listed with the reason; nothing stops an import or leaves its folder."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from helpers.music import RATE, tag, tone, write, write_lossy
from torch.testing import assert_close

from mousai import cli
from mousai.data import archives, decoded, imported
from mousai.data.clips import RandomCrops
from mousai.data.dataset import DataSet
from mousai.data.decoded import resampled_blocks
from mousai.data.imported import Wanted, import_music
from mousai.data.lengths import fits_encoder
from mousai.data.records import caption, load_chunk, prompt, read_manifest, training_caption
from mousai.small.profiles import SMOKE

CHUNK = 2**15
LONG_NAME = "é" * 125 + ".flac"  # 255 bytes
ODD_NAMES = [
    "two words.wav",
    'it\'s "quoted".wav',
    "a\nnew line.wav",
    "\u202eright to left.wav",
    LONG_NAME,
    os.fsdecode(b"\xff\xfe.wav"),
]


def skipped(out: Path) -> dict[str, str]:
    with (out / "skipped.csv").open(newline="") as file:
        return {row["file"]: row["reason"] for row in csv.DictReader(file)}


def bring(source: Path, out: Path, jobs: int = 1, **wanted) -> dict[str, int]:
    return import_music(source, out, Wanted(CHUNK, SMOKE.data, **wanted), jobs).counts()


def run(source: Path, jobs: int = 1) -> tuple[dict[str, int], Path]:
    out = source.with_name(f"{source.name}-out")
    return bring(source, out, jobs), out


@pytest.fixture
def music(tmp_path) -> Path:
    return tmp_path / "music"


def test_tags_become_a_record_and_whole_chunks_its_sound(music):
    said = {"title": "A Tune", "artist": "Somebody", "album": "Songs", "genre": "Pop", "date": "1987-03-01"}
    tag(write(music / "a.flac", tone(1.5, RATE)), easy=True, **said)
    counts, out = run(music)
    assert counts == {"pieces": 1, "chunks": 2}
    [record] = read_manifest(out / "manifest.jsonl")
    assert (record.title, record.artist, record.album) == ("A Tune", "Somebody", "Songs")
    assert (record.genre, record.year) == ("Pop", 1987)
    assert (record.samples, record.chunks, record.source) == (2 * CHUNK, 2, "a.flac")
    chunk = load_chunk(record, 2, out)
    assert_close(chunk, tone(1.5, RATE)[CHUNK : 2 * CHUNK].T.astype(np.float32), atol=1e-4, rtol=0)


@pytest.mark.parametrize("rate", [8_000, 11_127, 22_050, 44_100, 96_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_every_rate_and_number_of_channels_becomes_48_khz_stereo(music, rate, channels):
    write(music / "a.wav", tone(1, rate, channels), rate, subtype="FLOAT")
    _, out = run(music)
    [record] = read_manifest(out / "manifest.jsonl")
    wave, found = soundfile.read(out / record.file)
    assert (wave.shape, found) == ((CHUNK, 2), RATE)
    expected = tone(1, RATE, channels)[:CHUNK]
    if channels == 6:  # front, centre, back at -3 dB each, without the subwoofer
        left, right, centre, _, back_left, back_right = expected.T
        half = 0.5**0.5
        expected = np.stack([left + half * (centre + back_left), right + half * (centre + back_right)], axis=1)
    middle = slice(2_000, CHUNK - 2_000)  # a resampler rings at the edges
    assert_close(wave[middle], np.broadcast_to(expected, wave.shape)[middle].copy(), atol=2e-3, rtol=0)


def test_blocks_are_the_same_as_one_piece(music, monkeypatch):
    path = write(music / "a.wav", tone(2, 44_100), 44_100, subtype="FLOAT")
    whole = np.concatenate(list(resampled_blocks(path)), axis=1)
    monkeypatch.setattr(decoded, "BLOCK", 1_000)
    parts = np.concatenate(list(resampled_blocks(path)), axis=1)
    assert whole.shape == (2, 2 * RATE)
    assert_close(parts, whole, atol=1e-6, rtol=0)


@pytest.mark.parametrize("ending", ["mp3", "ogg", "aiff"])
def test_other_kinds_of_files_are_read(music, ending):
    write(music / f"a.{ending}", tone(1, 44_100), 44_100)
    assert run(music)[0]["pieces"] == 1


@pytest.mark.parametrize(
    "error", [av.error.DecoderNotFoundError, av.error.PatchWelcomeError, av.error.ExternalError, av.error.EOFError]
)
def test_whatever_ffmpeg_says_of_a_file_stops_no_import(music, monkeypatch, error):
    write(music / "good.wav", tone(2, RATE))
    (music / "odd.m4a").write_bytes(b"odd")

    def refuse(*_):
        raise error(1, "refused")

    monkeypatch.setattr(av, "open", refuse)
    counts, out = run(music)
    assert counts["pieces"] == 1
    assert skipped(out)["odd.m4a"] == decoded.DAMAGED


@pytest.mark.parametrize("rate", [22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_m4a_is_read_with_its_tags(music, rate, channels):
    write_lossy(music / "a.m4a", tone(1.8, rate, channels), rate, title="A Tune")
    _, out = run(music)
    [record] = read_manifest(out / "manifest.jsonl")
    assert (record.title, record.chunks, record.source) == ("A Tune", 2, "a.m4a")
    wave, middle = load_chunk(record, 1, out), slice(4_000, CHUNK - 4_000)
    if channels != 6:  # of six the encoder mixes none, but the order of its channels is its own
        expected = np.broadcast_to(tone(1.8, RATE, channels)[:CHUNK].T.astype(np.float32), wave.shape)
        assert_close(np.asarray(wave)[:, middle], expected[:, middle].copy(), atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.aac", "aac"), ("a.wma", "wmav2"), ("a.mp4", "aac"), ("a.webm", "libopus"), (ODD_NAMES[1] + ".M4A", "aac")],
)
def test_other_files_that_libsndfile_does_not_know_are_read(music, name, codec):
    write_lossy(music / "b.m4a", tone(2, RATE), RATE)
    written = write_lossy(music / f"a{Path(name).suffix.lower()}", tone(2, RATE, pitch=300), RATE, codec)
    written.rename(music / name)
    assert run(music)[0]["pieces"] == 2


def test_a_damaged_m4a_is_listed_and_stops_nothing(music):
    whole = write_lossy(music / "good.m4a", tone(2, RATE), RATE).read_bytes()
    (music / "cut.m4a").write_bytes(whole[: len(whole) // 2])
    (music / "text.m4a").write_text("#EXTM3U\n/etc/passwd\n")
    (music / "empty.m4a").touch()
    with av.open(str(music / "film.m4a"), "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        container.mux([*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode(None)])
    counts, out = run(music)
    reasons = skipped(out)
    assert counts["pieces"] == 1 and reasons["empty.m4a"] == "empty" and reasons["film.m4a"] == "no sound in it"
    for name in ("cut.m4a", "text.m4a"):
        assert reasons[name] == decoded.DAMAGED


def test_what_cannot_be_used_is_listed_with_the_reason(music):
    good = write(music / "good.flac", tone(2, RATE))
    whole = good.read_bytes()
    (music / "empty.wav").touch()
    (music / "text.mp3").write_text("not a sound")
    (music / "cut off.flac").write_bytes(whole[:100])
    (music / "cut later.flac").write_bytes(whole[: len(whole) // 2])
    damaged = bytearray(whole)
    damaged[len(whole) // 3 : len(whole) // 3 + 4000] = os.urandom(4000)
    (music / "damaged.flac").write_bytes(damaged)
    write(music / "short.wav", tone(0.1, RATE))
    write(music / "silent.wav", 0 * tone(1, RATE))
    broken = tone(1, RATE)
    broken[30_000] = np.nan
    write(music / "nan.wav", broken, subtype="FLOAT")
    write(music / "loud.wav", 30_000 * tone(1, RATE), subtype="FLOAT")
    write(music / "twice.flac", tone(2, RATE))
    os.mkfifo(music / "pipe.wav")  # reading it would wait for ever
    (music / "gone.wav").symlink_to("nowhere")
    (music / "cover.jpg").write_bytes(b"no music")
    counts, out = run(music)
    reasons = skipped(out)
    assert reasons["empty.wav"] == "empty"
    assert reasons["text.mp3"].startswith("not readable as sound")
    assert reasons["cut off.flac"].startswith("not readable as sound")
    assert reasons["short.wav"] == "shorter than a chunk of 0.7 s: 0.1 s"
    assert reasons["silent.wav"] == "silent"
    assert reasons["nan.wav"] == "holds numbers that are not finite: after 0 s"
    assert reasons["loud.wav"].startswith("sample values are not in -1 to 1: its peak is")
    assert reasons["twice.flac"] == "the same sound: good.flac"
    assert reasons["pipe.wav"] == reasons["gone.wav"] == "not a file: a pipe, a device, or a link to nothing"
    assert reasons["cover.jpg"] == "not a kind of music file: .jpg" and "good.flac" not in reasons
    assert {record.source for record in read_manifest(out / "manifest.jsonl")} >= {"good.flac"}
    assert counts["not readable as sound"] >= 2 and counts["the same sound"] == 1
    assert not list((out / "audio").glob(".*"))


def test_odd_names_are_used_and_written_as_text(music):
    music.mkdir()
    for i, name in enumerate(ODD_NAMES):
        write(music / name, tone(1, RATE, pitch=300 + 10 * i))
    counts, out = run(music)
    assert counts["pieces"] == len(ODD_NAMES)
    titles = {record.title for record in read_manifest(out / "manifest.jsonl")}
    assert {"two words", 'it\'s "quoted"', "a new line"} < titles and len(titles) == len(ODD_NAMES)
    assert all(title.isprintable() for title in titles)


def test_wrong_tags_are_no_reason_to_leave_music_out(music):
    path = write(music / "a.mp3", tone(1, 44_100), 44_100)
    path.write_bytes(b"ID3\x04\x00\xff\x7f\x7f\x7f\x7f" + path.read_bytes())
    wav = write(music / "b.mp3", tone(1, RATE, pitch=500), format="WAV")  # the ending lies
    counts, out = run(music)
    records = read_manifest(out / "manifest.jsonl") if counts.get("pieces") else []
    assert wav.name in {record.source for record in records}
    assert counts["pieces"] + sum(n for reason, n in counts.items() if reason not in ("pieces", "chunks")) == 2


def test_a_second_import_reads_only_what_is_new(music, monkeypatch):
    write(music / "a.wav", tone(1, RATE))
    (music / "bad.wav").write_text("x")
    _, out = run(music)
    before = (out / "manifest.jsonl").read_text()
    with (out / "journal.jsonl").open("a") as file:
        file.write('{"torn')
    asked, ours = [], imported.import_one
    monkeypatch.setattr(imported, "import_one", lambda job: asked.append(job.file.name) or ours(job))
    assert run(music)[0]["pieces"] == 1
    assert asked == [] and (out / "manifest.jsonl").read_text() == before
    write(music / "b.wav", tone(1, RATE, pitch=600))
    [path] = (out / "audio").iterdir()
    path.write_bytes(b"damaged since")
    assert run(music)[0]["pieces"] == 2
    assert asked == ["a.wav", "b.wav"]


@pytest.mark.system
def test_a_decoder_that_crashes_takes_only_its_own_file_with_it(music, monkeypatch):
    for i, name in enumerate(("a.wav", "crash.wav", "z.wav")):
        write(music / name, tone(1, RATE, pitch=300 + 100 * i))
    monkeypatch.setattr(imported, "import_one", crashing)
    counts, out = run(music, jobs=2)
    assert counts == {"pieces": 2, "chunks": 2, "its decoder crashed": 1}
    assert skipped(out) == {"crash.wav": "its decoder crashed"}


def crashing(job):
    if job.file.name == "crash.wav":
        os._exit(11)
    return imported.import_one(job)


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_are_read_and_refused_whole_where_a_member_points_outside(tmp_path, pack):
    sound = io.BytesIO()
    soundfile.write(sound, tone(1, RATE), RATE, format="WAV")
    good = pack(tmp_path / "good", {"album/a.wav": sound.getvalue()})
    assert bring(good, tmp_path / "out") == {"pieces": 1, "chunks": 1}
    for name in ("../evil.wav", "/tmp/mousai-evil.wav", "a/../../evil.wav", "..\\evil.wav", "C:\\evil.wav"):
        bad = pack(tmp_path / "bad", {"a.wav": sound.getvalue(), name: b"x"})
        with pytest.raises(ValueError, match="points outside the folder: nothing of it is used"):
            bring(bad, tmp_path / "new")
        assert not list(tmp_path.rglob("*evil*")) and not (tmp_path / "new" / "unpacked").exists()
        shutil.rmtree(tmp_path / "new", ignore_errors=True)


def test_links_in_a_tar_that_lead_outside_are_refused(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as file:
        info = tarfile.TarInfo("a.wav")
        info.type, info.linkname = tarfile.SYMTYPE, "../../../etc/passwd"
        file.addfile(info)
    with pytest.raises(ValueError, match="nothing of it is used"):
        bring(tmp_path / "a.tar", tmp_path / "out")
    assert not (tmp_path / "out" / "unpacked").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 torn", b"plain text"])
def test_a_damaged_archive_is_one_clear_line(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.zip: not an intact \.zip or \.tar"):
        bring(tmp_path / "a.zip", tmp_path / "out")


def test_an_archive_that_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    zipped(tmp_path / "a.zip", {"a.wav": bytes(5_000)})
    usage = shutil.disk_usage(tmp_path)._replace(free=4_000)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match="unpacked it is more than fits on this disk"):
        bring(tmp_path / "a.zip", tmp_path / "out")


FMA_LIST = """,album,album,artist,track,track,track
,date_released,title,name,genre_top,title,license
track_id,,,,,,
2,2009-01-05 00:00:00,AWOL,AWOL,Hip-Hop,Food,CC BY
137,,"Songs, old",Somebody,,Walls,
"""
JAMENDO_LIST = """TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS
track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\tgenre---hiphop\tgenre---rap
"""
JAMENDO_NAMES = """TRACK_ID\tARTIST_ID\tALBUM_ID\tTRACK_NAME\tARTIST_NAME\tALBUM_NAME\tRELEASEDATE\tURL
track_0000948\tartist_000087\talbum_000149\tThe Tune\tThe Band\tThe Album\t2005-03-01\thttp
"""


def test_the_list_of_fma_is_read(music):
    for i, name in enumerate(("000/000002.mp3", "000/000137.mp3")):
        write(music / "audio" / name, tone(1, 44_100, pitch=300 + 50 * i), 44_100)
    (music / "tracks.csv").write_text(FMA_LIST)
    out = music / "out"
    assert bring(music / "tracks.csv", out, audio=music / "audio")["pieces"] == 2
    found = {(r.title, r.artist, r.album, r.genre, r.year, r.licence) for r in read_manifest(out / "manifest.jsonl")}
    assert found == {
        ("Food", "AWOL", "AWOL", "Hip-Hop", 2009, "CC BY"),
        ("Walls", "Somebody", "Songs, old", "", None, ""),
    }


def test_the_list_of_mtg_jamendo_is_read(music):
    write(music / "48" / "948.low.mp3", tone(1, 44_100), 44_100)
    (music / "raw_30s.tsv").write_text(JAMENDO_LIST)
    (music / "raw.meta.tsv").write_text(JAMENDO_NAMES)
    assert bring(music / "raw_30s.tsv", music / "out")["pieces"] == 1
    [record] = read_manifest(music / "out" / "manifest.jsonl")
    assert (record.title, record.artist, record.album) == ("The Tune", "The Band", "The Album")
    assert (record.genre, record.year) == ("hiphop", 2005)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", "File,Title,Year,more\na.wav,Another,1999,x\nnot there.wav,No,2000,y\n"),
        ("list.tsv", "path\ttitle\tdate\na.wav\tAnother\t1999\n"),
        ("list.json", '[{"file": "a.wav", "title": "Another", "year": 1999}]'),
        ("list.jsonl", '{"file": "a.wav", "title": "Another", "date": "1999-01-01"}\n'),
    ],
)
def test_other_lists_are_read_by_their_columns_and_go_before_the_files_own_tags(music, name, content):
    path = write(music / "a.wav", tone(1, RATE))
    (music / name).write_text(content)
    assert bring(music / name, music / "out")["pieces"] == 1
    [record] = read_manifest(music / "out" / "manifest.jsonl")
    assert (record.title, record.year, record.source) == ("Another", 1999, path.name)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("list.csv", "title\nA\n", "not a list of music"),
        ("list.csv", "", "the list is empty"),
        ("list.csv", "file\n../evil.wav\n", "'../evil.wav' points outside"),
        ("list.json", "{", "not a list of music"),
        ("list.json", '[{"file": "/etc/passwd"}]', "'/etc/passwd' points outside"),
        ("list.json", "[" * 50_000, "not a list of music"),
        ("list.tsv", "\0\0\0", "not a list of music"),
    ],
)
def test_a_list_that_is_none_or_points_outside_is_one_clear_line(music, name, content, said):
    music.mkdir()
    (music / name).write_text(content)
    with pytest.raises(ValueError, match=said):
        bring(music / name, music / "out")
    assert not (music / "out").exists()


def test_no_music_at_all_and_no_usable_music_are_one_clear_line(music):
    music.mkdir()
    with pytest.raises(ValueError, match="no music here"):
        run(music)
    (music / "a.wav").write_text("x")
    with pytest.raises(ValueError, match=r"none of 1 files can be used: the first, a\.wav: not readable as sound"):
        run(music)


@pytest.mark.system
def test_the_command_makes_a_data_set_that_training_reads(music, capsys):
    for i in range(12):
        write(music / f"artist {i}" / "a.wav", tone(12, 8_000, pitch=300 + 10 * i), 8_000)
    (music / "bad.wav").write_text("x")
    out = music.with_name("my data")
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "import", str(music), "--out", str(out), "--profile", "smoke"])
    assert left.value.code == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"{out}: 12 pieces, 48 chunks, 1 files skipped (1 not readable as sound): see skipped.csv"
    assert said[1].startswith("splits by artist: train ") and "no genre" in said[1]
    assert said[-1] == f"MOUSAI_DATA='{out}' mousai train dmae --profile smoke"
    records = DataSet(out).records("train")
    assert 0 < len(records) < 12
    assert RandomCrops(records, out, SMOKE.dmae.crop, 2, 0)(0).shape == (2, 2, SMOKE.dmae.crop)
    assert json.loads((out / "manifest.jsonl").read_text().splitlines()[0])["title"] == "a"
    words = caption(records[0], 1, np.random.default_rng(0), title_drop=0)
    assert set(words.replace(",", "").split()) <= {"a", "artist", records[0].artist.split()[1], "1", "of", "4"}


# Cases


def entries(out: Path) -> dict[str, str]:
    with (out / "notes.csv").open(newline="") as file:
        return {row["file"]: row["note"] for row in csv.DictReader(file)}


def in_chunks(*levels: float) -> np.ndarray:
    return np.concatenate([level * tone(CHUNK / RATE, level=1) for level in levels])


def test_silent_chunks_inside_a_piece_are_dropped_and_listed(music):
    write(music / "a.wav", in_chunks(0.3, 0, 0.2, 0, 0))
    _, out = run(music)
    [record] = read_manifest(out / "manifest.jsonl")
    assert (record.chunks, record.samples) == (2, 2 * CHUNK)
    assert np.abs(load_chunk(record, 2, out)).max() == pytest.approx(0.2, abs=0.01)
    assert entries(out) == {"a.wav": "silent chunks left out: 2, 4, 5 of 5"}


def test_a_file_that_ends_early_is_used_and_listed(music):
    path = write(music / "a.wav", tone(4))
    path.write_bytes(path.read_bytes()[: 2 * 4 * RATE])
    counts, out = run(music)
    assert counts["pieces"] == 1 and entries(out) == {"a.wav": "ends early: 2.0 s are there of 4.0 s"}


def test_what_is_louder_than_full_scale_is_brought_down_and_reported(music):
    write(music / "a.wav", in_chunks(3.0, 1.5), subtype="FLOAT")
    _, out = run(music)
    [record] = read_manifest(out / "manifest.jsonl")
    levels = [np.abs(load_chunk(record, k, out)).max() for k in (1, 2)]
    np.testing.assert_allclose(levels, [1, 0.5], atol=1e-3)
    assert entries(out)["a.wav"].startswith("brought down by 9.5 dB: its peak was 3")


def test_linked_folders_are_followed_once_and_everything_left_out_is_listed(music, tmp_path):
    write(music / "a.wav", tone(1))
    write(tmp_path / "elsewhere" / "b.wav", tone(1, pitch=600))
    (tmp_path / "elsewhere" / "notes.txt").touch()
    (music / "linked").symlink_to(tmp_path / "elsewhere")
    (music / "loop").symlink_to(music)
    (tmp_path / "elsewhere" / "again").symlink_to(tmp_path / "elsewhere")
    out = music / "out"  # what lies in it is no music of the folder
    assert [bring(music, out)["pieces"] for _ in range(2)] == [2, 2]
    read_already = "a folder that is read already, under another name"
    assert skipped(out) == {
        "linked/notes.txt": "not a kind of music file: .txt", "linked/again": read_already, "loop": read_already,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("date", "year"),
    [("20141108", 2014), ("2014-11-08", 2014), ("1988", 1988), ("8.11.1988", 1988), ("201411", 2014), ("123456", None)],
)
def test_dates_as_people_write_them(music, date, year):
    tag(write(music / "a.flac", tone(1)), DATE=date)
    _, out = run(music)
    assert read_manifest(out / "manifest.jsonl")[0].year == year


def test_an_artist_in_two_forms_of_unicode_is_one_artist_and_several_are_kept(music):
    for i, name in enumerate(("Bj\u00f6rk", "Bjo\u0308rk")):
        tag(write(music / f"{i}.flac", tone(1, pitch=300 + 50 * i)), artist=[name, "Another"])
    _, out = run(music)
    records = read_manifest(out / "manifest.jsonl")
    assert {(record.artist, record.more_artists) for record in records} == {("Bj\u00f6rk", ("Another",))}


def test_folders_and_options_stand_in_for_tags_that_are_missing(music, tmp_path):
    write(music / "Band" / "Record" / "a.wav", tone(1))
    write(music / "b.wav", tone(1, pitch=600))
    done = import_music(music, tmp_path / "out", Wanted(CHUNK, SMOKE.data, genre="Dub", artist=""), 1)
    about = {(r.title, r.artist, r.album, r.genre) for r in done.records}
    assert about == {("a", "Band", "Record", "Dub"), ("b", "", "", "Dub")}
    done = import_music(music, tmp_path / "more", Wanted(CHUNK, SMOKE.data), 1)
    assert done.untagged() == 1


def test_an_edited_manifest_is_not_undone(music):
    write(music / "a.wav", tone(1))
    _, out = run(music)
    assert run(music)[0]["pieces"] == 1
    path = out / "manifest.jsonl"
    path.write_text(path.read_text().replace('"genre": ""', '"genre": "Dub"'))
    with pytest.raises(ValueError, match="edited since it was written, an import would undo that"):
        run(music)
    assert '"Dub"' in path.read_text()


def test_a_column_of_the_list_says_the_split(music, tmp_path):
    rows = ["file,split"]
    for i, split in enumerate(("train", "validation", "test", "train")):
        write(music / f"{i}.wav", tone(1, pitch=300 + 50 * i))
        rows.append(f"{i}.wav,{split}")
    (music / "list.csv").write_text("\n".join(rows))
    done = import_music(music / "list.csv", tmp_path / "out", Wanted(CHUNK, SMOKE.data), 1)
    assert {r.source: r.split for r in done.records} == dict(
        zip(("0.wav", "1.wav", "2.wav", "3.wav"), ("train", "valid", "test", "train"), strict=True)
    )


def test_missing_files_and_bad_rows_of_a_list_are_listed(music, tmp_path):
    write(music / "a.wav", tone(1))
    (music / "list.csv").write_text("file,title\na.wav,A\ngone.wav,B\nb.wav,C,D\n")
    assert bring(music / "list.csv", tmp_path / "out")["pieces"] == 1
    assert skipped(tmp_path / "out") == {
        "gone.wav": "listed, but not there",
        "row 4 of list.csv": "3 fields, the header has 2",
    }


def test_captions_that_are_too_long_are_counted_and_lose_whole_elements_but_not_the_segment_tag(music, tmp_path):
    words = "Concerto for two violins and string orchestra in a minor key by an unknown hand of the school of Leipzig "
    for i in range(3):
        path = write(music / f"{i}.flac", tone(1, pitch=300 + 50 * i))
        tag(path, title=f"{words}{i}", album=words, artist=words)
    done = import_music(music, tmp_path / "out", Wanted(CHUNK, SMOKE.data), 1)
    fits = fits_encoder(SMOKE.tcld.text)
    assert done.too_long(fits) == 3
    for seed in range(50):
        text = training_caption(done.records[0], 1, np.random.default_rng(seed), 0.0, fits)
        assert fits(text)
    assert prompt(done.records[0], 1, fits).endswith("1 of 1") and fits(prompt(done.records[0], 1, fits))


@pytest.mark.system
def test_where_nothing_is_as_long_as_a_chunk_the_profile_that_would_fit_is_named(music, capsys):
    write(music / "a.wav", tone(12, 8_000), 8_000)
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "import", str(music), "--out", str(music.with_name("out"))])
    said = capsys.readouterr().err
    assert left.value.code == 2 and "12.0 s, a chunk 43.7 s of --profile a100: --profile cpu cuts shorter ones" in said


@pytest.mark.system
def test_a_script_without_a_main_guard_that_imports_music_is_told_of_it(music):
    write(music / "a.wav", tone(2))
    script = music.with_name("script.py")
    script.write_text(
        "import sys\nfrom pathlib import Path\nfrom mousai.data.imported import Wanted, import_music\n"
        "from mousai.small.profiles import SMOKE\n"
        f"source, out = Path({str(music)!r}), Path({str(music)!r} + '-out')\n"
        f"import_music(source, out, Wanted({CHUNK}, SMOKE.data), int(sys.argv[1]))\n"
    )
    done = [subprocess.run([sys.executable, script, n], capture_output=True, text=True, timeout=200) for n in "21"]
    assert done[0].returncode == 1 and 'below `if __name__ == "__main__":`, or use one job' in done[0].stderr
    assert done[1].returncode == 0, "one job needs no other process"
    assert not skipped(music.with_name("music-out"))
