"""A data set as shards: the same chunks to the bit, each once an epoch, for any number of readers; damage is named."""

import hashlib
import io
import json
import os
import signal
import tarfile
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import webdataset
from helpers.lines import states_equal
from helpers.processes import in_two_processes
from torch.testing import assert_close

from mousai import cli
from mousai.data import packing
from mousai.data.clips import Chunks, RandomCrops, ShardCrops
from mousai.data.dataset import DataSet, workspace
from mousai.data.packing import Job, write_shard, write_shards
from mousai.data.records import Manifest, Record, as_fields, read_manifest
from mousai.data.shards import WINDOW, Epochs, Index, Shard, Shards, read_index, write_index
from mousai.data.sound import write_flac
from mousai.small.profiles import PROFILES
from mousai.small.stages import new_dmae
from mousai.training import setup
from mousai.training.resume import Run
from mousai.training.setup import train_dmae, train_tcld
from mousai.training.validation import dmae_validation, tcld_validation

COUNTS = np.array([7, 1, 4, 9, 2] * 5)  # 115 records in 25 shards


@pytest.fixture
def shards(tiny, tiny_data, tmp_path) -> Path:
    """The tiny data set's 16 chunks as shards of 7 at most: two of train, one each of valid and test."""
    write_shards(DataSet(tiny_data), tmp_path / "shards", 1, jobs=1)
    return tmp_path / "shards"


@pytest.fixture
def used(shards, monkeypatch) -> Path:
    """Those as the data set in use."""
    monkeypatch.setenv("MOUSAI_DATA", str(shards))
    monkeypatch.setattr(setup, "PCA_CROPS", 4)
    return shards


# Written and read


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_chunks_come_back_to_the_bit_with_their_records(tiny, tiny_data, shards, split):
    chunks, read = DataSet(tiny_data).chunks(split), Shards(shards, split)
    assert isinstance(chunks, Chunks) and len(read) == len(chunks) > 0
    for (record, k, wave), (again, number, sound) in zip(chunks, read, strict=True):
        assert (record, k) == (again, number)
        assert_close(sound, wave, atol=0, rtol=0)


def test_another_library_reads_the_same_records(tiny, tiny_data, shards):
    urls = [str(shards / shard.name) for shard in read_index(shards).splits["train"]]
    found = list(webdataset.WebDataset(urls, shardshuffle=False))
    expected = list(DataSet(tiny_data).chunks("train"))
    for sample, (record, k, wave) in zip(found, expected, strict=True):
        told = json.loads(sample["json"])
        assert told.pop("k") == k and told == as_fields(record)
        sound, rate = soundfile.read(io.BytesIO(sample["flac"]), dtype="float32")
        assert rate == 48_000
        assert_close(sound.T, wave, atol=0, rtol=0)


def test_the_index_says_what_is_in_each_shard(shards):
    index = read_index(shards)
    assert [[shard.records for shard in index.splits[split]] for split in index.splits] == [[7, 1], [4], [4]]
    for split in index.splits.values():
        for shard in split:
            content = (shards / shard.name).read_bytes()
            assert len(content) == shard.bytes < 10**6 and hashlib.sha256(content).hexdigest() == shard.sha256
            with tarfile.open(shards / shard.name) as tar:
                assert len(tar.getnames()) == 2 * shard.records
    named = {shard.name for split in index.splits.values() for shard in split}
    assert {path.name for path in shards.glob("[!.]*")} == {"index.json", *named}


