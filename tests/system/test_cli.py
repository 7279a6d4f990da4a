"""The command line: bad input is one line that names it, exit code 2, nothing written, and no traceback."""

import os
import signal
import subprocess
import sys
from typing import get_args

import pandas as pd
import pytest
import soundfile
from typer.main import get_command

from mousai import checkpoint, cli
from mousai.bench.plan import GPUS
from mousai.cli import arguments
from mousai.files import runs_dir
from mousai.inference.audio import FORMATS
from mousai.inference.samplers import SAMPLERS
from mousai.reproduce import run as reproduce
from mousai.small import stages as small_stages
from mousai.small.profiles import PROFILES
from mousai.training import loop

BAD = [
    (["reproduce", "--profile", "huge"], "'--profile': 'huge' is not one of 'smoke', 'cpu', 'a100'"),
    (["reproduce", "--only", "06,13"], "unknown notebook '13': choose from 00,"),
    (["reproduce", "--from", "4"], "unknown notebook '4': choose from 00,"),
    (["reproduce", "--only", "01", "--from", "05"], "no notebook is left"),
    (["reproduce", "--fast"], "No such option: --fast"),
    (["reproduce", "--device", "tpu"], "'--device': 'tpu' is not valid: choose cpu, cuda"),
    (["reproduce", "--out", "a_file"], "'a_file' is a file: choose another name"),
    (["reproduce", "--profile", "smoke", "--out", "/proc/report"], "cannot write '/proc/report'"),
    (["reproduce", "--timeout", "0"], "'0' must be a number from 0.001 to"),
    (["data", "import", "no_file", "--out", "new"], "'FROM': path 'no_file' does not exist"),
    (["data", "import", "a_file", "--out", "new"], "a_file: not an intact .zip or .tar: fetch it again"),
    (["data", "import", ".", "--out", "new"], ".: no music here: files that end in .wav"),
    (["data", "import", "."], "Missing option '--out'"),
    (["data", "shards"], "Missing option '--out'"),
    (["data", "shards", "--out", "a_file"], "'a_file' is a file: choose another name"),
    (["data", "shards", "--out", "new", "--shard-size", "0"], "'0' must be a whole number from 1 to 100000"),
    (["data", "latents", "--device", "gpu"], "'gpu' is not valid: choose cpu, cuda"),
    (["generate", ""], "'PROMPT': '' is not valid: say what to play"),
    (["generate", " \n"], "say what to play"),
    (["generate"], "Missing argument 'PROMPT'"),
    (["generate", "Pop", "--seconds", "0"], "'--seconds': '0' must be a number from 0.001 to 3600"),
    (["generate", "Pop", "--seconds", "-2"], "'-2' must be a"),
    (["generate", "Pop", "--seconds", "3600.1"], "'3600.1' must be a"),
    (["generate", "Pop", "--seconds", "1e-9"], "'1e-9' must be a"),
    (["generate", "Pop", "--seconds", "nan"], "'nan' must be a"),
    (["generate", "Pop", "--seconds", "inf"], "'inf' must be a"),
    (["generate", "Pop", "--seconds", "long"], "'long' must be a"),
    (["generate", "Pop", "--seed", "-1"], "'-1' must be a"),
    (["generate", "Pop", "--guidance", "nan"], "'nan' must be a"),
    (["generate", "Pop", "--tcld-steps", "0"], "'0' must be a whole number from 1 to"),
    (["generate", "Pop", "--dmae-steps", "2.5"], "'2.5' must be a"),
    (["generate", "Pop", "--out", "song.mp3"], "cannot write 'song.mp3': choose a name that ends in .wav, .flac, .ogg"),
    (["generate", "Pop", "--out", "no/such/song.wav"], "cannot write 'no/such/song.wav': No such file or directory"),
    (["generate", "Pop", "--out", "/proc/song.wav"], "cannot write '/proc/song.wav'"),
    (["generate", "Pop", "--device", "gpu"], "'gpu' is not valid"),
    (["generate", "Pop", "--device", "cuda:99", "--profile", "smoke"], "device 'cuda:99' is not available"),
    (["generate", "Pop", ""], "'' is not valid: say what to play"),
    (["generate", "Pop", "--seed", "1,two"], "'two' must be a whole number from 0"),
    (["generate", "Pop", "--seed", "1,"], "'' must be a whole number from 0"),
    (
        ["generate", "Pop", "--negative-prompt", "rock", "--guidance", "1", "--profile", "smoke"],
        "'rock' has no influence",
    ),
    (["generate", "Pop", "--init-audio", "no_file"], "'--init-audio': file 'no_file' does not exist"),
    (["generate", "Pop", "--init-audio", "a_file", "--seconds", "9"], "'--seconds' with '--init-audio'"),
    (["generate", "Pop", "--init-audio", "a_file", "--continue", "a_file"], "'--init-audio' and '--continue' at once"),
    (["generate", "Pop", "--init-audio", "a_file", "--noise-level", "1.5"], "'1.5' must be a"),
    (["generate", "Pop", "--init-audio", "a_file"], "a_file: not readable as sound"),
    (["generate", "Pop", "--noise-level", "0.5"], "'--noise-level' is for '--init-audio' and '--inpaint'"),
    (["generate", "Pop", "--inpaint", "a_file"], "'--inpaint' needs pairs of '--from' and '--to'"),
    (["generate", "Pop", "--inpaint", "a_file", "--from", "1"], "'--inpaint' needs pairs of '--from' and '--to'"),
    (["generate", "Pop", "--from", "1", "--to", "2"], "'--inpaint' needs pairs of '--from' and '--to'"),
    (["generate", "Pop", "--again", "a_file"], "'--again' takes settings from the file: leave 'prompts' out"),
    (["generate", "--again", "a_file", "--seed", "0"], "'--again' takes settings from the file: leave '--seed' out"),
    (["generate", "--again", "a_file"], "a_file: no settings in its tags"),
    (["encode", "a_file", "--out", "z.wav"], "choose a name that ends in .safetensors"),
    (["encode", "a_file"], "a_file: not readable as sound"),
    (["decode", "a_file"], "a_file: not a latent: write it with `mousai encode`"),
    (["train", "dmae", "--steps", "0"], "'0' must be a"),
    (["train", "tcld", "--profile", ""], "'' is not one of"),
    (["train", "in-domain", "--steps", "-3"], "'-3' must be a"),
    (["train", "dmae", "--out", "weights.pt"], "choose a name that ends in .safetensors"),
    (["train", "dmae", "--out", "a_file/dmae.safetensors"], "cannot write 'a_file/dmae.safetensors': Not a directory"),
    (["train", "dmae", "--out", "/proc/new/dmae.safetensors"], "cannot write '/proc/new/dmae.safetensors'"),
    (["data", "prepare", "--jobs", "0"], "'0' must be a"),
    (["report", "--profile", "smoke", "--out", "."], "no results here: run `mousai reproduce --profile smoke` first"),
    (["train", "in-domain", "--resume"], "'--resume' is for dmae and tcld"),
    (["train", "in-domain", "--start", "a_file"], "'--start' is for dmae and tcld"),
    (["train", "tcld", "--start", "no_file"], "'--start': file 'no_file' does not exist"),
    (["train", "tcld", "--start", "."], "'--start': file '.' is a directory"),
    (["train", "in-domain", "--checkpointing"], "'--checkpointing' is for dmae and tcld"),
    (["train", "dmae", "--weights", "."], "'--weights' is for tcld, the folder of its stage 1"),
    (["train", "tcld", "--weights", "nowhere"], "'--weights': no folder 'nowhere'"),
    (["plan", "--gpu", "tpu"], "'--gpu': 'tpu' is not one of 'a100-40gb', 'a100-80gb', 'h100-80gb'"),
    (["plan", "--efficiency", "0"], "'--efficiency': '0' must be a number from 0.01 to 1"),
    (["plan", "--batch", "0"], "'--batch': '0' must be a whole number from 1 to"),
    (["plan", "--memory-gb", "none"], "'--memory-gb': 'none' must be a number from 0.1 to"),
    (["train", "sing"], "'sing' is not one of 'dmae', 'tcld', 'in-domain'"),
    (["listen", "a_file"], "FILE without --collect: add --collect to count answers"),
    (["listen", "--collect"], "no FILE: give the files people sent"),
    (["listen", "--collect", "no_file"], "file 'no_file' does not exist"),
    (["listen", "--collect", "a_file", "--out", "new"], "new/key.json is not there: give the page's folder as --out"),
    (["listen", "--out", "a_file"], "'a_file' is a file: choose another name"),
    (["listen", "--collect", "a_file", "--report", "a_file"], "'a_file' is a file: choose another name"),
    (["listen", "--per-genre", "0"], "'0' must be a whole number from 1 to 100"),
    (["listen", "--seed", "-1"], "'-1' must be a"),
    (["listen", "--profile", "smoke", "--device", "cuda:99"], "device 'cuda:99' is not available"),
    (["import-weights", "a_file"], "Missing option '--out'"),
    (["import-weights", "no_file", "--out", "new"], "'FILE': file 'no_file' does not exist"),
    (["import-weights", ".", "--out", "new"], "'FILE': file '.' is a directory"),
    (["import-weights", "a_file", "--out", "a_file"], "'a_file' is a file: choose another name"),
    (["import-weights", "a_file", "--out", "/proc/new"], "cannot write '/proc/new'"),
    (["import-weights", "a_file", "--out", "new"], "a_file is damaged, or holds code, which is never run: fetch it"),
    (["sing"], "No such command 'sing'"),
    (["train"], "Missing argument 'MODEL'. Choose from: dmae, tcld, in-domain"),
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


@pytest.mark.system
def test_the_help_needs_no_torch_and_neither_does_refusing():
    code = (
        "import sys\nfrom mousai.cli import main\n"
        "bad = ['generate', 'x', '--seconds', '0'], ['reproduce', '--only', '99'], ['listen', '--collect']\n"
        "for words in (['--help'], *bad):\n"
        "    try:\n        main(words)\n    except SystemExit:\n        pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=60)


def commands(group, *words: str) -> list[tuple[str, ...]]:
    """The words of every command, also of `data`."""
    inside = getattr(group, "commands", {})
    return [word for name in inside for word in commands(inside[name], *words, name)] if inside else [words]


@pytest.mark.parametrize("words", commands(get_command(cli.app)), ids=" ".join)
def test_every_command_explains_its_options(words, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--help"])
    assert left.value.code == 0
    options = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  --")]
    assert options and all(len(line.split()) > 2 for line in options)


def test_choices_listed_without_torch_are_those_of_the_modules():
    choice = get_args(arguments.Profile)[0]
    assert tuple(PROFILES) == get_args(choice)
    assert tuple(FORMATS) == arguments.ENDINGS
    assert tuple(SAMPLERS) == get_args(arguments.Sampler)
    assert get_args(arguments.Gpu) == tuple(GPUS)


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


@pytest.mark.integration
def test_train_runs_both_stages_in_a_row_and_says_where_the_weights_are(tiny, tiny_data, tmp_path, monkeypatch, capsys):
    package = tmp_path / "package"
    monkeypatch.setitem(PROFILES, "smoke", tiny)
    monkeypatch.setattr(small_stages, "weights_path", lambda profile, name, *_: package / f"{name}.safetensors")
    stage1 = ["--weights", str(package)]
    runs = [
        ["dmae", "--ship"],
        ["tcld", *stage1, "--out", str(tmp_path / "tcld.safetensors")],
        ["dmae", "--start", str(package / "dmae.safetensors"), "--out", str(tmp_path / "more.safetensors")],
        ["tcld", *stage1, "--ship", "--start", str(tmp_path / "tcld.safetensors")],
    ]
    for words in runs:
        with pytest.raises(SystemExit) as left:
            cli.main(["train", *words, "--profile", "smoke", "--steps", "2", "--device", "cpu"])
        assert left.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    places = [package / "dmae", tmp_path / "tcld", tmp_path / "more", package / "tcld"]
    assert [line.split(": 2 steps, loss ")[0] for line in lines] == [f"{place}.safetensors" for place in places]
    assert all(place.with_suffix(".json").is_file() for place in places)
    cards = [checkpoint.read_card(place.with_suffix(".safetensors")) for place in places]
    assert [card["start"]["sha256"] for card in cards[2:]] == [card["sha256"] for card in cards[:2]]
    own = runs_dir() / "training"
    for folder in (own / "smoke-dmae", tmp_path / "tcld", tmp_path / "more", own / "smoke-tcld"):
        assert {"validation.csv", "best.safetensors", "clips"} <= {path.name for path in folder.iterdir()}


@pytest.mark.integration
def test_an_interrupted_training_saves_what_it_has_and_says_how_to_go_on(tiny, tiny_data, monkeypatch, capsys):
    monkeypatch.setitem(PROFILES, "smoke", tiny)
    step, ours = loop.Stepper.__call__, signal.getsignal(signal.SIGTERM)

    def interrupted(stepper, number):
        if number == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(stepper, number)

    words = ["train", "dmae", "--profile", "smoke", "--steps", "4", "--device", "cpu"]
    try:
        for patch, more, code in ((interrupted, [], 130), (step, ["--resume"], 0)):
            monkeypatch.setattr(loop.Stepper, "__call__", patch)
            with pytest.raises(SystemExit) as left:
                cli.main([*words, *more])
            assert left.value.code == code
    finally:
        signal.signal(signal.SIGTERM, ours)
    again = " ".join([*words, "--resume"])
    assert f"mousai: interrupted: what was trained is kept, go on with `mousai {again}`\n" in capsys.readouterr().err
    assert pd.read_csv(runs_dir() / "training" / "smoke-dmae" / "history.csv").step.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("paper_size", [False, True])
def test_reproduce_passes_on_what_was_asked_and_its_exit_code(tmp_path, monkeypatch, paper_size):
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda *words, **named: asked.append((words, named)) or 1)
    words = ["reproduce", "--profile", "smoke", "--only", "06", "--force", "--out", str(tmp_path / "report")]
    words += ["--keep-going", "--timeout", "90"]
    with pytest.raises(SystemExit) as left:
        cli.main([*words, "--paper-size"] if paper_size else words)
    assert left.value.code == 1
    out = tmp_path / "report"
    request = reproduce.Request("smoke", "06", force=True, out=out, paper_size=paper_size, keep_going=True, timeout=90)
    assert asked == [((request,), {})]
