"""Weights on disk: what is saved comes back, half a file never appears, a wrong file is one clear line."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from mousai import checkpoint
from mousai.checkpoint import load_weights, save_weights
from mousai.config import Profile
from mousai.dmae import DMAE
from mousai.small import stages as small_stages
from mousai.small.profiles import PROFILES
from mousai.small.stages import load_dmae, load_tcld, new_dmae, new_tcld, weights_path
from mousai.unet import count_parameters


@pytest.fixture
def shipped(tiny, tmp_path, monkeypatch):
    """Both stages of the tiny profile where the package's weights would be; returns the path of stage 1's."""
    monkeypatch.setattr(small_stages, "weights_path", lambda profile, name, *_: tmp_path / f"{name}.safetensors")
    torch.manual_seed(0)
    tcld = new_tcld(tiny)
    tcld.latent_std.fill_(0.123456789)
    save_weights(tcld, tmp_path / "tcld.safetensors", {})
    save_weights(new_dmae(tiny.dmae), tmp_path / "dmae.safetensors", {"steps": 7})
    return tmp_path / "dmae.safetensors"


def refused(profile, words: str, kind: type[Exception] = ValueError) -> None:
    """Loading fails with one line that says so."""
    with pytest.raises(kind, match=words) as caught:
        load_dmae(profile, torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_what_is_saved_comes_back_to_half_precision(tiny, shipped):
    torch.manual_seed(0)
    new_tcld(tiny)  # takes the numbers that the fixture's took
    expected = new_dmae(tiny.dmae).state_dict()
    assert_close(dict(load_dmae(tiny, torch.device("cpu")).state_dict()), dict(expected), atol=1e-3, rtol=1e-3)


def test_single_numbers_keep_full_precision(tiny, shipped):
    assert_close(load_tcld(tiny, torch.device("cpu")).latent_std.item(), 0.123456789, atol=1e-8, rtol=0)


def test_the_file_is_half_floats_and_the_model_whole_ones(tiny, shipped):
    assert {t.dtype for t in load_file(shipped).values() if t.numel() > 1} == {torch.float16}
    assert {t.dtype for t in load_dmae(tiny, torch.device("cpu")).state_dict().values()} == {torch.float32}


def test_loaded_models_are_ready_to_use(tiny, shipped):
    assert not load_dmae(tiny, torch.device("cpu")).training
    assert not load_tcld(tiny, torch.device("cpu")).training


def test_the_card_says_how_many_and_which_bytes(tiny, shipped):
    card = json.loads(shipped.with_suffix(".json").read_text())
    assert card == {
        "steps": 7,
        "parameters": count_parameters(new_dmae(tiny.dmae)),
        "sha256": checkpoint.sha256(shipped),
    }
    assert load_weights(new_dmae(tiny.dmae), shipped) == card


def test_missing_weights_name_the_command_that_makes_them(tiny, shipped):
    shipped.unlink()
    refused(tiny, "no weights at .*train them with `mousai train dmae", FileNotFoundError)


def test_a_flipped_byte_is_noticed(tiny, shipped):
    content = bytearray(shipped.read_bytes())
    content[-1] ^= 1
    shipped.write_bytes(content)
    refused(tiny, "does not match the sha256 in its card")


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x80\x02}q\x00."], ids=["empty", "text", "pickle"])
def test_a_file_that_is_no_safetensors_is_refused(tiny, shipped, content):
    shipped.with_suffix(".json").unlink()
    shipped.write_bytes(content)
    refused(tiny, "is not a readable safetensors file")


def test_a_cut_off_file_is_refused(tiny, shipped):
    shipped.with_suffix(".json").unlink()
    shipped.write_bytes(shipped.read_bytes()[:-100])
    refused(tiny, "is not a readable safetensors file")


def without_straight(profile: Profile) -> Profile:
    """The same, its encoder a net alone."""
    return replace(profile, dmae=replace(profile.dmae, encoder=replace(profile.dmae.encoder, pca_start=False)))


def test_weights_of_another_profile_name_the_first_tensor_that_differs(tiny, shipped):
    other = replace(tiny, dmae=replace(tiny.dmae, encoder=replace(tiny.dmae.encoder, channels=24)))
    refused(other, "tensor 'encoder.downs.0.0.bias' is .16,. in the file and .24,. in the model")
    refused(without_straight(tiny), "'encoder.straight.bias' is .32,. in the file and None in the model")


def test_loading_does_not_touch_a_model_that_it_refuses_to_fill(tiny, shipped):
    model = DMAE(without_straight(tiny).dmae)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(ValueError):
        load_weights(model, shipped)
    assert_close(dict(model.state_dict()), before, atol=0, rtol=0)


def test_a_save_that_is_cut_off_leaves_the_old_file(tiny, shipped, monkeypatch):
    before = shipped.read_bytes()

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        save_weights(new_dmae(tiny.dmae), shipped, {})
    assert shipped.read_bytes() == before
    assert len(list(shipped.parent.iterdir())) == 4  # two models, two cards, nothing half-written


def test_nothing_is_left_beside_a_finished_save(shipped):
    names = sorted(path.name for path in shipped.parent.iterdir())
    assert names == ["dmae.json", "dmae.safetensors", "tcld.json", "tcld.safetensors"]


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_shipped_weights_fit_their_profile_where_there_are_any(profile):
    """What the package carries loads; where it carries none, the message says so (a100 ships none)."""
    for name, build in (("dmae", lambda: new_dmae(profile.dmae)), ("tcld", lambda: new_tcld(profile))):
        path = weights_path(profile, name)
        if path.is_file():
            card = load_weights(build(), path)
            assert card["profile"] == profile.name and card["sha256"] == checkpoint.sha256(path)
    assert not weights_path(PROFILES["a100"], "dmae").exists()
