"""Records, captions, clips, and the embedded data set from tune to file."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.processes import in_two_processes
from torch.testing import assert_close

from mousai.config import GENRES, DataConfig
from mousai.data import embedded
from mousai.data.arranger import arrange, chord_of
from mousai.data.clips import Chunks, RandomCrops
from mousai.data.dataset import DataSet, workspace
from mousai.data.records import (
    Record,
    caption,
    checked,
    load_chunk,
    load_crop,
    load_piece,
    prompt,
    read_manifest,
    write_manifest,
)
from mousai.data.sound import KNEE, PEAK, limit, render
from mousai.data.tunes import Tune, clean_title, headers, read_tune
from mousai.data.workers import Workers
from mousai.small.profiles import PROFILES, SMOKE

TINY = replace(SMOKE, name="tiny", data=DataConfig(pieces=12, piece_samples=2**16, valid_share=0.3, test_share=0.3))


@pytest.fixture(scope="module")
def prepared(tunes, tmp_path_factory) -> Path:
    """The tiny data set, made once in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "_tunes", lambda *_: tunes)
        return embedded.prepare(TINY.data, tmp_path_factory.mktemp("home") / "music", jobs=1, progress=False)


@pytest.fixture(scope="module")
def tunes() -> list[Tune]:
    return embedded._tunes(TINY.data, Workers(1), False)


@pytest.fixture
def known_tunes(tunes, monkeypatch) -> None:
    """Reading the same tunes again is left out."""
    monkeypatch.setattr(embedded, "_tunes", lambda *_: tunes)


@pytest.fixture(scope="module")
def records(prepared) -> list[Record]:
    return read_manifest(prepared / "manifest.jsonl")


