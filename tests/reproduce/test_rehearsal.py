"""A preflight is a100 in all but amounts; it stays apart, and nothing of it passes for a result."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from helpers.notebooks import notebook
from helpers.results import write_all

from mousai import cli
from mousai.checkpoint import save_weights
from mousai.config import A100, GENRES
from mousai.data.dataset import workspace
from mousai.data.embedded import embedded_root
from mousai.data.records import Record, write_manifest
from mousai.evaluation.samples import model_context
from mousai.report.build import build
from mousai.report.record import Report
from mousai.report.standalone import ROOT
from mousai.reproduce import preflight as rehearsal
from mousai.reproduce import run as reproduce
from mousai.reproduce.preflight import MAKERS, NOTE, apart, made, prepare
from mousai.reproduce.verify import verify
from mousai.small.profiles import A100_REHEARSAL
from mousai.small.stages import load_dmae, new_dmae, new_tcld, weights_path

NAME = A100_REHEARSAL.name
TRAINED = {f"{stage}_train.{key}" for stage in ("dmae", "tcld") for key in ("steps", "notebook_steps", "batch")}
SAMPLED = {f"sampling.{key}" for key in ("tcld_steps", "dmae_steps", "guidance")}
AMOUNTS = {"name", "data.pieces", "sampling.dmae_precision", "tcld.text.encoder", *TRAINED, *SAMPLED}


@pytest.fixture
def world(tmp_path, monkeypatch) -> Path:
    """Its own MOUSAI_HOME; what `apart` changes of the environment is put back afterwards."""
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "MOUSAI_DATA"):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    monkeypatch.setenv("MOUSAI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def flat(config: dict, before: str = "") -> dict:
    parts = [flat(v, f"{before}{k}.") if isinstance(v, dict) else {before + k: v} for k, v in config.items()]
    return {key: value for part in parts for key, value in part.items()}


def test_a_rehearsal_differs_from_a100_in_amounts_and_in_its_text_encoders_name():
    mine, theirs = flat(A100_REHEARSAL.as_dict()), flat(A100.as_dict())
    changed = {key for key in theirs if mine[key] != theirs[key]}
    assert {key for key in changed if not key.startswith("evaluation.")} == AMOUNTS
    assert all(mine[key] < theirs[key] for key in changed if isinstance(mine[key], int | float))
    assert A100_REHEARSAL.rehearsal and not A100.rehearsal


def test_every_tensor_of_a_rehearsal_has_a100s_shape():
    with torch.device("meta"):
        pairs = [[new_dmae(p.dmae), new_tcld(p)] for p in (A100, A100_REHEARSAL)]
    for real, mine in zip(*pairs, strict=True):
        assert {k: v.shape for k, v in mine.state_dict().items()} == {k: v.shape for k, v in real.state_dict().items()}
    assert pairs[1][1].window == 2048 and A100_REHEARSAL.dmae.crop == 2**18
    assert A100_REHEARSAL.data.piece_samples // A100_REHEARSAL.data.chunks == 2**21


def test_a_preflights_results_are_refused_as_a100s(world, tmp_path):
    write_all(tmp_path, NAME)
    assert f"profile `{NAME}`" in build(tmp_path, NAME).read_text()
    for ask in (lambda: build(tmp_path, "a100"), lambda: verify(tmp_path, "a100", ())):
        with pytest.raises(ValueError, match="of profile 'a100-rehearsal', not 'a100'"):
            ask()


def test_one_real_result_among_a_rehearsals_is_refused(world, tmp_path):
    write_all(tmp_path, NAME)
    Report("01_v_diffusion", "a100", tmp_path, device="cpu").done()
    with pytest.raises(ValueError, match=r"01_v_diffusion\.json: of profile 'a100', not 'a100-rehearsal'"):
        build(tmp_path, NAME)


@pytest.mark.system
def test_a_rehearsal_runs_apart_and_neither_folder_nor_run_log_is_a_real_runs(world, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOUSAI_DATA", str(tmp_path))
    names = ("MOUSAI_HOME", "MOUSAI_DATA", "HF_HUB_CACHE", "HF_HUB_OFFLINE")
    notebook(tmp_path / "lessons", "01_first", "import os", data=f"{{n: os.environ.get(n) for n in {names}}}")
    where = {"out": tmp_path / "report", "notebooks": tmp_path / "lessons", "upstream": {"01_first": ()}}
    for status in ("ok", "cached"):
        assert reproduce.reproduce(reproduce.Request(NAME, **where)) == 0
        assert f"01_first {status}" in capsys.readouterr().out
    inside = world / "rehearsal"
    seen = json.loads((tmp_path / "report" / "results" / "01_first.json").read_text())["data"]
    assert seen == dict(zip(names, (str(inside), None, str(inside / "hub"), "1"), strict=True))
    assert [path.name for path in world.iterdir()] == ["rehearsal"]
    before = (tmp_path / "report" / "results" / "01_first.json").read_bytes()
    with pytest.raises(ValueError, match="holds results of profile 'a100-rehearsal', not 'a100': choose another --out"):
        reproduce.reproduce(reproduce.Request("a100", **where))
    assert (tmp_path / "report" / "results" / "01_first.json").read_bytes() == before


def test_to_be_apart_twice_is_to_be_apart(world):
    apart()
    once = dict(os.environ)
    apart()
    assert dict(os.environ) == once and "MOUSAI_DATA" not in once


def test_weights_of_a_rehearsal_are_not_where_a100_looks(world):
    for name in ("dmae", "tcld"):
        place = weights_path(A100_REHEARSAL, name)
        assert place.is_relative_to(world)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    with pytest.raises(FileNotFoundError, match=r"no weights at .*a100/dmae"):
        model_context(workspace(A100, os.environ, "cpu"), ("dmae", "tcld"))
    work = workspace(A100_REHEARSAL, os.environ, "cpu")
    assert model_context(work, ("dmae", "tcld"))["dmae_sha256"]


def test_weights_of_a_rehearsal_that_were_copied_are_refused(world, tiny, tmp_path):
    save_weights(new_dmae(tiny.dmae), tmp_path / "dmae.safetensors", {"profile": NAME})
    with pytest.raises(ValueError, match="made in a rehearsal, in a step: train them with `mousai train dmae`"):
        load_dmae(tiny, torch.device("cpu"), tmp_path)
    assert load_dmae(replace(tiny, name="tiny-rehearsal"), torch.device("cpu"), tmp_path)


def test_only_what_is_missing_is_made_and_a_failure_is_one_line(world, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(rehearsal, "made", lambda name: name == "laion")
    monkeypatch.setattr("mousai.bench.efficiency.in_fresh_process", lambda *words: asked.append(words))
    prepare()
    assert asked == [("mousai.reproduce.preflight", name) for name in ("t5", "dmae", "tcld")]
    assert capsys.readouterr().out.splitlines()[:2] == [NOTE, "REHEARSAL: making t5"]

    def fails(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr("mousai.bench.efficiency.in_fresh_process", fails)
    with pytest.raises(ChildProcessError, match="no memory"):
        prepare()


def test_weights_and_stand_ins_count_once_they_are_whole_and_of_this_profile(world):
    apart()
    assert not any(made(name) for name in MAKERS)
    with rehearsal.stand_in(A100_REHEARSAL.tcld.text.encoder):
        assert not made("t5")
    assert made("t5") and not made("laion")
    path, config = weights_path(A100_REHEARSAL, "dmae"), asdict(A100_REHEARSAL.dmae)
    for stored, good in ((config | {"hop": 255}, False), (config, True)):
        save_weights(torch.nn.Linear(1, 1), path, {"config": stored})
        assert made("dmae") == good


FRESH = """
import json, socket
def asked(*_, **__):
    raise AssertionError("a network was asked")
