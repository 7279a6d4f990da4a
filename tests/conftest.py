"""Every test runs with shapes checked, offline, on one thread, and writes below a folder of this session.

A test without a tier of its own is a unit test: it starts no process and asks no network, which is held to.
"""

import os
import sys
import tempfile
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is fetched; read when transformers is imported
os.environ["HF_HUB_CACHE"] = os.devnull  # nor found in this user's cache: tests see what a fresh machine sees
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# A MOUSAI_HOME from outside is kept, so that `make test` and the notebooks can share one set of prepared data.
_HOME = None if os.environ.get("MOUSAI_HOME") else tempfile.TemporaryDirectory(prefix="mousai-tests-")
if _HOME is not None:
    os.environ["MOUSAI_HOME"] = _HOME.name
# librosa's compiled functions are cached beside its source: two processes that fill one cache at once can crash.
_COMPILED = tempfile.TemporaryDirectory(prefix="mousai-numba-")
os.environ["NUMBA_CACHE_DIR"] = _COMPILED.name

import helpers.typecheck  # noqa: E402, F401 (the hook below finds it by name)
from jaxtyping import install_import_hook  # noqa: E402

_HOOK = install_import_hook("mousai", "helpers.typecheck.check")  # before the first import of mousai

import numpy as np  # noqa: E402
import numpy.testing  # noqa: E402 (its import runs `lscpu`, and no unit test may start a program)
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402

from mousai.config import (  # noqa: E402
    GENRES,
    DataConfig,
    DMAEConfig,
    EncoderConfig,
    Profile,
    UNetConfig,
)
from mousai.data.embedded import embedded_root  # noqa: E402
from mousai.data.records import Record, write_manifest  # noqa: E402
from mousai.data.sound import write_flac  # noqa: E402
from mousai.small.profiles import SMOKE  # noqa: E402
from mousai.small.stages import new_dmae  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("full")  # pytest --hypothesis-profile full: as many cases as each test of chance says