def contents(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


# Captions


def test_a_prompt_names_every_element_in_a_fixed_order(records):
    record = replace(records[0], title="The X", artist="Y", album="Z", genre="Metal", year=1883, chunks=4)
    assert prompt(record, 2) == "The X, Y, Z, Metal, 1883, 2 of 4"
    assert prompt(replace(record, year=None), 4) == "The X, Y, Z, Metal, 4 of 4"


def test_each_caption_element_is_dropped_one_time_in_ten_and_commas_join_half(records):
    record = replace(records[0], title="aa", artist="bb", album="cc", genre="dd", year=1883)
    rng = np.random.default_rng(0)
    captions = [caption(record, 3, rng) for _ in range(1500)]
    for element in ("aa", "bb", "cc", "dd", "1883", "3 of 4"):
        assert_close(np.mean([element in text for text in captions]), 0.9, atol=0.03, rtol=0)
    assert_close(np.mean([", " in text for text in captions]), 0.5, atol=0.05, rtol=0)
    firsts = [text.startswith("aa") for text in captions]
    assert_close(np.mean(firsts), 1 / 6, atol=0.03, rtol=0)


def test_a_title_can_be_dropped_more_often_than_the_rest_and_nothing_else_changes(records):
    record = replace(records[0], title="aa", artist="bb", album="cc", genre="dd", year=1883)
    usual, rare = ([caption(record, 3, np.random.default_rng(i), drop) for i in range(600)] for drop in (0.1, 0.9))
    assert_close(np.mean(["aa" in text for text in rare]), 0.1, atol=0.04, rtol=0)
    without = lambda text: [part for part in text.replace(",", "").split() if part != "aa"]  # noqa: E731
    assert [without(text) for text in usual] == [without(text) for text in rare]


def test_the_same_generator_gives_the_same_caption(records):
    one, other = (caption(records[0], 1, np.random.default_rng(5)) for _ in range(2))
    assert one == other


@pytest.mark.parametrize("k", [0, 5])
def test_a_chunk_that_is_not_there_is_named(records, prepared, k):
    with pytest.raises(ValueError, match="chunks 1 to 4"):
        prompt(records[0], k)
    with pytest.raises(ValueError, match="chunks 1 to 4"):
        load_chunk(records[0], k, prepared)


# The data set


def test_no_tune_is_in_two_splits_and_every_genre_is_in_every_split(records):
    assert len({record.source for record in records}) == len(records) == TINY.data.pieces
    for split in ("train", "valid", "test"):
        genres = [record.genre for record in records if record.split == split]
        assert sorted(set(genres)) == sorted(GENRES)
        assert len(genres) == len(GENRES)


def test_a_tune_that_must_come_twice_stays_in_its_split(prepared, tunes, monkeypatch):
    monkeypatch.setattr(embedded, "_tunes", lambda *_: tunes[:5])
    jobs = list(embedded._plan(TINY.data, prepared, Workers(1), False))
    splits = {}
    for job in jobs:
        splits.setdefault(job.record.source, set()).add(job.record.split)
    assert len(jobs) == 12 and len(splits) == 5
    assert all(len(split) == 1 for split in splits.values())


@pytest.mark.system
def test_two_processes_write_the_same_bytes_as_one(prepared, tmp_path):
    again = embedded.prepare(TINY.data, tmp_path / "music", jobs=2, progress=False)
    assert contents(again) == contents(prepared)


def test_broken_and_missing_files_are_rendered_anew_and_whole_ones_kept(prepared, known_tunes):
    before = contents(prepared)
    audio = prepared / "audio"
    os.truncate(audio / "00003.flac", 1000)
    (audio / "00005.flac").unlink()
    (audio / ".00005.flac.tmp").write_bytes(b"half")
    kept = (audio / "00001.flac").stat().st_mtime_ns
    embedded.prepare(TINY.data, prepared, jobs=1, progress=False)
    assert contents(prepared) == before
    assert (audio / "00001.flac").stat().st_mtime_ns == kept


def test_an_interrupted_run_goes_on_where_it_was(prepared, known_tunes, tmp_path, monkeypatch):
    render_piece, rendered, root = embedded.render_piece, [], tmp_path / "music"

    def interrupted(job):
        if len(rendered) == 5:
            raise KeyboardInterrupt
        rendered.append(job.record.id)
        return render_piece(job)

    monkeypatch.setattr(embedded, "render_piece", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedded.prepare(TINY.data, root, jobs=1, progress=False)
    assert not (root / "manifest.jsonl").exists()
    with (root / "journal.jsonl").open("a") as journal:
        journal.write('{"id": "00009", "tit')  # torn
    first = rendered.copy()
    rendered.clear()
    monkeypatch.setattr(embedded, "render_piece", lambda job: rendered.append(job.record.id) or render_piece(job))
    embedded.prepare(TINY.data, root, jobs=1, progress=False)
    assert not set(first) & set(rendered)
    assert contents(root) == contents(prepared)


def test_the_seed_changes_what_is_made(tmp_path):
    other = replace(TINY, data=replace(TINY.data, seed=1))
    assert embedded.embedded_root(TINY, tmp_path) != embedded.embedded_root(other, tmp_path)
    few = [replace(profile.data, pieces=2) for profile in (TINY, other)]
    one, two = ({tune.header.title for tune in embedded._tunes(data, Workers(1), False)} for data in few)
    assert not one & two


def test_records_of_a_split_and_no_others(prepared, tmp_path):
    data = DataSet(prepared)
    assert {record.split for record in data.records("test")} == {"test"}
    assert len(data.records()) == TINY.data.pieces
    assert data.genres == GENRES and data.has("valid") and data.segments == 4
    with pytest.raises(ValueError, match="unknown split 'dev'"):
        data.records("dev")
    with pytest.raises(ValueError, match="jobs 0"):
        embedded.prepare(TINY.data, tmp_path, jobs=0)


def test_opening_a_data_set_never_makes_it_and_names_the_command_that_does(tmp_path):
    space = workspace(TINY, {"MOUSAI_HOME": str(tmp_path)})
    with pytest.raises(FileNotFoundError, match=r"no manifest .*: run `mousai data prepare --profile tiny` first"):
        _ = space.data
    assert not list(tmp_path.iterdir())
    own = workspace(TINY, {"MOUSAI_HOME": str(tmp_path), "MOUSAI_DATA": str(tmp_path / "mine")})
    with pytest.raises(FileNotFoundError, match=r"run `mousai data import FROM --out .*mine` first"):
        _ = own.data


def test_the_key_of_a_data_set_changes_with_its_content(prepared, records, tmp_path):
    write_manifest(records, tmp_path / "manifest.jsonl")
    assert DataSet(tmp_path).key == DataSet(prepared).key
    write_manifest([replace(records[0], title="another"), *records[1:]], tmp_path / "manifest.jsonl")
    assert DataSet(tmp_path).key != DataSet(prepared).key


@pytest.mark.system
def test_two_processes_that_prepare_one_data_set_wait_for_each_other(prepared, known_tunes, tmp_path, capfd):
    """Both report success, and what is there is what one alone makes."""
    root = tmp_path / "music"
    assert in_two_processes(lambda: embedded.prepare(TINY.data, root, jobs=1, progress=False)) == [0, 0]
    assert contents(root) == contents(prepared)
    assert "waiting for process" in capfd.readouterr().err


# Manifest and sound on disk


def test_a_manifest_comes_back_as_it_was_written(records, tmp_path):
    odd = [replace(records[0], title='Ó "quoted" \\ title', year=None), *records[1:]]
    write_manifest(odd, tmp_path / "manifest.jsonl")
    assert read_manifest(tmp_path / "manifest.jsonl") == odd
    assert all(json.loads(line) for line in (tmp_path / "manifest.jsonl").read_text("utf-8").splitlines())


@pytest.mark.parametrize(("name", "value"), [("title", 3), ("samples", 9.5), ("year", "1883"), ("tempo", None)])
def test_fields_of_another_kind_are_refused_where_nothing_else_checks_types(records, monkeypatch, name, value):
    monkeypatch.setattr("mousai.data.records.Record", SimpleNamespace)  # the tests' own hook is strict about classes
    with pytest.raises(ValueError, match=f"{name} is "):
        checked(vars(records[0]) | {name: value})


def test_a_torn_or_missing_manifest_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="mousai data prepare"):
        read_manifest(tmp_path / "manifest.jsonl")
    (tmp_path / "manifest.jsonl").write_text('{"id": 1}\n')
    with pytest.raises(ValueError, match="line 1: not a record"):
        read_manifest(tmp_path / "manifest.jsonl")


def test_chunks_in_order_are_the_piece(records, prepared):
    piece = load_piece(records[2], prepared)
    assert piece.shape == (2, 2**16) and piece.dtype == np.float32
    chunks = [load_chunk(records[2], k, prepared) for k in (1, 2, 3, 4)]
    assert_close(np.concatenate(chunks, axis=1), piece, atol=0, rtol=0)
    assert_close(load_crop(records[2], 1000, 50, prepared), piece[:, 1000:1050], atol=0, rtol=0)


def test_every_chunk_is_seen_once(records, prepared):
    chunks = Chunks(records, prepared)
    assert len(chunks) == 4 * len(records)
    record, k, wave = chunks[6]
    assert (record.id, k) == (records[1].id, 3)
    assert_close(wave, load_chunk(records[1], 3, prepared), atol=0, rtol=0)
    assert len({(record.id, k) for record, k, _ in chunks}) == len(chunks)


def test_a_batch_depends_on_seed_and_step_alone(records, prepared):
    crops = RandomCrops(records, prepared, crop=4096, batch=3, seed=1)
    first = crops(7)
    assert first.shape == (3, 2, 4096) and first.dtype == torch.float32
    crops(8)
    assert_close(crops(7), first, atol=0, rtol=0)
    assert not torch.equal(crops(8), first)
    assert not torch.equal(RandomCrops(records, prepared, 4096, 3, seed=2)(7), first)


def test_crops_that_cannot_be_are_named(records, prepared):
    with pytest.raises(ValueError, match="no records"):
        RandomCrops([], prepared, 4096, 2, 0)
    with pytest.raises(ValueError, match="longer than piece 00000"):
        RandomCrops(records, prepared, 2**17, 2, 0)
    with pytest.raises(ValueError, match="the piece has 65536 samples"):
        load_crop(records[0], 2**16 - 10, 11, prepared)


def test_a_corrupt_or_missing_file_is_named_with_its_mend(records, tmp_path):
    (tmp_path / "audio").mkdir()
    with pytest.raises(FileNotFoundError, match=r"00000.flac: missing: run `mousai data prepare`"):
        load_piece(records[0], tmp_path)
    (tmp_path / "audio" / "00000.flac").write_bytes(b"this is no music")
    with pytest.raises(ValueError, match=r"00000.flac: not readable as sound: run `mousai data prepare`"):
        load_piece(records[0], tmp_path)


def test_a_truncated_file_is_named_with_its_mend(records, prepared, tmp_path):
    (tmp_path / "audio").mkdir()
    data = (prepared / records[0].file).read_bytes()
    (tmp_path / records[0].file).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"00000.flac: .*run `mousai data prepare`"):
        load_piece(records[0], tmp_path)


