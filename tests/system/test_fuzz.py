"""Ten thousand inputs that nobody meant, a twentieth of them every day: a result or one clear error, nothing else."""

import json
import string
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from mousai import checkpoint, cli
from mousai.checkpoint import load_weights, read_card, save_weights
from mousai.data.records import SPLITS, Record, read_manifest, write_manifest
from mousai.data.shards import read_index, write_index
from mousai.interop.hub import read_profile
from mousai.report.notebooks import UPSTREAM, select
from mousai.small.profiles import PROFILES, get_profile
from mousai.text import check_texts

CASES = {"manifest": 2500, "card": 1500, "weights": 1500, "prompt": 1500, "profile": 1000, "names": 1000}
CASES |= {"arguments": 1500, "index": 1000}
assert sum(CASES.values()) >= 10_000
SHARE = 1 if settings.get_current_profile_name() == "full" else 20  # make test-full gives all
pytestmark = pytest.mark.integration

RECORD = Record(
    id="0",
    title="A",
    artist="B",
    album="C",
    genre="Pop",
    year=1883,
    key="C major",
    tempo=90.0,
    licence="CC0",
    split="train",
    file="audio/0.flac",
    samples=8,
    chunks=4,
    sha256="0",
    source="",
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


def cases(kind: str):
    """So many, always the same, without a clock: this is no place for luck."""
    return settings(
        max_examples=CASES[kind] // SHARE,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def clear(error: BaseException) -> bool:
    """One line or few, of a kind that the command line turns into one."""
    return isinstance(error, ValueError | OSError) and bool(str(error)) and "\n" not in str(error).strip()


def changed(original: dict) -> st.SearchStrategy[dict]:
    """Some fields with other values, some left out, some new."""
    values = st.dictionaries(st.sampled_from(list(original)) | st.text(max_size=5), ANYTHING, max_size=3)
    gone = st.sets(st.sampled_from(list(original)), max_size=2)
    return st.builds(lambda new, out: {k: v for k, v in (original | new).items() if k not in out}, values, gone)


LINES = st.one_of(changed(asdict(RECORD)).map(json.dumps), ANYTHING.map(json.dumps), st.text())


@cases("manifest")
@given(st.lists(LINES, min_size=1, max_size=3).map("\n".join) | st.binary())
@example("[" * 100_000)
@example(json.dumps(asdict(RECORD) | {"file": "../../etc/passwd"}))
@example(json.dumps(asdict(RECORD) | {"title": "a\u2028b"}, ensure_ascii=False))
@example(f'{{"samples": {"9" * 5000}}}')
def test_a_manifest(tmp_path, content):
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    try:
        records = read_manifest(path)
    except ValueError as error:
        assert clear(error) and str(error).startswith(f"{path}, line ")
        return
    for record in records:
        assert isinstance(record.samples, int) and 1 <= record.chunks <= record.samples
        assert (tmp_path / record.file).resolve().is_relative_to(tmp_path)
    write_manifest(records, path)
    again = [{key: str(value) for key, value in asdict(record).items()} for record in read_manifest(path)]
    assert again == [{key: str(value) for key, value in asdict(record).items()} for record in records]


SHARD = {"name": "train-000000.tar", "records": 3, "bytes": 10**6, "sha256": "0" * 64}
INDEX = {"source": "0", "samples": 8, "splits": {"train": [SHARD], "valid": [], "test": []}}
SHARDS = changed(SHARD).map(lambda shard: INDEX | {"splits": {"train": [SHARD, shard], "valid": [], "test": []}})


@cases("index")
@given(st.one_of(SHARDS, changed(INDEX), ANYTHING).map(json.dumps) | st.binary())
def test_an_index_of_shards(tmp_path, content):
    path = tmp_path / "index.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        index = read_index(tmp_path)
    except ValueError as error:
        assert clear(error) and str(error).startswith(f"{path}: ")
        return
    for shard in (shard for split in SPLITS for shard in index.splits[split]):
        assert (tmp_path / shard.name).resolve().parent == tmp_path and 1 <= shard.records < shard.bytes
    write_index(index, tmp_path)
    assert read_index(tmp_path) == index


@pytest.fixture(scope="module")
def shipped(tmp_path_factory) -> Path:
    """A small model's weights and card."""
    path = tmp_path_factory.mktemp("weights") / "dmae.safetensors"
    save_weights(model(), path, {"profile": "smoke", "steps": 3, "hours": 0.1, "start": {"steps": 2, "hours": 0.1}})
    return path


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def refused_or_filled(path: Path) -> None:
    net, before = model(), model().state_dict()
    try:
        load_weights(net, path)
    except (ValueError, OSError) as error:
        assert (clear(error) and str(path.with_suffix("")) in str(error)) or "tensor" in str(error)
        assert all(torch.equal(net.state_dict()[name], tensor) for name, tensor in before.items())


CARD = {"profile": "smoke", "steps": 3, "hours": 0.1, "hours_in_all": 0.2, "sha256": "0", "start": {"steps": 1}}


@cases("card")
@given(changed(CARD).map(json.dumps) | ANYTHING.map(json.dumps) | st.text() | st.binary())
@example("[" * 100_000)
@example('{"start": {"start": [1]}}')
def test_a_card(tmp_path, shipped, content):
    path = tmp_path / shipped.name
    path.write_bytes(shipped.read_bytes())
    card = path.with_suffix(".json")
    card.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
    refused_or_filled(path)
    try:
        runs = checkpoint.read_runs(path)
    except ValueError as error:
        assert clear(error) and str(card) in str(error)
    else:
        assert sum(run.get("hours", 0) for run in runs) is not None and isinstance(read_card(path), dict)


@st.composite
def damaged(draw, size: int = 400) -> list[tuple[int, bytes]]:
    """Where to write what."""
    return draw(st.lists(st.tuples(st.integers(0, size), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))


HEADERS = changed({"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]}).map(lambda entry: {"weight": entry})


@cases("weights")
@given(damaged() | HEADERS | st.binary(max_size=300))
@example({"weight": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 2**63]}})
@example((2**63).to_bytes(8, "little") + b"{}")  # a header that claims more than there is memory
def test_a_file_of_weights(tmp_path, shipped, content):
    path = tmp_path / shipped.name
    if isinstance(content, dict):
        header = json.dumps(content).encode()
        whole = len(header).to_bytes(8, "little") + header + bytes(16)
    elif isinstance(content, list):
        whole = bytearray(shipped.read_bytes())
        for place, new in content:
            whole[place : place + len(new)] = new
    else:
        whole = content
    path.write_bytes(whole)
    path.with_suffix(".json").unlink(missing_ok=True)  # a card's hash would refuse all of them
    refused_or_filled(path)


@cases("prompt")
@given(st.lists(st.text() | st.text(alphabet=st.characters(categories=["Cs"])), max_size=3))
@example(["a\udcff"])
def test_a_prompt(texts):
    try:
        check_texts(texts)
    except ValueError as error:
        assert clear(error)
    else:
        assert texts and all(text.strip() and text.encode() for text in texts)


NUMBERS = st.lists(st.text(alphabet="0123456789, ab", max_size=3), max_size=4).map(",".join)


@st.composite
def configs(draw) -> object:
    """A profile as a folder of weights has it, changed at one depth or another; or anything."""
    config = json.loads(json.dumps(PROFILES["smoke"].as_dict()))
    place = draw(st.sampled_from([(), ("dmae",), ("dmae", "unet"), ("tcld", "text"), ("tcld_train",), ("sampling",)]))
    inner = config
    for key in place[:-1]:
        inner = inner[key]
    if not place:
        return draw(changed(config) | ANYTHING)
    inner[place[-1]] = draw(changed(inner[place[-1]]) | ANYTHING)
    return config


@cases("profile")
@given(configs().map(json.dumps) | st.text() | st.binary())
@example("[" * 100_000)
def test_a_profile_of_a_folder_of_weights(tmp_path, content):
    content = content if isinstance(content, bytes) else content.encode(errors="surrogatepass")
    (tmp_path / "config.json").write_bytes(content)
    try:
        profile = read_profile(tmp_path)
    except ValueError as error:
        assert clear(error) and str(error).startswith(f"{tmp_path / 'config.json'} is not a profile of this version")
    else:
        assert json.loads(json.dumps(profile.as_dict())).keys() == PROFILES["smoke"].as_dict().keys()


@cases("names")
@given(st.text() | st.sampled_from(list(PROFILES)), NUMBERS | st.text(max_size=5), NUMBERS | st.text(max_size=3))
def test_a_profile_and_the_notebooks_of_it(name, only, start):
    for ask in (lambda: get_profile(name), lambda: select(list(UPSTREAM), only, start)):
        try:
            assert ask()
        except ValueError as error:
            assert isinstance(error, ValueError) and str(error)


OPTIONS = {
    "generate": [
        *("--seconds", "--seed", "--out", "--profile", "--tcld-steps", "--guidance", "--guidance-interval"),
        *("--negative-prompt", "--init-audio", "--noise-level", "--inpaint", "--from", "--to", "--again"),
    ],
    "encode": ["--out", "--profile"],
    "decode": ["--out", "--steps", "--seed"],
    "reproduce": ["--profile", "--only", "--from", "--out", "--device", "--timeout", "--force", "--keep-going"],
    "train": ["--profile", "--steps", "--out", "--resume", "--start", "--device"],
    "bench": ["--size", "--repeats", "--against", "--json"],
    "listen": ["--collect", "--profile", "--out", "--per-genre", "--seed"],
    "verify": ["--profile", "--out", "--redraw-only"],
    "nonsense": ["--help"],
}
VALUES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["smoke", "cpu", "dmae", "tcld", "in-domain", "0", "1", "-1", "1e400", "nan", "a.wav", "a.json", "06"]
    ),
    st.text(alphabet=string.digits + ".-e", max_size=6),
    st.text(alphabet="\udc80\udcff\0\n/.", max_size=4),
)


@st.composite
def command_lines(draw) -> list[str]:
    command = draw(st.sampled_from(list(OPTIONS)))
    words = [command, *draw(st.lists(VALUES, max_size=2))]
    for option in draw(st.lists(st.sampled_from(OPTIONS[command]), max_size=3)):
        words += [option, *draw(st.lists(VALUES, max_size=1))]
    return words


HEAVY = ("reproduce.run.reproduce", "reproduce.verify.verify", "listening.answers.hold", "listening.answers.collect")
HEAVY += ("training.command.train_stage", "evaluation.in_domain.train_in_domain", "bench.bench.bench")
HEAVY += ("inference.commands.load", "inference.commands.load_dmae")


@cases("arguments")
@given(command_lines())
def test_arguments_of_the_command_line(tmp_path, monkeypatch, capsys, words):
    def enough(*_, **__):
        raise ValueError("enough")

    monkeypatch.chdir(tmp_path)
    for heavy in HEAVY:
        monkeypatch.setattr(f"mousai.{heavy}", enough)
    with pytest.raises(SystemExit) as left:
        cli.main(words)
    printed = capsys.readouterr().err
    assert left.value.code in (0, 2)
    assert (printed == "") == (left.value.code == 0) or printed.count("\n") == 1
    if left.value.code:
        assert printed.startswith("mousai: ") and printed.count("\n") == 1
