"""The page beside the shipped weights: every run, what was validated, every threshold."""

from pathlib import Path

from torch import nn

from mousai.checkpoint import save_weights
from mousai.report import thresholds
from mousai.report.model_cards import MODELS, write_cards
from mousai.report.record import Report
from mousai.report.results import Results


def reported(out: Path) -> Results:
    """A report with one measured threshold."""
    report = Report("07_genre_confusion", "smoke", out, device="cpu")
    report.metric("tcld.genre_accuracy.in_domain", 0.95, 0.9, 1.0, n=80)
    report.done()
    return Results.read(out, "smoke")


def shipped(folder: Path, name: str, **facts) -> dict:
    """A file of weights with a card as training writes it."""
    return save_weights(nn.Linear(2, 3), folder / f"{name}.safetensors", {"steps": 5, "hours": 1.5, **facts})


def test_the_page_beside_the_weights_tells_every_run_what_was_validated_and_every_threshold(tmp_path):
    results = reported(tmp_path)
    first = shipped(tmp_path / "w", "dmae", command="mousai train dmae --steps 5", note="by hand")
    validated = [{"step": 9, "sigma": 0.5, "loss": 0.25, "shuffled": 0.75}]
    facts = {"hours_in_all": 4.5, "seed": 3, "data": "cpu-1", "final_loss": 0.125, "licence": "MIT", "loss_curve": [1]}
    last = shipped(tmp_path / "w", "dmae", start=first, validation=validated, command="again", **facts)
    scorer = shipped(tmp_path / "w", "in_domain", loss=2.5)
    text = write_cards(results, tmp_path / "w").read_text()
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    size = f"{(tmp_path / 'w' / 'dmae.safetensors').stat().st_size / 1e6:.1f}"
    assert ["`dmae.safetensors`", MODELS["dmae"], "9", size, f"`{last['sha256']}`"] in lines
    assert ["1", "5", "1.5", "", "", "", "`mousai train dmae --steps 5`"] in lines and "- Run 1: by hand" in text
    assert ["2", "5", "1.5", "3", "cpu-1", "0.125", "`again`"] in lines
    assert ["0.5", "0.2500", "0.7500"] in lines and "Hours in all: 4.5." in text and "Licence: MIT." in text
    assert scorer["sha256"] in text and "2.5" in text and "tcld.safetensors" not in text
    assert all(one.item in text for one in thresholds.THRESHOLDS) and "0.95 [0.9, 1]" in text


def test_without_weights_there_is_no_page_beside_them(tmp_path):
    assert write_cards(reported(tmp_path), tmp_path / "w") is None
    assert not (tmp_path / "w").exists()


def test_the_page_is_redrawn_byte_for_byte_with_one_empty_line_between_its_parts(tmp_path):
    results = reported(tmp_path)
    first = shipped(tmp_path / "w", "dmae", note="by hand")
    shipped(tmp_path / "w", "dmae", start=first, note="once more", hours_in_all=3, licence="MIT")
    page = write_cards(results, tmp_path / "w").read_bytes()
    assert write_cards(results, tmp_path / "w").read_bytes() == page
    assert b"\n\n\n" not in page and b"- Run 1: by hand\n- Run 2: once more\n\nHours in all: 3.\n\n" in page
