"""Splits: whole artists, the profile's shares, none empty where it can be helped."""

from collections import Counter
from dataclasses import replace

import pytest

from mousai.data.records import Record
from mousai.data.splits import drawn, sizes, with_splits
from mousai.small.profiles import CPU, SMOKE

PIECE = Record("0", "T", "A", "B", "G", None, "", 0.0, "", "train", "a.flac", 4, 4, "", "a.wav")


def pieces(count: int, artists: int) -> list[Record]:
    return [replace(PIECE, id=str(i), title=f"T{i}", artist=f"artist {i % artists}") for i in range(count)]


def counted(records: list[Record]) -> Counter:
    return Counter(record.split for record in records)


@pytest.mark.parametrize("config", [CPU.data, SMOKE.data])
@pytest.mark.parametrize("artists", [1, 2, 3, 5, 8, 30])
def test_no_split_is_empty_whoever_the_artists_are(config, artists):
    for shift in range(20):
        music = [replace(piece, artist=f"{piece.artist} of {shift}") for piece in pieces(30, artists)]
        counts = counted(with_splits(music, config))
        assert all(counts[split] for split in ("train", "valid", "test"))
        assert counts["train"] >= max(counts["valid"], counts["test"])


def test_an_artist_is_in_one_split_whatever_the_case_of_its_name():
    music = pieces(40, 8)
    music += [replace(piece, id=f"x{piece.id}", artist=piece.artist.upper()) for piece in music]
    split = with_splits(music, CPU.data)
    for i in range(8):
        assert len({piece.split for piece in split if piece.artist.casefold() == f"artist {i}"}) == 1


def test_a_set_with_many_artists_is_split_by_hash_alone_in_the_shares_asked_for():
    split = with_splits(pieces(2000, 2000), SMOKE.data)
    assert all(piece.split == drawn(piece.artist, SMOKE.data) for piece in split)
    counts = counted(split)
    assert abs(counts["test"] / 2000 - SMOKE.data.test_share) < 0.03
    assert abs(counts["valid"] / 2000 - SMOKE.data.valid_share) < 0.03


def test_of_two_pieces_one_validates_and_one_alone_trains():
    assert counted(with_splits(pieces(2, 1), CPU.data)) == {"train": 1, "valid": 1}
    assert counted(with_splits(pieces(1, 1), CPU.data)) == {"train": 1}


def test_by_album_and_by_piece():
    music = [replace(piece, album=f"album {i % 6}", artist="One") for i, piece in enumerate(pieces(30, 1))]
    by_album = with_splits(music, CPU.data, "album")
    assert len({(piece.album, piece.split) for piece in by_album}) == 6 and len(counted(by_album)) == 3
    by_piece = with_splits(music, CPU.data, "piece")
    assert len({(piece.album, piece.split) for piece in by_piece}) > 6


def test_a_split_that_is_given_holds():
    music = pieces(6, 6)
    given = {piece.id: "test" for piece in music}
    assert counted(with_splits(music, CPU.data, given=given)) == {"test": 6}


def test_the_line_about_sizes_names_each_split_and_genre():
    music = [replace(piece, genre="Metal" if i % 2 else "") for i, piece in enumerate(pieces(4, 4))]
    assert sizes(music) == "train 4, valid 0, test 0; train by genre: no genre 2, Metal 2"