@pytest.mark.system
def test_of_two_processes_that_write_the_same_shards_the_second_waits(tiny_data, shards, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(packing, "write_shard", lambda job: time.sleep(0.5) or write_shard(job))
    out = tmp_path / "again"
    assert in_two_processes(lambda: write_shards(DataSet(tiny_data), out, 1, jobs=1)) == [0, 0]
    assert "waiting for" in capfd.readouterr().err
    for path in shards.glob("[!.]*"):
        assert (out / path.name).read_bytes() == path.read_bytes()


# The order of training


def test_an_epoch_has_every_record_once_in_an_order_of_its_own():
    order = Epochs(COUNTS, seed=1)
    epochs = [[order.record(115 * epoch + place) for place in range(115)] for epoch in range(3)]
    assert all(sorted(epoch) == list(range(115)) for epoch in epochs)
    other = [Epochs(COUNTS, seed=2).record(place) for place in range(115)]
    orders = [*epochs, other, list(range(115))]
    for i, one in enumerate(orders):
        for two in orders[:i]:
            assert np.mean(np.array(one) == np.array(two)) < 0.1  # by chance 1 in 115


def test_records_are_shuffled_over_a_window_of_shards_and_no_further():
    order, of = Epochs(COUNTS, seed=0), np.repeat(np.arange(25), COUNTS)
    shards = [of[order.record(place)] for place in range(115)]
    windows, start = [], 0
    while start < 115:
        chosen = order.shards(0)[0][WINDOW * len(windows) :][:WINDOW]
        windows.append(shards[start : start + COUNTS[chosen].sum()])
        assert set(windows[-1]) == set(chosen)
        start += len(windows[-1])
    assert sum(a != b for a, b in zip(windows[0][1:], windows[0], strict=False)) > len(windows[0]) / 2


@pytest.mark.parametrize("world", [1, 2, 3])
def test_no_two_processes_have_a_record_in_common_and_all_of_them_have_all(world):
    order, accumulate, batch = Epochs(COUNTS, seed=0), 6, 5
    steps = range(-(-115 // (accumulate * batch)))
    own = [
        [
            i
            for step in steps
            for n in range(step * accumulate + r, (step + 1) * accumulate, world)
            for i in order.batch(n, batch)
        ]
        for r in range(world)
    ]  # as `train_step` numbers them
    places = [order.record(place) for place in range(len(steps) * accumulate * batch)]
    assert sorted(i for part in own for i in part) == sorted(places)
    assert len({len(part) for part in own}) == 1
    first = [set(order.batch(n, batch)) for n in range(115 // batch)]
    assert sum(map(len, first)) == len(set.union(*first)) == 115


def test_any_batch_of_any_epoch_is_the_same_without_those_before():
    walked = Epochs(COUNTS, seed=3)
    batches = [walked.batch(number, 16) for number in range(20)]
    for number in (19, 7, 0, 8):
        assert Epochs(COUNTS, seed=3).batch(number, 16) == batches[number]
        assert walked.batch(number, 16) == batches[number]


def test_crops_are_of_the_chunks_that_the_order_names(tiny, tiny_data, shards):
    crops, length = ShardCrops(Shards(shards, "train"), 4096, 5, seed=1), tiny.tcld.crop
    batch, picks = crops(3), Epochs(np.array([7, 1]), 1).batch(3, 5)
    for wave, i in zip(batch, picks, strict=True):
        chunk = torch.from_numpy(Shards(shards, "train")[i][2])
        assert any(torch.equal(wave, chunk[:, start : start + 4096]) for start in range(length - 4095))
    assert_close(ShardCrops(Shards(shards, "train"), 4096, 5, seed=1)(3), batch, atol=0, rtol=0)
    assert not torch.equal(ShardCrops(Shards(shards, "train"), 4096, 5, seed=2)(3), batch)
    with pytest.raises(ValueError, match=f"crop of {length + 1} samples is longer than a chunk of .*, {length}"):
        ShardCrops(Shards(shards, "train"), length + 1, 5, 0)


# Training


@pytest.fixture
def sharded_space(tiny, used):
    """The workspace of the tiny profile on its shards."""
    return workspace(tiny, os.environ, "cpu")


def test_both_stages_train_from_shards_and_are_validated(sharded_space, tmp_path):
    space = sharded_space
    dmae, history = train_dmae(space, 1, Run(callback=dmae_validation(space, tmp_path / "1")))
    assert len(history) == 1
    validation = tcld_validation(space, dmae, tmp_path / "2")
    tcld, history = train_tcld(space, dmae, 2, Run(callback=validation))
    assert len(history) == 2 and 0 < tcld.latent_std < 1 and len(validation.last()) == 5


def test_a_training_on_shards_resumes_in_mid_epoch_bit_identically(tiny, sharded_space, tmp_path):
    config = replace(
        tiny, dmae_train=replace(tiny.dmae_train, batch=3, accumulate=1)
    )  # 8 records: an epoch ends within
    space = replace(sharded_space, profile=config)
    whole, _ = train_dmae(space, 5)
    train_dmae(space, 4, Run(tmp_path))
    resumed, history = train_dmae(space, 5, Run(tmp_path, resume=True))
    assert history.step.tolist() == [0, 1, 2, 3, 4]
    states_equal(resumed, whole)


def test_stage_two_trains_on_every_chunk_of_the_shards_once_an_epoch(tiny, sharded_space, monkeypatch):
    monkeypatch.setattr(setup, "load_text_encoder", lambda *_: lambda texts: torch.zeros(len(texts), 64, 384))
    torch.manual_seed(0)
    dmae = new_dmae(tiny.dmae)
    latents = setup.open_latents(sharded_space, dmae, "train")
    batches = setup.caption_batches(sharded_space, latents, 4)
    heard = torch.cat([batches(number)[0] for number in (0, 1)])
    assert_close(heard.sum(0), setup.encode_split(sharded_space, dmae, "train").sum(0))
    assert len({row.sum().item() for row in heard}) == 8


def test_what_needs_whole_pieces_says_that_shards_have_none(tiny, used):
    with pytest.raises(ValueError, match=r"holds shards, for training only: use the folder they were made"):
        DataSet(used).records("test")
    with pytest.raises(ValueError, match="shards are made of pieces"):
        write_shards(DataSet(used), used / "again", 1, jobs=1)


@pytest.mark.system
def test_the_command_writes_the_same_in_two_processes_and_says_how_to_train(
    tiny, shards, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(PROFILES, "smoke", tiny)
    out = tmp_path / "my shards"
    with pytest.raises(SystemExit) as left:
        cli.main(["data", "shards", "--profile", "smoke", "--out", str(out), "--shard-size", "1", "--jobs", "2"])
    assert left.value.code == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [f"{out}: 16 records in 4 shards", f"MOUSAI_DATA='{out}' mousai train dmae --profile smoke"]
    assert read_index(out) == read_index(shards)


# Interrupted, damaged, another's


@pytest.mark.system
def test_a_killed_run_goes_on_with_what_is_missing(tiny, tiny_data, shards, tmp_path, monkeypatch):
    out, made = tmp_path / "more", packing.flac_of
    numbers = iter(range(100))
    mortal = lambda wave: os.kill(os.getpid(), signal.SIGKILL) if next(numbers) == 9 else made(wave)  # noqa: E731
    if not (child := os.fork()):  # killed in the third shard
        try:
            monkeypatch.setattr(packing, "flac_of", mortal)
            write_shards(DataSet(tiny_data), out, 1, jobs=1)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert not (out / "index.json").exists()
    kept = {path.name: path.stat().st_ino for path in out.glob("*.tar")}
    assert set(kept) == {"train-000000.tar", "train-000001.tar"}
    assert write_shards(DataSet(tiny_data), out, 1, jobs=1) == read_index(shards)
    assert all((out / name).stat().st_ino == number for name, number in kept.items())
    assert not [*out.glob("*.tmp"), *out.glob("*.jsonl")]


def test_a_second_run_makes_damaged_shards_anew_and_leaves_the_others(tiny, tiny_data, shards):
    before, path = read_index(shards), shards / "valid-000000.tar"
    kept = {path.name: path.stat().st_ino for path in shards.glob("*.tar")}
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    (shards / "test-000000.tar").unlink()
    assert write_shards(DataSet(tiny_data), shards, 1, jobs=1) == before
    assert path.read_bytes() == whole
    assert {p.name for p in shards.glob("*.tar") if p.stat().st_ino == kept[p.name]} >= {
        "train-000000.tar",
        "train-000001.tar",
    }


def test_shards_of_another_set_or_size_are_never_mixed(tiny, tiny_data, shards):
    with pytest.raises(
        ValueError, match="shards of another data set or size are there: delete them, or choose another"
    ):
        write_shards(DataSet(tiny_data), shards, 2, jobs=1)
    with pytest.raises(ValueError, match="shards are made of pieces, beside them"):
        write_shards(DataSet(tiny_data), tiny_data, 1, jobs=1)


def test_pieces_of_another_chunk_length_are_named(tiny, tiny_data, tmp_path):
    records = read_manifest(tiny_data / "manifest.jsonl")
    lines = [json.dumps(vars(replace(record, chunks=4 + (record.id == "1")))) for record in records]
    (tiny_data / "manifest.jsonl").write_text("\n".join(lines) + "\n")
    with pytest.raises(ValueError, match=r"1 in .* has chunks of 26214 samples, others 32768: import all of it"):
        write_shards(DataSet(tiny_data), tmp_path / "more", 1, jobs=1)


def swapped(shards: Path) -> None:
    """Two shards in each other's place."""
    a, b = shards / "valid-000000.tar", shards / "train-000000.tar"
    a.rename(shards / "c")
    b.rename(a)
    (shards / "c").rename(b)


def flipped(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def sealed(shards: Path, content: bytes, records: int = 7) -> None:
    """This for the first shard, in an index that vouches for it."""
    (shards / "train-000000.tar").write_bytes(content)
    index = read_index(shards)
    digest = hashlib.sha256(content).hexdigest()
    index.splits["train"][0] = Shard("train-000000.tar", records, len(content), digest)
    write_index(index, shards)


def tar_of(members: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def text_of(shards: Path, **changed) -> bytes:
    told = json.loads(Shards(shards, "train").found(0)[0][0][1])
    return json.dumps(told | changed).encode()


def with_sound(samples: int, channels: int = 2, rate: int = 48_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.zeros((samples, channels)), rate, format="FLAC")
    return file.getvalue()


def one(shards: Path, *members: tuple[str, bytes]) -> None:
    """A first shard of these members, said to be one record."""
    sealed(shards, tar_of([*members]), 1)


SOUND, TEXT = ("a.flac", b"x" * 2000), ("a.json", b"{}")
TAR = "train-000000.tar"
NO_RECORD = "record 0: not a record"
NO_SOUND = "record 0: not readable as 48 kHz stereo of 32768 samples"
DAMAGE = {
    "cut off": (lambda s: (s / TAR).write_bytes((s / TAR).read_bytes()[:-512]), "bytes, its index says"),
    "a flipped bit": (lambda s: flipped(s / TAR, 5000), "damaged, or not the shard that its index means"),
    "missing": (lambda s: (s / TAR).unlink(), "missing, but its index names it"),
    "another's": (swapped, "bytes, its index says"),
    "no tar": (lambda s: sealed(s, os.urandom(20_000)), "not a tar"),
    "a torn tar": (lambda s: sealed(s, (s / TAR).read_bytes()[:100_100]), r"(not a tar|its index says 7 records)"),
    "too few records": (lambda s: sealed(s, tar_of([SOUND, TEXT]) + bytes(9000)), "7 records, each .flac and .json"),
    "other members": (lambda s: one(s, TEXT, SOUND), "its index says 1 records"),
    "no JSON": (lambda s: one(s, SOUND, ("a.json", b"[")), NO_RECORD),
    "no record": (lambda s: one(s, SOUND, TEXT), NO_RECORD),
    "no such k": (lambda s: one(s, SOUND, ("a.json", text_of(s, k=5))), NO_RECORD),
    "another length": (lambda s: one(s, SOUND, ("a.json", text_of(s, samples=2**10))), NO_RECORD),
    "no sound": (lambda s: one(s, SOUND, ("a.json", text_of(s))), NO_SOUND),
    "short sound": (lambda s: one(s, ("a.flac", with_sound(2**14)), ("a.json", text_of(s))), NO_SOUND),
    "mono": (lambda s: one(s, ("a.flac", with_sound(2**15, 1)), ("a.json", text_of(s))), NO_SOUND),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_shard_that_is_not_what_its_index_says_is_one_clear_error(shards, name):
    damage, said = DAMAGE[name]
    damage(shards)
    with pytest.raises((ValueError, FileNotFoundError), match=said) as error:
        Shards(shards, "train")[0]
    text = str(error.value)
    assert text.startswith(str(shards / TAR)) and "\n" not in text and "fetch it" in text


def test_a_member_that_claims_more_than_the_file_has_is_refused_before_it_is_read(shards):
    info = tarfile.TarInfo("a.json")
    info.type, info.size = tarfile.GNUTYPE_SPARSE, 512  # a file with holes: what is stored, and what it claims to be
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = tarfile.itn(2**45, 12, tarfile.GNU_FORMAT)
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * ord(" "))
    sealed(shards, tar_of([SOUND])[: 512 + 2048] + bytes(header) + bytes(512 + 1024), 1)
    with pytest.raises(ValueError, match=f"{TAR}: a record that goes beyond its end"):
        Shards(shards, "train").about(0)


GOOD = {"name": "a.tar", "records": 3, "bytes": 10**6, "sha256": "0" * 64}
STRANGE = [
    *(
        {"name": name}
        for name in ("../a.tar", "/etc/a.tar", "a/b.tar", "..\\a.tar", "a\n.tar", ".tar", "a.zip", "", 3, None)
    ),
    *({"records": n} for n in (0, -1, 10**9, 10**400, 2.0, True, "3", None, float("nan"))),
    *({"bytes": n} for n in (0, -1, 2000, 10**30, 1e9, None)),
    *({"sha256": text} for text in ("", "0" * 63, "G" * 64, 0)),
    {"more": 1},
]


@pytest.mark.parametrize("changed", STRANGE, ids=lambda changed: f"{next(iter(changed.items()))}"[:40])
def test_a_strangers_index_with_absurd_claims_is_one_clear_error(tmp_path, changed):
    told = {"source": "", "samples": 2**15, "splits": {"train": [GOOD | changed], "valid": [], "test": []}}
    refused(tmp_path, json.dumps(told))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "{}", "[" * 100_000, '{"samples": ' + "9" * 5000 + "}", "\xff"],
    ids=lambda text: text[:20],
)
def test_an_index_that_is_none_is_one_clear_error(tmp_path, text):
    refused(tmp_path, text)


@pytest.mark.parametrize("samples", [0, -1, 2**40, 1.5, None])
def test_an_index_of_absurd_chunks_is_one_clear_error(tmp_path, samples):
    refused(
        tmp_path, json.dumps({"source": "", "samples": samples, "splits": {"train": [GOOD], "valid": [], "test": []}})
    )


def test_a_shard_named_twice_is_refused(tmp_path):
    told = {"source": "", "samples": 5, "splits": {"train": [GOOD], "valid": [GOOD], "test": []}}
    assert "a shard is named twice" in refused(tmp_path, json.dumps(told))


def refused(folder: Path, text: str) -> str:
    (folder / "index.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError) as error:
        read_index(folder)
    said = str(error.value)
    assert said.startswith(f"{folder / 'index.json'}: ") and "\n" not in said and len(said) < len(str(folder)) + 300
    return said


# A million


def hundred(tmp_path: Path) -> tuple[Path, Shard, Record]:
    """A shard of 100 small chunks."""
    wave = 0.1 * np.random.default_rng(0).standard_normal((2, 102_400)).astype(np.float32)
    digest = write_flac(wave, tmp_path / "a.flac")
    said = dict.fromkeys(("id", "title", "artist", "album", "genre", "key", "licence", "source"), "a")
    about = {"year": 1999, "tempo": 120.0, "samples": 102_400, "chunks": 100, "split": "train"}
    record, path = Record(**said, **about, file="a.flac", sha256=digest), tmp_path / "set" / "one.tar"
    return path, write_shard(Job(path, "train", 0, [(record, k) for k in range(1, 101)], tmp_path, None)), record


def held_and_peak(work) -> tuple[object, float, float]:
    """What it returns, and the MB that it holds, and held at most."""
    tracemalloc.start()
    result = work()
    now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, now / 1e6, peak / 1e6


def test_a_million_records_take_no_more_memory_than_their_shards_names(tmp_path):
    path, one, _ = hundred(tmp_path)
    names = [f"train-{i:06d}.tar" for i in range(10_000)]
    splits = {"train": [replace(one, name=name) for name in names], "valid": [], "test": []}
    write_index(Index("", 1024, splits), path.parent)
    order = Epochs(np.full(10_000, 100), 0)
    batches = (0, 1, 31_000 // 2, 31_250)  # the beginning, in mid-epoch, the second epoch
    for i in {i // 100 for number in batches for i in order.batch(number, 32)}:
        os.link(path, path.parent / names[i])

    def work() -> ShardCrops:
        crops = ShardCrops(Shards(path.parent, "train"), 512, 32, 0)
        assert len(crops.shards) == 1_000_000
        for number in batches:
            assert crops(number).shape == (32, 2, 512)
        assert len(crops.shards.opened) <= 3 * WINDOW  # a resume opens those of its own window alone
        return crops

    _, held, peak = held_and_peak(work)
    assert held < 8 and peak < 24  # one number a record would be 8 MB


def test_the_memory_of_a_manifest_does_not_grow_with_what_its_records_say(tmp_path):
    *_, record = hundred(tmp_path)
    path, n = tmp_path / "manifest.jsonl", 2_000
    with path.open("w") as file:
        for i in range(n):
            split = ("train", "train", "train", "valid")[i % 4]
            file.write(json.dumps(vars(replace(record, id=f"{i}", split=split, title="long " * 400))) + "\n")

    def work() -> tuple:
        records = Manifest(path, "train")
        crops, chunks = RandomCrops(records, tmp_path, 512, 4, 0), Chunks(records, tmp_path)
        crops(0)
        record, k = chunks.about(100 * 1_000 + 7)
        assert (record.id, k) == ("1333", 8)  # of each four records three are of this split
        return crops, chunks

    (crops, chunks), held, peak = held_and_peak(work)
    assert len(crops.records) == 1_500 and len(chunks) == 150_000
    assert held < 0.2 and peak < 1  # its lines have 5 MB


def test_a_manifest_is_read_by_place_as_from_the_beginning(tiny_data):
    records, path = read_manifest(tiny_data / "manifest.jsonl"), tiny_data / "manifest.jsonl"
    assert list(Manifest(path)) == records == [Manifest(path)[i] for i in range(4)] == Manifest(path)[:]
    assert Manifest(path, "train")[:1] == records[:1] and list(Manifest(path, "test")) == [Manifest(path)[-1]]
    with pytest.raises(IndexError):
        Manifest(path)[4]
