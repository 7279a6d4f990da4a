"""Files of the authors' weights: read without running code, mapped to ours and back unchanged, refused in one line."""

import json
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.authors import dmae_pair, one_copy, prefixed, tcld_pair
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from mousai import cli
from mousai.bench.authors import authors_tcld
from mousai.config import A100, TCLDConfig, TextConfig
from mousai.files import sha256
from mousai.interop.authors import (
    dmae_from_authors,
    dmae_to_authors,
    import_weights,
    read_state,
    tcld_from_authors,
    tcld_to_authors,
)
from mousai.small import stages as small_stages
from mousai.small.config import SmallDMAEConfig, SmallUNetConfig
from mousai.small.profiles import PROFILES
from mousai.small.stages import load_dmae, load_tcld, new_tcld
from mousai.text import load_text_encoder

PREFIXES = ("", "model.", "model.model.", "module.", "_orig_mod.net_of_mine.")
ENDINGS = (".bin", ".pt", ".pth", ".ckpt")
EXACT = {"atol": 0, "rtol": 0}


@pytest.fixture
def paper():
    """The a100 profile's name with small networks of the paper's kind, and their two nets with random weights."""
    dmae, tcld = dmae_pair(0), tcld_pair(0)
    profile = replace(A100, dmae=dmae[1].config, tcld=tcld[1].config)
    return profile, {"dmae": dmae[0].state_dict(), "tcld": tcld[0].state_dict()}


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("seed", range(3))
def test_a_file_of_theirs_becomes_ours_and_theirs_again_unchanged(tmp_path, seed, prefix):
    for pair, from_authors, to_authors in (
        (dmae_pair, dmae_from_authors, dmae_to_authors),
        (tcld_pair, tcld_from_authors, tcld_to_authors),
    ):
        theirs, ours, *_ = pair(seed)
        first, second = tmp_path / "first.bin", tmp_path / "second.bin"
        torch.save(prefixed(theirs.state_dict(), prefix), first)
        state = from_authors(read_state(first), ours.config)
        assert_close(state, dict(ours.state_dict()), **EXACT)
        torch.save(to_authors(state, ours.config), second)
        assert_close(read_state(second), dict(theirs.state_dict()), **EXACT)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("kept", ["net.", "diffusion.net.", "sampler.net."])
def test_a_safetensors_file_of_theirs_has_one_copy_and_any_will_do(tmp_path, kept, prefix):
    for pair, from_authors in ((dmae_pair, dmae_from_authors), (tcld_pair, tcld_from_authors)):
        theirs, ours, *_ = pair(1)
        save_file(prefixed(one_copy(theirs.state_dict(), kept), prefix), tmp_path / "model.safetensors")
        state = from_authors(read_state(tmp_path / "model.safetensors"), ours.config)
        assert_close(state, dict(ours.state_dict()), **EXACT)


@pytest.fixture
def with_t5(t5_folder, monkeypatch):
    """Their text-conditioned model with a tiny T5 inside, its configuration, and that T5."""
    config = TCLDConfig(tcld_pair(2)[1].config.unet, TextConfig(str(t5_folder), 16, 64))
    config = replace(config, unet=replace(config.unet, embedding_features=16))
    encoder = load_text_encoder(config.text)
    for name in ("AutoTokenizer", "T5EncoderModel"):
        part = encoder.tokenizer if name == "AutoTokenizer" else encoder.model
        monkeypatch.setattr(f"transformers.{name}.from_pretrained", lambda _, part=part: part)
    torch.manual_seed(0)
    return authors_tcld(config, use_text_conditioning=True), config, encoder.model


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_model_with_its_t5_inside_goes_round_too(tmp_path, with_t5, prefix):
    theirs, config, t5 = with_t5
    torch.save(prefixed(theirs.state_dict(), prefix), tmp_path / "model.bin")
    ours = tcld_from_authors(read_state(tmp_path / "model.bin"), config)
    assert_close(tcld_to_authors(ours, config, t5.state_dict()), dict(theirs.state_dict()), **EXACT)
    assert import_weights(tmp_path / "model.bin", tmp_path, replace(A100, tcld=config))[1]["model"] == "tcld"
    without = authors_tcld(config)
    without.load_state_dict(tcld_to_authors(ours, config))
    assert_close(tcld_from_authors(without.state_dict(), config), ours, **EXACT)


