"""Weights travel: what is saved comes back to the bit, offline, and nothing strange in a folder is trusted."""

import json
from dataclasses import replace

import pytest
import torch

from mousai.checkpoint import save_weights
from mousai.inference.pipeline import Mousai
from mousai.interop import hub
from mousai.interop.hub import FILES, STAGES, fetch, page, read_profile, write_folder
from mousai.small.profiles import PROFILES, SMOKE
from mousai.small.stages import new_dmae, new_tcld


@pytest.fixture
def folder(tiny, tmp_path, monkeypatch):
    """A folder of small random weights, saved by `save_pretrained`."""
    torch.manual_seed(0)
    made = tmp_path / "made"
    for name, stage in (("dmae", new_dmae(tiny.dmae)), ("tcld", new_tcld(tiny))):
        save_weights(stage, made / f"{name}.safetensors", {"steps": 3, "hours": 0.5, "licence": "MIT", "data": "noise"})
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return write_folder(tiny, made, tmp_path / "saved")


def test_what_is_saved_is_loaded_offline_and_sounds_the_same(folder, tiny, tmp_path):
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    music = Mousai.from_pretrained(folder, "cpu")
    assert music.profile == tiny
    w = music.generate(["Pop, 1 of 4"], 0.5, seed=3)
    again = Mousai.from_pretrained(music.save_pretrained(tmp_path / "again"), "cpu")
    assert torch.equal(again.generate(["Pop, 1 of 4"], 0.5, seed=3), w)
    for name in FILES:
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("name", list(PROFILES))
def test_every_profile_survives_json(name, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(PROFILES[name].as_dict()))
    assert read_profile(tmp_path) == PROFILES[name]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c["dmae"].pop("crop"), r"profile\.dmae: missing or unknown \['crop'\]"),
        (lambda c: c.update(more=1), r"profile: missing or unknown \['more'\]"),
        (lambda c: c["tcld"]["unet"].update(channels=[1, "2"]), r"profile\.tcld\.unet\.channels\[1\] is '2'"),
        (lambda c: c["tcld"].update(text=None), r"profile\.tcld\.text: missing or unknown None"),
        (lambda c: c["dmae_train"].update(betas=[0.9]), r"profile\.dmae_train\.betas is \[0\.9\]"),
        (lambda c: c.update(name=3), r"profile\.name is 3"),
    ],
)
def test_a_profile_with_a_wrong_field_is_refused_by_name(tmp_path, change, said):
    config = json.loads(json.dumps(SMOKE.as_dict()))
    change(config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=rf"config\.json is not a profile of this version: {said}"):
        read_profile(tmp_path)


def test_weights_that_do_not_fit_the_profile_are_refused(folder, tiny):
    other = replace(tiny, dmae=replace(tiny.dmae, unet=replace(tiny.dmae.unet, features=64)))
    (folder / "config.json").write_text(json.dumps(other.as_dict()))
    with pytest.raises(ValueError, match="these weights are of another profile"):
        Mousai.from_pretrained(folder, "cpu")


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".safetensors", "config.json"))])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(FileNotFoundError, match=name):
        Mousai.from_pretrained(folder, "cpu")


@pytest.mark.parametrize("source", ["nobody/nothing", "no such folder"])
def test_what_is_neither_folder_nor_cached_repository_is_one_line(source, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="no such folder, and no such repository") as caught:
        fetch(source)
    assert "\n" not in str(caught.value)


def test_the_hub_is_given_the_same_files(folder, monkeypatch):
    asked = {}

    class Hub:
        def create_repo(self, name, **how):
            asked["repository"] = name, how["private"]

        def upload_folder(self, folder_path, repo_id, allow_patterns):
            asked["files"] = sorted(path.name for path in folder_path.iterdir())
            return f"hub/{repo_id}"

    monkeypatch.setattr(hub, "HfApi", Hub)
    assert Mousai.from_pretrained(folder, "cpu").push_to_hub("me/music") == "hub/me/music"
    assert asked == {"repository": ("me/music", True), "files": sorted(FILES)}


def test_nets_made_by_hand_say_how_to_save_them(folder):
    music = Mousai.from_pretrained(folder, "cpu")
    with pytest.raises(ValueError, match="come from no file"):
        Mousai(music.profile, music.text, music.tcld, music.dmae).save_pretrained("nowhere")


@pytest.mark.parametrize("place", ["features", "in_channels", "groups", "heads"])
@pytest.mark.parametrize("number", [0, -1, 10**9])
def test_a_net_that_cannot_be_or_would_fill_memory_is_one_line(folder, place, number):
    config = json.loads((folder / "config.json").read_text())
    config["tcld"]["unet"][place] = number
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError) as caught:
        Mousai.from_pretrained(folder, "cpu")
    assert str(caught.value)


def test_the_page_tells_how_to_use_it_and_how_it_was_made(tiny):
    cards = {"dmae": {"steps": 7700, "hours_in_all": 4.1, "parameters": 12_345}, "tcld": {}}
    text = page(tiny, {stage: card | {"licence": "MIT; of our own"} for stage, card in cards.items()})
    assert text.startswith("---\n") and "license: mit\n" in text and "pipeline_tag: text-to-audio" in text
    assert "Mousai.from_pretrained(" in text and "| `dmae.safetensors` | 12,345 | 7700 | 4.1 |" in text
    assert tiny.tcld.text.encoder in text


@pytest.mark.parametrize(
    ("licences", "named"), [(("CC-BY", "CC-BY"), "other"), (("MIT", "CC-BY"), "other"), ((None, "unknown"), "unknown")]
)
def test_licence_and_prompt_on_the_page_are_those_of_the_data(tiny, licences, named):
    cards = {stage: {"licence": licence} if licence else {} for stage, licence in zip(STAGES, licences, strict=True)}
    cards["tcld"]["prompt"] = "Nocturne, Field, 3 of 7"
    text = page(tiny, cards)
    assert f"license: {named}\n" in text
    assert f"- licence of dmae: {licences[0] or 'unknown'}\n- licence of tcld: {licences[1]}\n" in text
    assert "music.generate(['Nocturne, Field, 3 of 7']" in text and "Pop" not in text