# Tunes and arrangements


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("KILKENNY JIG, THE", "The Kilkenny Jig"),
        ("AMAZON -- HORNPIPE", "Amazon Hornpipe"),
        (" O'CONNELL'S WELCOME -- JIG", "O'Connell's Welcome Jig"),
        ("The Recruiting Officer.", "The Recruiting Officer"),
        ("T:Beebe's -- Hornpipe", "Beebe's Hornpipe"),
    ],
)
def test_titles_are_cleaned(raw, clean):
    assert clean_title(raw) == clean


def test_tunes_are_real_and_their_bars_hold_four_beats():
    header = next(header for header in headers() if header.title == "Amazon Hornpipe")
    assert (header.album, header.year) == ("Ryan's Mammoth Collection", 1883)
    tune = read_tune(header)
    assert tune is not None and tune.tonic == 7 and tune.sharps == 1 and not tune.minor
    assert all(start >= 0 and start + length <= 4.01 for bar in tune.bars for start, length, _ in bar)
    assert len({header.title for header in headers()}) == len(headers()) > 3000


def test_a_bar_of_c_e_g_is_a_chord_of_c():
    tune = replace(read_tune(headers()[0]), tonic=0, minor=False, sharps=0)
    assert chord_of(((0.0, 1.0, 60), (1.0, 1.0, 64), (2.0, 2.0, 67)), tune) == (0, False)
    assert chord_of(((0.0, 1.0, 62), (1.0, 1.0, 65), (2.0, 2.0, 69)), tune) == (2, True)