class Code:
    """A pickle that touches a file when it is read as pickles are."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_pickle_with_code_is_refused_and_its_code_does_not_run(tmp_path, ending, zipped):
    path, trace = tmp_path / f"model{ending}", tmp_path / "trace"
    state = {"state_dict": dict(dmae_pair(0)[0].state_dict()), "callback": Code(trace)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    refused(path, "holds code, which is never run")
    assert not trace.exists()
    torch.load(path, weights_only=False)
    assert trace.exists()  # else the test would show nothing


def refused(path: Path, words: str) -> None:
    """Reading fails with one line that names the file and says so."""
    with pytest.raises(ValueError, match=words) as caught:
        read_state(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("ending", [*ENDINGS, ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"nonsense", b"\x80\x02}q\x00.", None], ids=["empty", "text", "pickle", "cut"]
)
def test_a_damaged_file_is_refused(tmp_path, ending, content):
    path = tmp_path / f"model{ending}"
    if content is None:
        (save_file if ending == ".safetensors" else torch.save)({"net.blocks.0.weight": torch.ones(100)}, path)
        content = path.read_bytes()[:-200]
    path.write_bytes(content)
    refused(path, "is damaged, or holds code, which is never run: fetch it again")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_no_tensor_of_weights_is_named(tmp_path, ending):
    path, tensor = tmp_path / f"model{ending}", torch.ones(2)
    for content, words in (
        ({"net.blocks.0.weight": tensor, "epoch": 3}, "holds int 'epoch'"),
        ({"net.blocks.0.weight": tensor, 5: tensor}, "holds Tensor 5"),
        ({"step": torch.tensor(3)}, "holds Tensor 'step'"),
        ({"state_dict": {"net": {"blocks": tensor}}}, "holds dict 'net'"),
        ({"state_dict": [tensor]}, "holds list ''"),
        ([tensor], "holds list ''"),
    ):
        torch.save(content, path)
        refused(path, words)


def test_lightnings_outer_dictionary_is_unwrapped(tmp_path):
    theirs, ours, *_ = tcld_pair(0)
    state = OrderedDict(prefixed(theirs.state_dict(), "model."))
    torch.save(
        {"epoch": 3, "global_step": 7, "hyper_parameters": {"lr": 1e-4}, "state_dict": state}, tmp_path / "a.ckpt"
    )
    state = tcld_from_authors(read_state(tmp_path / "a.ckpt"), ours.config)
    assert_close(state, dict(ours.state_dict()), **EXACT)


@pytest.mark.parametrize("name", ["dmae", "tcld"])
def test_a_missing_and_an_unexpected_tensor_of_a_file_are_named(tmp_path, paper, name):
    profile, states = paper
    state = prefixed(one_copy(states[name], "net."), "model.")
    gone = "net.blocks.1.blocks.0.0.bias" if name == "tcld" else "net.blocks.2.blocks.1.blocks.0.0.bias"
    state["model.net.surprise"] = state.pop(f"model.{gone}")
    torch.save(state, path := tmp_path / "model.bin")
    with pytest.raises(ValueError, match=rf"model.bin: 1 .* missing \['{gone}'\] and 1 unexpected \['net.surprise'\]"):
        import_weights(path, tmp_path / "out", profile)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def importing(paper, tmp_path, home, monkeypatch):
    """Run `mousai import-weights` on a state dict; returns the exit code. --profile a100 means the small networks."""
    monkeypatch.setitem(PROFILES, "a100", paper[0])
    monkeypatch.setattr(
        small_stages, "weights_path", lambda profile, name, *_: tmp_path / "a100" / f"{name}.safetensors"
    )

    def run(state: dict, *words: str) -> int | str | None:
        torch.save(state, tmp_path / "theirs.bin")
        with pytest.raises(SystemExit) as left:
            cli.main(["import-weights", str(tmp_path / "theirs.bin"), "--out", str(tmp_path / "a100"), *words])
        return left.value.code

    return run


@pytest.mark.parametrize("prefix", ["", "model."])
def test_imported_weights_are_what_the_profile_loads(tmp_path, paper, importing, prefix, capsys):
    profile, states = paper
    for name, load in (("dmae", load_dmae), ("tcld", load_tcld)):
        assert importing(prefixed(states[name], prefix)) == 0
        assert "--profile a100 now loads them" in capsys.readouterr().out
        expected = {"dmae": dmae_pair, "tcld": tcld_pair}[name](0)[1].state_dict()
        assert_close(dict(load(profile, torch.device("cpu")).state_dict()), dict(expected), **EXACT)
    names = sorted(path.name for path in (tmp_path / "a100").iterdir())
    assert names == ["dmae.json", "dmae.safetensors", "tcld.json", "tcld.safetensors"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_files_own_precision_is_kept(tmp_path, paper, importing, dtype):
    assert importing({name: tensor.to(dtype) for name, tensor in paper[1]["dmae"].items()}) == 0
    assert {tensor.dtype for tensor in load_file(tmp_path / "a100" / "dmae.safetensors").values()} == {dtype}


def test_the_card_says_from_which_file_and_whose_licence(tmp_path, paper, importing):
    profile, states = paper
    assert importing(states["tcld"]) == 0
    path = tmp_path / "a100" / "tcld.safetensors"
    card = json.loads(path.with_suffix(".json").read_text())
    config = card.pop("config")
    assert config["unet"]["channels"] == list(profile.tcld.unet.channels)
    assert card == {
        "profile": "a100",
        "model": "tcld",
        "command": f"mousai import-weights {tmp_path / 'theirs.bin'} --out {tmp_path / 'a100'} --profile a100",
        "source": "theirs.bin",
        "source_sha256": sha256(tmp_path / "theirs.bin"),
        "licence": "that of the file imported",
        "parameters": sum(p.numel() for p in new_tcld(profile).parameters()),
        "sha256": sha256(path),
    }


def test_elsewhere_the_line_says_where_the_profile_looks(tmp_path, paper, importing, monkeypatch, capsys):
    monkeypatch.setattr(
        small_stages, "weights_path", lambda profile, name, *_: tmp_path / "package" / f"{name}.safetensors"
    )
    assert importing(paper[1]["dmae"]) == 0
    assert f"--profile a100 loads what is in {tmp_path / 'package'}: use that as --out" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dmae", "tcld"])
def test_a_tensor_of_another_shape_is_named_and_nothing_written(tmp_path, paper, importing, name, capsys):
    state = dict(paper[1][name])
    where = "net.blocks.2.blocks.1.net.skip.blocks.0.1.bias" if name == "tcld" else "encoder.to_out.bias"
    for copy in ("", "diffusion.", "sampler."):
        if copy + where in state:
            state[copy + where] = torch.ones(77)
    assert importing(state) == 2
    printed = capsys.readouterr().err
    ours = "unet.net.skip.bias" if name == "tcld" else "encoder.to_out.bias"
    assert f"theirs.bin: tensor '{ours}' is (77,) in the file and (" in printed and printed.count("\n") == 1
    assert not (tmp_path / "a100").exists()


def test_a_profile_that_departs_from_the_paper_takes_no_weights_of_theirs(tmp_path, paper, importing, capsys):
    assert importing(paper[1]["dmae"], "--profile", "smoke") == 2
    assert "theirs.bin: the authors' model has no log_floor" in capsys.readouterr().err
    assert not (tmp_path / "a100").exists()


def test_the_file_that_is_read_is_never_overwritten(tmp_path, paper):
    profile, states = paper
    path = tmp_path / "dmae.safetensors"
    save_file(one_copy(states["dmae"], "net."), path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"dmae\.safetensors would be overwritten: choose another folder"):
        import_weights(path, tmp_path, profile)
    assert path.read_bytes() == before


def test_a_departure_in_how_weights_start_does_not_matter(paper):
    """The first skip scale is where training begins, not what the net computes."""
    profile, states = paper
    ours = dmae_from_authors(states["dmae"], profile.dmae)
    unet = SmallUNetConfig(**vars(profile.dmae.unet) | {"skip_start": 0.5})
    config = SmallDMAEConfig(**vars(profile.dmae) | {"unet": unet})
    assert_close(dmae_from_authors(states["dmae"], config), ours, **EXACT)
    assert_close(dmae_to_authors(ours, config), dict(states["dmae"]), **EXACT)
