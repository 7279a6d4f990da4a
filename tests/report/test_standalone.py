"""A notebook run by itself: parameters as people write them, what it needs said first, its result known afterwards."""

import json
from dataclasses import replace
from types import SimpleNamespace

import nbformat
import pytest
from helpers.notebooks import notebook, run, statuses

from mousai.data.records import read_manifest, write_manifest
from mousai.report import standalone
from mousai.report.record import Report
from mousai.report.standalone import ROOT, check, flag, number, text, whole
from mousai.reproduce import run as reproduce
from mousai.small.profiles import A100, A100_REHEARSAL, CPU, SMOKE
from mousai.small.stages import weights_path

NAME = "01_first"


@pytest.mark.parametrize(
    ("read", "given", "meant"),
    [
        (whole, 3, 3), (whole, 1e0, 1), (whole, "12", 12), (whole, "1e3", 1000), (whole, 2**62 + 1, 2**62 + 1),
        (number, "1e-4", 1e-4), (number, 2, 2.0), (flag, "true", True), (flag, "False", False), (flag, 1, True),
        (flag, None, False), (text, None, ""), (text, "cuda:0", "cuda:0"),
    ],
)  # fmt: skip
def test_a_parameter_is_taken_as_people_write_it(read, given, meant):
    found = read("x", given)
    assert found == meant and type(found) is type(meant)


@pytest.mark.parametrize(
    ("read", "given", "said"),
    [
        (whole, "many", "give a number"), (whole, 1.5, "a whole number from 0"), (whole, -1, "a whole number from 0"),
        (whole, None, "give a number"), (whole, True, "give a number"), (whole, float("nan"), "a whole number from 0"),
        (whole, 2**63, "a whole number from 0"), (number, [1], "give a number"), (flag, "maybe", "give true or false"),
        (text, 3, "give a text"),
    ],
)  # fmt: skip
def test_a_parameter_that_does_not_fit_is_named(read, given, said):
    with pytest.raises(ValueError, match=f"^parameter x is .*{said}"):
        read("x", given)


def test_the_seed_is_the_profiles_so_that_what_is_generated_follows_it(home, tmp_path):
    report = Report(NAME, "smoke", tmp_path, 1e0, None)
    assert (report.seed, report.profile.seed, report.work.profile.seed) == (1, 1, 1) and type(report.seed) is int
    default = Report(NAME, "smoke", tmp_path)
    assert default.profile == SMOKE
    assert default.content()["provenance"]["profile_sha256"] == report.content()["provenance"]["profile_sha256"]


def test_what_a_reader_sweeps_replaces_the_profiles_values_and_is_in_its_hash(home, tmp_path):
    as_it_is = {"tcld_steps": 0, "dmae_steps": 0, "guidance": -1.0, "sampler": "", "prompts_per_genre": 0}
    same = Report(NAME, "smoke", tmp_path, **as_it_is)
    assert same.profile == SMOKE
    other = Report(NAME, "smoke", tmp_path, **as_it_is | {"tcld_steps": "7", "guidance": 0, "prompts_per_genre": 1e0})
    assert other.profile.sampling == replace(SMOKE.sampling, tcld_steps=7, guidance=0.0)
    assert other.profile.evaluation == replace(SMOKE.evaluation, prompts_per_genre=1)
    assert other.settings_sha256 != same.settings_sha256
    for name, value in (("sampler", "euler"), ("guidance", "high"), ("dmae_steps", -2)):
        with pytest.raises(ValueError, match=value if name == "sampler" else f"parameter {name} is {value!r}"):
            Report(NAME, "smoke", tmp_path, **{name: value})