@pytest.mark.parametrize("genre", GENRES)
def test_the_intro_builds_and_the_ending_lets_go(genre):
    tune, samples = read_tune(headers()[7]), 2**19
    amplitudes = []
    for seed in range(2):
        arrangement = arrange(tune, genre, samples / 48_000, np.random.default_rng(seed))
        wave = render(arrangement, samples, 0.14)
        assert wave.shape == (2, samples) and np.abs(wave).max() <= PEAK
        assert np.sqrt(np.mean(wave**2)) > 0.1
        assert not np.array_equal(wave[0], wave[1])
        amplitudes.append(np.abs(wave).reshape(2, 4, -1).mean(axis=(0, 2)))
    first, second, third, last = np.mean(amplitudes, axis=0)
    assert first < 0.8 * min(second, third)
    assert last < 0.9 * min(second, third)


def test_within_a_genre_no_two_pieces_share_instruments_tempo_and_key():
    tune = read_tune(headers()[7])
    pieces = [arrange(tune, "Pop", 43.7, np.random.default_rng(seed)) for seed in range(6)]
    assert len({piece.midi for piece in pieces}) == 6
    assert len({(round(piece.tempo), piece.key) for piece in pieces}) >= 5


def test_the_limiter_leaves_what_is_below_its_knee():
    wave = np.linspace(-3, 3, 6001, dtype=np.float32).reshape(1, -1).repeat(2, axis=0)
    out = limit(wave.copy())
    low = np.abs(wave) <= KNEE
    assert_close(out[low], wave[low], atol=0, rtol=0)
    assert np.abs(out).max() <= PEAK and (np.diff(out) >= 0).all()


def test_the_cpu_profile_is_what_the_issue_asks_for():
    data = PROFILES["cpu"].data
    assert data.pieces >= 400 and data.piece_samples == 2**21 and data.chunks == 4