socket.socket.connect = socket.getaddrinfo = asked
from mousai.reproduce.preflight import apart, made, make_t5
apart()
make_t5()
from mousai.config import A100
from mousai.small.profiles import A100_REHEARSAL
from mousai.text import load_text_encoder
text = load_text_encoder(A100_REHEARSAL.tcld.text)
said = {"made": made("t5"), "parameters": sum(p.numel() for p in text.parameters()), "name": text.config.encoder}
said["shape"] = list(text(["Metal, 1883, Tune 3, 2 of 4", "Ryan's Mammoth Collection, Hip Hop"]).shape)
try:
    load_text_encoder(A100.tcld.text)
except FileNotFoundError as error:
    said["real"] = str(error)
print(json.dumps(said))
"""


@pytest.mark.system
def test_the_random_t5_is_as_large_as_t5_base_and_no_network_and_no_real_run_is_asked_for_it(world, monkeypatch):
    monkeypatch.setenv("MOUSAI_HOME", str(world / "rehearsal"))
    fields = ("artist", "album", "key", "licence", "source", "sha256")
    records = [
        Record(
            id=str(i), title=f"Tune {i}", genre=genre, year=1883, tempo=120.0, split="train", file=f"{i}.flac",
            samples=2**23, chunks=4, **dict.fromkeys(fields, "Nobody"),
        )
        for i, genre in enumerate(GENRES)
    ]  # fmt: skip
    write_manifest(records, embedded_root(A100_REHEARSAL, world / "rehearsal") / "manifest.jsonl")
    environment = os.environ | {"MOUSAI_HOME": str(world), "HF_HUB_CACHE": os.devnull}
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said.pop("real").startswith("text encoder 't5-base' is not in the local cache")
    parts = {"made": True, "parameters": 109_628_544, "name": "REHEARSAL/t5-base", "shape": [2, 64, 768]}
    assert said == parts


def test_the_command_rehearses_a100_alone(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(reproduce, "reproduce", lambda request: asked.append(request.profile) or 0)
    for profile, code in (("a100", 0), ("cpu", 2)):
        with pytest.raises(SystemExit) as left:
            cli.main(["reproduce", "--profile", profile, "--rehearse"])
        assert left.value.code == code
    assert asked == [NAME]
    assert "'--rehearse' is for a100 only (cpu can simply be run): add --profile a100" in capsys.readouterr().err


@pytest.mark.system
def test_the_report_of_a_rehearsal_is_not_committed(tmp_path):
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("no checkout")
    ignored = ["git", "check-ignore", "-q", f"reports/{NAME}/README.md"]
    assert subprocess.run(ignored, cwd=ROOT).returncode == 0
