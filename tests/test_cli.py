"""The command line: bad input is one line that names it, exit code 2, nothing written, and no traceback."""

import subprocess
import sys

import pytest
import soundfile

from mousai import cli
from mousai.batch import reproduce
from mousai.generate import FORMATS
from mousai.profiles import PROFILES

BAD = [
    (["reproduce", "--profile", "huge"], "unknown profile 'huge': choose one of smoke, cpu, a100"),
    (["reproduce", "--only", "06,11"], "unknown notebook '11': choose from 00,"),
    (["reproduce", "--from", "4"], "unknown notebook '4': choose from 00,"),
    (["reproduce", "--only", "01", "--from", "05"], "no notebook is left"),
    (["reproduce", "--fast"], "No such option: --fast"),
    (["reproduce", "--device", "tpu"], "unknown device 'tpu': choose cpu, cuda"),
    (["reproduce", "--out", "a_file"], "'a_file' is a file: name a folder"),
    (["reproduce", "--profile", "smoke", "--out", "/proc/report"], "cannot write '/proc/report'"),
    (["generate", ""], "the prompt is empty"),
    (["generate", " \n"], "the prompt is empty"),
    (["generate"], "Missing argument 'PROMPT'"),
    (["generate", "Pop", "--seconds", "0"], "'--seconds': 0 is no length: say more than 0 and at most 3600"),
    (["generate", "Pop", "--seconds", "-2"], "-2 is no length"),
    (["generate", "Pop", "--seconds", "3600.1"], "3600.1 is no length"),
    (["generate", "Pop", "--seconds", "1e-9"], "1e-9 is no length"),
    (["generate", "Pop", "--seconds", "nan"], "'nan' is not a number"),
    (["generate", "Pop", "--seconds", "inf"], "'inf' is not a number"),
    (["generate", "Pop", "--seconds", "long"], "'long' is not a number"),
    (["generate", "Pop", "--seed", "-1"], "'-1' is not a seed"),
    (["generate", "Pop", "--guidance", "nan"], "'nan' is not a number"),
    (["generate", "Pop", "--tcld-steps", "0"], "'0' is not a count: say a whole number of 1 or more"),
    (["generate", "Pop", "--dmae-steps", "2.5"], "'2.5' is not a count"),
    (["generate", "Pop", "--out", "song.mp3"], "cannot write 'song.mp3': choose a name that ends in .wav, .flac, .ogg"),
    (["generate", "Pop", "--out", "no/such/song.wav"], "there is no folder 'no/such': make it first"),
    (["generate", "Pop", "--out", "/proc/song.wav"], "cannot write '/proc/song.wav'"),
    (["generate", "Pop", "--device", "gpu"], "unknown device 'gpu'"),
    (["generate", "Pop", "--device", "cuda:99", "--profile", "smoke"], "device 'cuda:99' is not available"),
    (["generate", "Pop", "rock"], "unexpected extra argument(s) (rock)"),
    (["train", "dmae", "--steps", "0"], "'0' is not a count"),
    (["train", "tcld", "--profile", ""], "unknown profile ''"),
    (["train", "judge", "--steps", "-3"], "'-3' is not a count"),
    (["train", "dmae", "--out", "weights.pt"], "choose a name that ends in .safetensors"),
    (["data", "prepare", "--jobs", "0"], "'0' is not a count"),
    (["report", "--profile", "smoke", "--out", "."], "no results here: run `mousai reproduce --profile smoke` first"),
    (["sing"], "No such command 'sing'"),
    (["train"], "Missing command"),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_that_names_it_and_writes_nothing(arguments, said, tmp_path, home, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").write_text("kept")
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    printed = capsys.readouterr()
    assert left.value.code == 2
    assert printed.err.startswith("mousai: ") and printed.err.count("\n") == 1
    assert said in printed.err and printed.out == ""
    assert [path.name for path in tmp_path.rglob("*")] == ["a_file"]


def test_the_help_needs_no_torch_and_neither_does_refusing():
    code = (
        "import sys\nfrom mousai.cli import main\n"
        "for words in (['--help'], ['generate', 'x', '--seconds', '0'], ['reproduce', '--only', '99']):\n"
        "    try:\n        main(words)\n    except SystemExit:\n        pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def test_every_command_explains_its_options(capsys):
    for words in (["reproduce"], ["generate"], ["train", "dmae"], ["data", "prepare"], ["report"]):
        with pytest.raises(SystemExit) as left:
            cli.main([*words, "--help"])
        assert left.value.code == 0
        options = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
        assert options and all(len(line.split()) > 2 for line in options)


def test_names_told_without_torch_are_those_that_torch_knows():
    assert tuple(PROFILES) == cli.NAMES
    assert tuple(FORMATS) == cli.ENDINGS


def test_generate_writes_exactly_the_samples_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["generate", "Pop, 1 of 4", "--profile", "smoke", "--tcld-steps", "1", "--dmae-steps", "1"]
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--seconds", "0.30001", "--out", "song.flac"])
    assert left.value.code == 0
    wave, rate = soundfile.read("song.flac")
    assert rate == 48_000 and wave.shape == (round(0.30001 * 48_000), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["song.flac"]
    assert "14400 samples of 48 kHz stereo" in capsys.readouterr().out


def test_reproduce_passes_on_what_was_asked_and_its_exit_code(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda *words: asked.append(words) or 1)
    with pytest.raises(SystemExit) as left:
        cli.main(["reproduce", "--profile", "smoke", "--only", "06", "--force", "--out", str(tmp_path / "report")])
    assert left.value.code == 1
    assert asked == [("smoke", "06", "", True, tmp_path / "report", "")]
