"""The page beside the shipped weights: what each file is, how it was trained and what it reaches. Drawn, never typed.

Facts come from the cards (`<name>.json`) that training wrote, what is reached from the report's results.
"""

from pathlib import Path

from mousai.checkpoint import read_card, read_runs
from mousai.files import write_text
from mousai.report import thresholds as bars
from mousai.report.page import bars_table, table
from mousai.report.results import Results

MODELS = {
    "dmae": "stage 1, diffusion magnitude-autoencoding",
    "tcld": "stage 2, text-conditioned latent diffusion",
    "judge": "the in-domain judge, which scores the music",
}


def write_cards(results: Results, folder: Path) -> Path | None:
    """folder/README.md for the weights that lie there; returns its path, or None where there are none."""
    shipped = {name: folder / f"{name}.safetensors" for name in MODELS if (folder / f"{name}.safetensors").is_file()}
    if not shipped:
        return None
    profile = results.profile
    head = f"Drawn by `mousai report --profile {profile}` from the cards here and the report's results."
    reached = bars_table(bars.bars(results), bars.COLUMNS)
    parts = [f"# Weights of the `{profile}` profile", head, files(shipped)]
    parts += [section(name, path) for name, path in shipped.items()]
    parts += ["## What they reach", "On the test split, with 95 % intervals where there are any.", reached]
    write_text("\n\n".join(part for part in parts if part) + "\n", folder / "README.md")
    return folder / "README.md"


def files(shipped: dict[str, Path]) -> str:
    """One row a file: what it is, how large, and its hash."""
    rows = []
    for name, path in shipped.items():
        card = read_card(path)
        size = f"{path.stat().st_size / 1e6:.1f}"
        rows.append([f"`{path.name}`", MODELS[name], f"{card['parameters']:,}", size, f"`{card['sha256']}`"])
    return table(rows, ["file", "what", "parameters", "MB", "sha256"])


def section(name: str, path: Path) -> str:
    """How one file came about: every run behind it, then the last validation."""
    runs, rows = read_runs(path), []
    card = runs[-1]
    for i, run in enumerate(runs, 1):
        hours, loss = run.get("hours", run.get("seconds", 0) / 3600), run.get("final_loss", run.get("loss", ""))
        facts = [run.get("seed", ""), run.get("data", ""), loss]
        rows.append([i, run["steps"], f"{hours:.3g}", *facts, f"`{run.get('command', f'mousai train {name}')}`"])
    parts = [
        f"## {MODELS[name][0].upper()}{MODELS[name][1:]}",
        table(rows, ["run", "steps", "hours", "seed", "data", "loss at the end", "command"]),
        "\n".join(f"- Run {i}: {run['note']}" for i, run in enumerate(runs, 1) if "note" in run),
        f"Hours in all: {card['hours_in_all']:g}." if "hours_in_all" in card else "",
        f"Loss curves: `loss_curve`, `loss_low`, `loss_high` in `{name}.json`." if "loss_curve" in card else "",
        validation(card),
        f"Licence: {card['licence']}." if "licence" in card else "",
    ]
    return "\n\n".join(part for part in parts if part)


def validation(card: dict) -> str:
    """Loss on the valid split at fixed noise levels, with its own condition and with its neighbour's."""
    rows = [[f"{row['sigma']:g}", f"{row['loss']:.4f}", f"{row['shuffled']:.4f}"] for row in card.get("validation", [])]
    return table(rows, ["sigma", "validation loss", "with another's condition"]) if rows else ""
