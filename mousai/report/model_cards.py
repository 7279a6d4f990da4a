"""The model card beside the shipped weights: what each file is, how it was trained and how good it is.

How it was trained comes from the cards (`<name>.json`) that training wrote, how good it is from the report's results.
"""

from pathlib import Path
from typing import Any

from mousai.checkpoint import read_card, read_runs
from mousai.files import write_text
from mousai.report import thresholds
from mousai.report.page import render, thresholds_of
from mousai.report.results import Results

MODELS = {
    "dmae": "stage 1, diffusion magnitude-autoencoding",
    "tcld": "stage 2, text-conditioned latent diffusion",
    "in_domain": "the in-domain audio-text model, which scores the music",
}


def write_cards(results: Results, folder: Path) -> Path | None:
    """Write folder/README.md for the weights in `folder`; return its path, or None where there are no weights."""
    shipped = {name: folder / f"{name}.safetensors" for name in MODELS if (folder / f"{name}.safetensors").is_file()}
    if not shipped:
        return None
    page = render(
        "model_card.md",
        profile=results.profile,
        files=[file_row(name, path) for name, path in shipped.items()],
        models=[model(name, path) for name, path in shipped.items()],
        thresholds=thresholds_of({"thresholds": thresholds.rows(results)}),
    )
    write_text(page, folder / "README.md")
    return folder / "README.md"


def file_row(name: str, path: Path) -> list[str]:
    """A row of the table of files: name, what it is, parameters, MB, sha256."""
    card = read_card(path)
    size = f"{path.stat().st_size / 1e6:.1f}"
    return [f"`{path.name}`", MODELS[name], f"{card['parameters']:,}", size, f"`{card['sha256']}`"]


def model(name: str, path: Path) -> dict[str, Any]:
    """The template's values for one file: every training run behind it, and the last validation."""
    runs = read_runs(path)
    card = runs[-1]
    return {
        "name": name,
        "title": MODELS[name],
        "runs": [run_row(i, name, run) for i, run in enumerate(runs, 1)],
        "notes": [(i, run["note"]) for i, run in enumerate(runs, 1) if "note" in run],
        "hours": f"{card['hours_in_all']:g}" if "hours_in_all" in card else "",
        "curve": "loss_curve" in card,
        "validation": [validation_row(row) for row in card.get("validation", [])],
        "licence": card.get("licence", ""),
    }


def run_row(number: int, name: str, run: dict) -> list:
    """A row of the table of runs: number, steps, hours, seed, data, loss, command."""
    hours = run.get("hours", run.get("seconds", 0) / 3600)
    loss = run.get("final_loss", run.get("loss", ""))
    profile = f" --profile {run['profile']}" if "profile" in run else ""
    command = run.get("command", f"mousai train {name.replace('_', '-')}{profile}")
    return [number, run["steps"], f"{hours:.3g}", run.get("seed", ""), run.get("data", ""), loss, f"`{command}`"]


def validation_row(row: dict[str, float]) -> list[str]:
    """A row of the validation: noise level, loss on the valid split, and loss with another item's condition."""
    return [f"{row['sigma']:g}", f"{row['loss']:.4f}", f"{row['shuffled']:.4f}"]