TIERS = {"unit", "integration", "system", "paper_size"}
LEAVES = {"subprocess.Popen", "os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "socket.connect"}
_RUNNING = {"tier": ""}


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One tier for each test. Raises UsageError where there are two."""
    for item in items:
        tiers = TIERS & {mark.name for mark in item.iter_markers()}
        if len(tiers) > 1:
            raise pytest.UsageError(f"{item.nodeid}: one tier, not {' and '.join(sorted(tiers))}")
        if not tiers:
            item.add_marker("unit")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item):
    _RUNNING["tier"] = "unit" if item.get_closest_marker("unit") else ""
    try:
        return (yield)
    finally:
        _RUNNING["tier"] = ""


def _stay_inside(event: str, details: tuple) -> None:
    """Refuse what a unit test must not do; Python calls this before it does it. Results may ask git for the commit."""
    asks_git = event == "subprocess.Popen" and list(details[1])[:2] == ["git", "describe"]
    if _RUNNING["tier"] == "unit" and event in LEAVES and not asks_git:
        raise RuntimeError(f"a unit test does {event}: mark it pytest.mark.system")


def _start_inside(process: BaseProcess, start=BaseProcess.start) -> None:
    _stay_inside("os.fork", ())  # those of multiprocessing announce nothing to audit hooks
    start(process)


sys.addaudithook(_stay_inside)
BaseProcess.start = _start_inside


@pytest.fixture(scope="session")
def session_home() -> Path:
    """Where this session writes: MOUSAI_HOME, shared by unit tests and notebooks."""
    return Path(os.environ["MOUSAI_HOME"])


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A MOUSAI_HOME of the test's own, empty."""
    monkeypatch.setenv("MOUSAI_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def lessons(tmp_path, monkeypatch):
    """An empty folder for notebooks, and run logs that stay in the test's own folder."""
    monkeypatch.setenv("MOUSAI_HOME", str(tmp_path / "home"))
    (tmp_path / "notebooks").mkdir()
    return tmp_path / "notebooks"


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def paper_dmae() -> DMAEConfig:
    """The paper's stage 1 in small: every field that departs is off."""
    unet = UNetConfig(
        in_channels=32,
        channels=(16, 24, 16),
        factors=(1, 2, 2),
        items=(1, 1, 2),
        attentions=(0, 0, 0),
        cross_attentions=(0, 0, 0),
        inject_depth=2,
        inject_channels=8,
        features=32,
    )
    encoder = EncoderConfig(in_channels=128, channels=16, blocks=(1, 2), latent_channels=8)
    return DMAEConfig(unet=unet, encoder=encoder, crop=2048, n_fft=127, hop=32, patch=32, patch_channels=32)


@pytest.fixture(scope="session")
def tiny() -> Profile:
    """Smaller than smoke: seconds of sound, thousands of weights, every departure on as in smoke."""
    dmae = replace(
        SMOKE.dmae,
        crop=2**14,
        encoder_pretrain_steps=2,
        refinement_steps=0,
        unet=replace(SMOKE.dmae.unet, channels=(16, 16), features=32),
    )
    dmae = replace(dmae, encoder=replace(dmae.encoder, channels=16))
    unet = replace(SMOKE.tcld.unet, channels=(16, 16, 16), features=32, head_features=8)
    return replace(
        SMOKE,
        name="tiny",
        data=DataConfig(pieces=4, piece_samples=2**17),
        dmae=dmae,
        tcld=replace(SMOKE.tcld, crop=2**15, unet=unet),
        sampling=replace(SMOKE.sampling, tcld_steps=2, dmae_steps=2, dmae_precision="float32"),
    )


@pytest.fixture
def tiny_data(tiny, home) -> Path:
    """The tiny profile's data set, made up: four pieces of quiet noise with captions, no arranger."""
    root, rng = embedded_root(tiny, home), np.random.default_rng(0)
    (root / "audio").mkdir(parents=True)
    records = [write_piece(tiny, root, i, rng) for i in range(tiny.data.pieces)]
    write_manifest(records, root / "manifest.jsonl")
    return root


@pytest.fixture
def space(tiny, tiny_data):
    """The workspace of the tiny profile and its made-up data, on the CPU."""
    from mousai.data.dataset import workspace

    return workspace(tiny, os.environ, "cpu")


def write_piece(profile: Profile, root: Path, i: int, rng: np.random.Generator) -> Record:
    wave = 0.1 * rng.standard_normal((2, profile.data.piece_samples)).astype(np.float32)
    digest = write_flac(wave, root / "audio" / f"{i}.flac")
    split = ("train", "train", "valid", "test")[i]
    return Record(
        id=str(i),
        title=f"Tune {i}",
        artist="Nobody",
        album="Nothing",
        genre=GENRES[i % 4],
        year=1883,
        key="C major",
        tempo=120.0,
        licence="CC0",
        split=split,
        file=f"audio/{i}.flac",
        samples=profile.data.piece_samples,
        chunks=profile.data.chunks,
        sha256=digest,
        source="test",
    )


@pytest.fixture
def held(tmp_path, monkeypatch) -> Path:
    """A folder with a page and its key: three models, one clip of each genre, all made up."""
    from helpers.listeners import MODELS, made_up

    from mousai.listening import answers as people
    from mousai.small.profiles import PROFILES

    monkeypatch.setattr(people, "systems", lambda work: {model: made_up(model) for model in MODELS})
    people.hold(PROFILES["smoke"], tmp_path / "study", per_genre=1, seed=5)
    return tmp_path / "study"


@pytest.fixture(scope="session")
def t5_folder(tmp_path_factory) -> Path:
    """A random T5 of 16 features and a tokenizer of T5's own class, trained on captions: saved as t5-base would be."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    folder, genres = tmp_path_factory.mktemp("t5"), ("metal", "Metal", "pop", "hip hop")
    parts = [(genre, "1883", f"{k} of 4", genre) for genre in genres for k in range(1, 5)]
    captions = [joint.join(part) for part in parts for joint in (" ", ", ")]
    blank = T5Tokenizer(extra_ids=0)  # <pad>, </s>, <unk>; splits at spaces, closes with </s>, as T5 does
    tokenizer = blank.train_new_from_iterator([captions], vocab_size=60, show_progress=False)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=2)
    T5EncoderModel(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def stack(tiny, t5_folder):
    """Both stages of the tiny profile, untrained, reading prompts with the tiny T5."""
    from mousai.config import TextConfig
    from mousai.inference.pipeline import Mousai
    from mousai.small.stages import new_tcld
    from mousai.text import load_text_encoder

    tcld = replace(tiny.tcld, text=TextConfig(str(t5_folder), features=16))
    profile = replace(tiny, tcld=replace(tcld, unet=replace(tcld.unet, embedding_features=16)))
    torch.manual_seed(0)
    dmae, net = new_dmae(profile.dmae).eval(), new_tcld(profile).eval()
    return Mousai(profile, load_text_encoder(profile.tcld.text), net, dmae)
