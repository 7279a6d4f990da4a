"""Music of one's own, from import to a sound by weights trained on it; nothing of it lands in the package."""

import os
from dataclasses import replace

import pytest
from helpers.music import tone, write

from mousai import cli
from mousai.checkpoint import read_card
from mousai.data.dataset import workspace
from mousai.inference.audio import read_audio
from mousai.inference.pipeline import Mousai
from mousai.report.standalone import check
from mousai.small.profiles import PROFILES
from mousai.small.stages import PACKAGE
from mousai.training import setup
from mousai.training.command import usual_segments

GENRES = ("Nocturne", "Étude")


@pytest.mark.integration
def test_own_music_from_import_to_a_sound_by_own_weights(tiny, home, tmp_path, monkeypatch, capsys):
    def mousai(words: str) -> str:
        with pytest.raises(SystemExit) as left:
            cli.main([*words.split(), "--profile", "smoke"])
        printed = capsys.readouterr()
        assert left.value.code == 0, printed.err
        return printed.out + printed.err

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PROFILES, "smoke", tiny)
    monkeypatch.setattr(setup, "PCA_CROPS", 4)
    rows = ["file,artist,genre,license"]
    for i in range(6):
        write(tmp_path / "music" / f"{i}.flac", tone(2, pitch=200 + 40 * i))
        rows.append(f"{i}.flac,Artist {i},{GENRES[i % 2]},CC-BY")
    (tmp_path / "music" / "list.csv").write_text("\n".join(rows), encoding="utf-8")
    shipped = {path: path.stat().st_mtime_ns for path in PACKAGE.rglob("weights/*/*")}

    assert "6 pieces, 12 chunks, 0 files skipped" in mousai("data import music/list.csv --out data --jobs 1")
    monkeypatch.setenv("MOUSAI_DATA", "data")
    mousai("train dmae --steps 2 --out own/dmae.safetensors --device cpu")
    digest = read_card(tmp_path / "own" / "dmae.safetensors")["sha256"][:8]
    assert f"own/dmae.safetensors (sha256 {digest})" in mousai("data latents --weights own --device cpu")
    mousai("train tcld --steps 2 --weights own --out own/tcld.safetensors --device cpu")
    said = mousai("generate Nocturne --seconds 0.3 --weights own --out made.wav --device cpu")
    assert read_audio(tmp_path / "made.wav").shape == (2, 14_400) and "own/tcld.safetensors (sha256" in said
    mousai("encode music/0.flac --weights own --out z.safetensors --device cpu")

    card = read_card(tmp_path / "own" / "tcld.safetensors")
    assert card["licence"] == "CC-BY" and card["prompt"].endswith("2 of 2") and card["encoder"]
    assert card["segments"] == Mousai.load(tiny, "cpu", tmp_path / "own").segments == 2 != tiny.data.chunks
    monkeypatch.setenv("MOUSAI_WEIGHTS", "own")
    space = workspace(tiny, os.environ, "cpu")
    assert space.data.genres == GENRES
    check(space, ("dmae", "tcld", "text", "data", "test", "segments"))
    mousai("data shards --out shards --jobs 1")
    assert usual_segments(replace(space, root=tmp_path / "shards")) == 2
    assert {path: path.stat().st_mtime_ns for path in PACKAGE.rglob("weights/*/*")} == shipped
