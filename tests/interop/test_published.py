"""The authors' published stage 1: read from the hub's cache as their package wrote it, checked tensor by tensor."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.authors import dmae_pair, one_copy, prefixed
from huggingface_hub import constants
from huggingface_hub.hf_api import ModelInfo
from safetensors.torch import save_file
from torch.testing import assert_close

from mousai import cli
from mousai.config import A100, Profile
from mousai.files import sha256
from mousai.interop import published
from mousai.interop.published import REPOSITORY, REVISION, fetch_dmae, weights_file
from mousai.small.profiles import PROFILES
from mousai.small.stages import load_dmae

PREFIXES = ("", "model.", "model.model.", "module.")


@pytest.fixture
def narrow() -> Profile:
    """The profile a100 with a small stage 1 of the paper's kind."""
    return replace(A100, dmae=dmae_pair(0)[1].config)


@pytest.fixture
def snapshot(tmp_path, monkeypatch) -> Path:
    """The folder of the published revision in an empty hub's cache, offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    folder = tmp_path / "hub" / f"models--{REPOSITORY.replace('/', '--')}" / "snapshots" / REVISION
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"architectures": ["DMAE1d"], "auto_map": {"AutoModel": "dmae1d.DMAE1d"}}')
    (folder / "dmae1d.py").write_text("raise SystemExit('the code of the hub was run')\n")
    return folder


@pytest.mark.parametrize("prefix", PREFIXES)
def test_their_file_becomes_the_stage_1_that_the_profile_loads(snapshot, narrow, tmp_path, prefix):
    theirs, ours, _ = dmae_pair(0)
    torch.save(prefixed(theirs.state_dict(), prefix), snapshot / "pytorch_model.bin")
    path, card = fetch_dmae(tmp_path / "out", narrow)
    assert path == tmp_path / "out" / "dmae.safetensors"
    loaded = load_dmae(narrow, torch.device("cpu"), tmp_path / "out")
    assert_close(dict(loaded.state_dict()), dict(ours.state_dict()), atol=0, rtol=0)
    assert json.loads(path.with_suffix(".json").read_text()) == json.loads(json.dumps(card))
    assert card["source"] == f"{REPOSITORY}/pytorch_model.bin" and card["source_revision"] == REVISION
    assert card["source_sha256"] == sha256(snapshot / "pytorch_model.bin") and card["sha256"] == sha256(path)


def test_one_copy_of_every_tensor_as_safetensors_is_taken_before_a_pickle(snapshot, narrow, tmp_path):
    theirs, ours, _ = dmae_pair(0)
    save_file(prefixed(one_copy(theirs.state_dict(), "diffusion.net."), "model."), snapshot / "model.safetensors")
    (snapshot / "pytorch_model.bin").write_bytes(b"not read")
    fetch_dmae(tmp_path / "out", narrow)
    loaded = load_dmae(narrow, torch.device("cpu"), tmp_path / "out")
    assert_close(dict(loaded.state_dict()), dict(ours.state_dict()), atol=0, rtol=0)


DAMAGES = {
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:-1000]), "is damaged, or holds code"),
    "no weights": (lambda path: path.write_bytes(b"<html>login</html>"), "is damaged, or holds code"),
    "another network": (lambda path: torch.save({"layer.weight": torch.ones(3)}, path), r"missing \['encoder\.down"),
    "another width": (
        lambda path: torch.save(dmae_pair(1)[0].state_dict(), path),
        "are missing|is .* in the file and .* in the model",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_wrong_file_is_named_in_one_line_and_nothing_is_written(snapshot, narrow, tmp_path, damage):
    path = snapshot / "pytorch_model.bin"
    torch.save(dmae_pair(0)[0].state_dict(), path)
    change, said = DAMAGES[damage]
    change(path)
    with pytest.raises(ValueError, match=said) as caught:
        fetch_dmae(tmp_path / "out", narrow)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_missing_tensor_is_named(snapshot, narrow, tmp_path):
    state = dict(dmae_pair(0)[0].state_dict())
    del state["encoder.to_out.bias"]
    torch.save(prefixed(state, "model."), snapshot / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"1 tensors are missing \['encoder\.to_out\.bias'\]"):
        fetch_dmae(tmp_path / "out", narrow)


def test_without_cache_and_network_it_says_so_in_one_line(snapshot, narrow, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no file of tensors there|not in the cache, and HF_HUB_OFFLINE is set"
    ):
        fetch_dmae(tmp_path / "out", narrow)
    (snapshot / "config.json").unlink()
    (snapshot / "dmae1d.py").unlink()
    snapshot.rmdir()
    with pytest.raises(FileNotFoundError, match="not in the cache, and HF_HUB_OFFLINE is set: run it where") as caught:
        fetch_dmae(tmp_path / "out", narrow)
    assert "\n" not in str(caught.value)


def test_the_size_is_said_before_the_download_of_that_revision(snapshot, monkeypatch, capsys):
    asked = []

    class Hub:
        def model_info(self, repository, revision, files_metadata):
            assert (repository, revision, files_metadata) == (REPOSITORY, REVISION, True)
            files = [{"rfilename": "dmae1d.py", "size": 900}, {"rfilename": "pytorch_model.bin", "size": 740_431_488}]
            return ModelInfo(id=repository, siblings=files, tags=[], private=False, downloads=0, likes=0)

    def download(repository, name, revision):
        asked.append((repository, name, revision, capsys.readouterr().err))
        return str(snapshot / name)

    monkeypatch.setattr(published, "HfApi", Hub)
    monkeypatch.setattr(published, "hf_hub_download", download)
    assert weights_file() == snapshot / "pytorch_model.bin"
    said = f"{REPOSITORY}/pytorch_model.bin: 740 MB, revision 3ffeea68\n"
    assert asked == [(REPOSITORY, "pytorch_model.bin", REVISION, said)]


def test_the_command_says_what_came_and_how_to_use_it(snapshot, narrow, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(PROFILES, "a100", narrow)
    torch.save(dmae_pair(0)[0].state_dict(), snapshot / "pytorch_model.bin")
    with pytest.raises(SystemExit) as left:
        cli.main(["fetch", "dmae", "--out", str(tmp_path / "out")])
    printed = capsys.readouterr()
    assert left.value.code == 0, printed.err
    assert sha256(snapshot / "pytorch_model.bin") in printed.out
    assert f"mousai encode FILE --profile a100 --weights {tmp_path / 'out'}" in printed.out


@pytest.mark.paper_size
def test_the_papers_size_as_their_package_writes_it(snapshot, tmp_path):
    from mousai.bench.authors import authors_dmae

    theirs = authors_dmae(A100.dmae)
    torch.save(prefixed(theirs.state_dict(), "model."), snapshot / "pytorch_model.bin")
    _, card = fetch_dmae(tmp_path / "out", A100)
    assert card["parameters"] == 185_107_872
    loaded = load_dmae(A100, torch.device("cpu"), tmp_path / "out").state_dict()
    assert_close(loaded["encoder.to_out.weight"], theirs.state_dict()["encoder.to_out.weight"], atol=0, rtol=0)
