"""Disk full, folder read-only, clock going back, no network: one clear line, and what was finished is still there."""

import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from helpers.lines import CONFIG, batches, line
from helpers.notebooks import notebook, run, statuses
from safetensors.torch import load_file

from mousai import cli
from mousai.data.imported import Wanted, import_music
from mousai.files import write_text
from mousai.inference.audio import write_audio
from mousai.reproduce import run as reproduce
from mousai.reproduce import run_log
from mousai.reproduce.run_log import RunLog
from mousai.small.profiles import SMOKE
from mousai.training.loop import fit
from mousai.training.resume import Run

pytestmark = pytest.mark.system
FULL = "No space left on device: free some space and run the same again: what is finished is kept\n"


@pytest.fixture
def disk(tmp_path):
    """A disk of its own, 1 MiB; needs the right to mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk: run it as root")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """A file that takes all room but `leave` bytes."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            file.truncate(file.tell() - leave)
    return filler


def read_only(disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)


def left(words: list[str]) -> int:
    with pytest.raises(SystemExit) as status:
        cli.main(words)
    return status.value.code


def test_a_file_that_does_not_fit_leaves_the_old_one_and_nothing_beside_it(disk):
    write_text("old", disk / "a.txt")
    filler = fill(disk)
    with pytest.raises(OSError, match="No space left"):
        write_text("new" * 10_000, disk / "a.txt")
    assert (disk / "a.txt").read_text() == "old"
    assert sorted(path.name for path in disk.iterdir()) == ["a.txt", filler.name]


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg"])
def test_sound_that_does_not_fit_is_one_line_and_the_old_sound_stays(disk, ending, capsys):
    path = disk / f"song.{ending}"
    write_audio(torch.zeros(2, 100), path)
    old = path.read_bytes()
    fill(disk, leave=8192)
    few = ["--tcld-steps", "1", "--dmae-steps", "1", "--seconds", "10"]
    assert left(["generate", "Pop", "--profile", "smoke", *few, "--out", str(path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1] + "\n" == f"mousai: {path}: {FULL}"
    assert path.read_bytes() == old and len(list(disk.iterdir())) == 2


def test_training_on_a_full_disk_keeps_the_last_two_saves_and_goes_on_from_there(disk):
    fit(line(), batches, CONFIG, 3, run=Run(disk))
    fit(line(), batches, CONFIG, 5, run=Run(disk, resume=True))
    before = {name: (disk / f"{name}.safetensors").read_bytes() for name in ("last", "previous")}
    filler = fill(disk)
    with pytest.raises(OSError, match="No space left"):
        fit(line(), batches, CONFIG, 9, run=Run(disk, resume=True))
    assert {name: (disk / f"{name}.safetensors").read_bytes() for name in before} == before
    filler.unlink()
    net, _ = fit(line(), batches, CONFIG, 9, run=Run(disk, resume=True))
    whole, _ = fit(line(), batches, CONFIG, 9)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), whole.parameters(), strict=True))
    assert load_file(disk / "last.safetensors")


def test_an_entry_that_does_not_fit_the_run_log_loses_none_of_the_others(disk):
    book = RunLog(disk / "run_log.jsonl")
    book.add(notebook="01_first", status="ok")
    filler = fill(disk)
    with pytest.raises(OSError, match="No space left"):
        for _ in range(100):  # the file's last block has some room still
            book.add(notebook="02_second", status="ok", why="x" * 500)
    filler.unlink()
    book.add(notebook="03_third", status="ok")
    names = [entry["notebook"] for entry in book.entries()]
    assert names[0] == "01_first" and names[-1] == "03_third"


BIG = """import pathlib
file = pathlib.Path(out) / "big"
try:
    file.write_bytes(bytes(2**21))
finally:
    file.unlink()
"""


def test_lessons_on_a_full_disk_fail_and_those_before_are_still_good(disk, lessons, capsys):
    graph = {"01_first": (), "02_second": ()}
    notebook(lessons, "01_first")
    notebook(lessons, "02_second", BIG)
    asked = {"out": disk / "report", "notebooks": lessons, "upstream": graph}
    assert reproduce.reproduce(reproduce.Request("smoke", **asked)) == 1
    printed = capsys.readouterr().out
    assert statuses(printed) == [("01_first", "ok"), ("02_second", "failed")]
    assert "OSError: [Errno 28] No space left on device" in printed
    notebook(lessons, "02_second")
    assert reproduce.reproduce(reproduce.Request("smoke", **asked)) == 0
    assert statuses(capsys.readouterr().out) == [("01_first", "cached"), ("02_second", "ok")]


