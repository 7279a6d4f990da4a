"""The page beside the shipped weights: every run, what was validated, every bar."""

import shutil
from pathlib import Path

import pytest
from torch import nn

from mousai.checkpoint import save_weights, weights_path
from mousai.report import thresholds as bars
from mousai.report.model_cards import MODELS, write_cards
from mousai.report.record import Report
from mousai.report.results import Results
from mousai.small.profiles import get_profile

COMMITTED = Path(__file__).resolve().parents[2] / "reports" / "cpu"


def reported(out: Path) -> Results:
    """A report with one measured bar."""
    report = Report("07_genre_confusion", "smoke", out, device="cpu")
    report.metric("tcld.genre_accuracy.in_domain", 0.95, 0.9, 1.0, n=80)
    report.done()
    return Results.read(out, "smoke")


def shipped(folder: Path, name: str, **facts) -> dict:
    """A file of weights with a card as training writes it."""
    return save_weights(nn.Linear(2, 3), folder / f"{name}.safetensors", {"steps": 5, "hours": 1.5, **facts})


def test_the_page_beside_the_weights_tells_every_run_what_was_validated_and_every_bar(tmp_path):
    results = reported(tmp_path)
    first = shipped(tmp_path / "w", "dmae", command="mousai train dmae --steps 5", note="by hand")
    heard = [{"step": 9, "sigma": 0.5, "loss": 0.25, "shuffled": 0.75}]
    facts = {"hours_in_all": 4.5, "seed": 3, "data": "cpu-1", "final_loss": 0.125, "licence": "MIT", "loss_curve": [1]}
    last = shipped(tmp_path / "w", "dmae", start=first, validation=heard, command="again", **facts)
    judge = shipped(tmp_path / "w", "in_domain", loss=2.5)
    text = write_cards(results, tmp_path / "w").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    size = f"{(tmp_path / 'w' / 'dmae.safetensors').stat().st_size / 1e6:.1f}"
    assert ["`dmae.safetensors`", MODELS["dmae"], "9", size, f"`{last['sha256']}`"] in lines
    assert ["1", "5", "1.5", "", "", "", "`mousai train dmae --steps 5`"] in lines and "- Run 1: by hand" in text
    assert ["2", "5", "1.5", "3", "cpu-1", "0.125", "`again`"] in lines
    assert ["0.5", "0.2500", "0.7500"] in lines and "Hours in all: 4.5." in text and "Licence: MIT." in text
    assert judge["sha256"] in text and "2.5" in text and "tcld.safetensors" not in text
    assert all(bar.item in text for bar in bars.BARS) and "0.95 [0.9, 1]" in text


def test_without_weights_there_is_no_page_beside_them(tmp_path):
    assert write_cards(reported(tmp_path), tmp_path / "w") is None
    assert not (tmp_path / "w").exists()


@pytest.mark.skipif(not list(COMMITTED.glob("results/*_*.json")), reason="no report is committed yet")
def test_the_committed_page_beside_the_weights_is_what_cards_and_results_draw(tmp_path):
    folder = weights_path(get_profile("cpu"), "dmae").parent
    shutil.copytree(folder, tmp_path / "w")
    page = write_cards(Results.read(COMMITTED, "cpu"), tmp_path / "w")
    assert page.read_bytes() == (folder / "README.md").read_bytes(), "run `mousai report --profile cpu`"