def test_results_go_to_the_report_of_profile_music_and_weights_or_to_a_readers_own_folder(
    home, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(ROOT)
    assert Report(NAME, "smoke", None).out == ROOT / "reports" / "smoke"
    assert capsys.readouterr().out == "results go to reports/smoke\n"
    monkeypatch.setenv("MOUSAI_DATA", str(tmp_path / "mine"))
    assert Report(NAME, "smoke").out == ROOT / "reports" / "smoke-mine"
    monkeypatch.setenv("MOUSAI_WEIGHTS", str(tmp_path / "weights"))
    assert Report(NAME, "smoke").out == ROOT / "reports" / "smoke-mine-weights"
    monkeypatch.setenv("JPY_SESSION_NAME", "a.ipynb")
    assert Report(NAME, "smoke").out == home / "lessons" / "smoke"


def test_own_weights_stand_in_for_the_shipped_ones_of_their_profile(tmp_path, monkeypatch):
    shipped = weights_path(CPU, "dmae")
    monkeypatch.setenv("MOUSAI_WEIGHTS", str(tmp_path))
    assert weights_path(CPU, "tcld") == tmp_path / "tcld.safetensors"
    assert weights_path(CPU, "in_domain").parent == shipped.parent
    (tmp_path / "dmae.json").write_text(json.dumps({"profile": "a100"}))
    assert weights_path(CPU, "dmae") == shipped and weights_path(A100, "dmae") == tmp_path / "dmae.safetensors"


# What it needs


def test_what_is_missing_is_said_with_the_command_that_mends(space, tiny_data):
    check(space, ("data", "test"))
    with pytest.raises(ValueError, match="'datum': not a need of a notebook"):
        check(space, ("datum",))
    paper = replace(space, profile=A100)
    with pytest.raises(FileNotFoundError, match=r"no weights at .*`mousai train dmae --profile a100 --ship`"):
        check(paper, ("dmae", "data"))
    with pytest.raises(FileNotFoundError, match="'t5-base' is not in the local cache: fetch it once, `hf download t5-"):
        check(paper, ("text",))
    with pytest.raises(FileNotFoundError, match="mousai reproduce --profile a100 --rehearse` makes it"):
        check(replace(space, profile=A100_REHEARSAL), ("text",))
    (tiny_data / "manifest.jsonl").rename(tiny_data / "away.jsonl")
    with pytest.raises(FileNotFoundError, match="run `mousai data prepare --profile tiny` first"):
        check(replace(space), ("data",))


@pytest.mark.parametrize(
    ("changes", "need", "said"),
    [
        ({"split": "train"}, "test", "no piece is in the test split"),
        ({}, "genres", "this notebook compares genres, but none is in both training and test"),
        ({"genre": "Nocturne"}, "genres", "but only Nocturne is in both training and test: import it with tags"),
        ({}, "genres", "or run `--only 01,02,03,04,06,09,10,12`$"),
    ],
)
def test_music_that_a_notebook_cannot_use_is_refused_first(space, tiny_data, changes, need, said):
    path = tiny_data / "manifest.jsonl"
    write_manifest([replace(record, **changes) for record in read_manifest(path)], path)
    with pytest.raises(ValueError, match=said):
        check(space, (need,))


def test_weights_that_the_package_cannot_take_are_trained_into_another_folder(space, monkeypatch):
    paper, own = (
        replace(space, profile=A100),
        "--out DIR/dmae.safetensors`, and set MOUSAI_WEIGHTS to their folder DIR",
    )
    monkeypatch.setattr(standalone.os, "access", lambda path, mode: False)
    with pytest.raises(FileNotFoundError, match=f"`mousai train dmae --profile a100 {own}"):
        check(paper, ("dmae",))


def test_pieces_of_several_lengths_have_no_segments_to_compare(space, tiny_data):
    path = tiny_data / "manifest.jsonl"
    records = [replace(record, split="test") for record in read_manifest(path)]
    write_manifest(records, path)
    check(space, ("segments",))
    write_manifest([replace(records[0], chunks=2), *records[1:]], path)
    with pytest.raises(ValueError, match="test pieces of several lengths"):
        check(space, ("segments",))


def test_reproduce_looks_at_what_is_needed_before_it_renders(home, monkeypatch):
    monkeypatch.setattr(reproduce, "prepare", None)
    with pytest.raises(FileNotFoundError, match=r"04_dmae_training: no weights at .*--profile a100 --ship"):
        reproduce.reproduce(reproduce.Request("a100", only="04"))
    monkeypatch.setattr(reproduce, "disk_usage", lambda place: SimpleNamespace(free=10**6))
    with pytest.raises(ValueError, match="GB for music, 0 GB are free: free some space, or set MOUSAI_HOME"):
        reproduce.reproduce(reproduce.Request("smoke", only="00", out=home / "report"))


# Its result


@pytest.fixture
def kernel(tmp_path, monkeypatch):
    """A kernel that has run the cells of a notebook, with the values that papermill gave it."""
    monkeypatch.setattr(standalone, "NOTEBOOKS", tmp_path)
    notebook(tmp_path, NAME, parameters='profile = "cpu"\nseed = 0\nout = ""\ndevice = ""\nsteps = 3')
    sources = [cell.source for cell in nbformat.read(tmp_path / f"{NAME}.ipynb", as_version=4).cells]
    history = ["", sources[0], "# Parameters\nsteps = 5\n", *sources[1:]]
    shell = SimpleNamespace(user_ns={"steps": 3}, history_manager=SimpleNamespace(input_hist_raw=history))
    monkeypatch.setattr(standalone, "get_ipython", lambda: shell)
    return shell


def made(out) -> dict:
    report = Report(NAME, "smoke", seed=1)
    report.out = out
    return report.content()["provenance"]


def test_a_whole_run_by_papermill_is_known_by_what_it_depends_on(home, kernel, tmp_path):
    first = made(tmp_path)["key"]
    kernel.user_ns["steps"] = 5
    assert made(tmp_path)["key"] != first
    kernel.history_manager.input_hist_raw.append("x = 1")
    assert "key" not in made(tmp_path)


def test_reproduce_keeps_what_papermill_made_until_it_changes(lessons, monkeypatch, capsys):
    notebook(lessons, NAME)
    out, result = lessons.parent / "report", {"notebook": NAME, "profile": "smoke", "artefacts": {}}
    [task] = reproduce.tasks_of(reproduce.Request("smoke", notebooks=lessons, upstream={NAME: ()}), out)
    (out / "results").mkdir(parents=True)
    for key, said in ((reproduce.cache.key(task.notebook, task.parameters, (), out), "is"), ("another", "would")):
        result["provenance"] = {"key": key}
        (out / "results" / f"{NAME}.json").write_text(json.dumps(result))
        assert run(lessons, {NAME: ()}, dry_run=True) == 0
        assert statuses(capsys.readouterr().out) == [(NAME, said)]