def test_an_import_on_a_full_disk_goes_on_where_it_was(disk, tmp_path):
    rng, music = np.random.default_rng(0), tmp_path / "music"
    music.mkdir()
    for i in range(6):
        soundfile.write(music / f"{i}.wav", 0.3 * rng.standard_normal((2**16, 2)), 48_000)
    with pytest.raises(OSError, match="No space left"):
        import_music(music, disk / "set", Wanted(2**16, SMOKE.data), 1)
    done = {path: path.stat().st_mtime_ns for path in (disk / "set" / "audio").iterdir()}
    assert 1 <= len(done) < 6 and not (disk / "set" / "manifest.jsonl").exists()
    subprocess.run(["mount", "-o", "remount,size=8m", disk], check=True)
    assert import_music(music, disk / "set", Wanted(2**16, SMOKE.data), 1).counts()["pieces"] == 6
    assert {path: path.stat().st_mtime_ns for path in done} == done


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reproduce", "--profile", "smoke", "--only", "01", "--out", "{disk}/report"], "cannot write '{disk}/report'"),
        (["generate", "Pop", "--profile", "smoke", "--out", "{disk}/a.wav"], "cannot write '{disk}/a.wav'"),
        (["data", "import", "{disk}", "--out", "{disk}/set"], "cannot write '{disk}/set'"),
        (["data", "prepare", "--profile", "smoke"], "Read-only file system: choose a writable place"),
        (["train", "dmae", "--profile", "smoke"], "run `mousai data prepare --profile smoke` first"),
        (["reproduce", "--profile", "smoke", "--only", "01"], "Read-only file system: choose a writable place"),
        (["listen", "--profile", "smoke"], "run `mousai data prepare --profile smoke` first"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_read_only_folder_is_one_line(disk, monkeypatch, capsys, words, said):
    read_only(disk)
    monkeypatch.setenv("MOUSAI_HOME", str(disk / "runs"))
    assert left([word.format(disk=disk) for word in words]) == 2
    printed = capsys.readouterr().err
    assert said.format(disk=disk) in printed and "Traceback" not in printed
    assert printed.splitlines()[-1].startswith("mousai: ")


def test_a_clock_that_goes_back_loses_no_result_and_gives_no_negative_times(lessons, capsys, monkeypatch):
    class Back(datetime):
        hours = 23

        @classmethod
        def now(cls, zone=None):
            cls.hours -= 1
            return datetime(2020, 1, 1, cls.hours, tzinfo=UTC)

    seconds = iter(range(10**9, 0, -1))
    monkeypatch.setattr(run_log, "datetime", Back)
    monkeypatch.setattr(time, "time", lambda: float(next(seconds)))
    notebook(lessons, "01_first")
    assert run(lessons, {"01_first": ()}) == 0
    assert run(lessons, {"01_first": ()}) == 0
    assert statuses(capsys.readouterr().out) == [("01_first", "ok"), ("01_first", "cached")]
    entries = RunLog(lessons.parent / "home" / "run_logs" / "smoke.jsonl").entries()
    assert entries[0]["time"] > entries[1]["time"] and all(entry["seconds"] >= 0 for entry in entries)
    _, history = fit(line(), batches, CONFIG, 3, run=Run(lessons.parent / "run"))
    assert (history["seconds"] >= 0).all() and (history["waited"] >= 0).all()


def test_without_a_network_all_but_a_missing_t5_works(tmp_path, monkeypatch, capsys):
    def nobody(*_):
        raise OSError(101, "Network is unreachable")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, nobody)
    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    few = ["--tcld-steps", "1", "--dmae-steps", "1", "--seconds", "0.5", "--out", str(tmp_path / "a.wav")]
    assert left(["generate", "Pop", "--profile", "smoke", *few]) == 0
    assert soundfile.info(tmp_path / "a.wav").frames == 24_000
    capsys.readouterr()
    assert left(["generate", "Pop", "--profile", "a100", *few]) == 2
    printed = capsys.readouterr().err.splitlines()
    assert printed[-1].startswith("mousai: text encoder 't5-base' is not in the local cache: fetch it once")
