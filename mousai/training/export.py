"""Write trained weights, with a card that says how they were made."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from mousai.checkpoint import save_weights
from mousai.config import Profile
from mousai.small.stages import weights_path

CURVE = 100  # points of the loss curve in a card


def export_weights(
    profile: Profile,
    name: str,
    model: nn.Module,
    history: pd.DataFrame,
    path: Path | None = None,
    start: dict | None = None,
    notes: dict | None = None,
) -> dict:
    """Write the weights of `name`, "dmae" or "tcld", in float16 to `path` (default: `weights_path`); return their card.

    `history`: the rows of `fit`. `start`: the card of the weights that the run began with ({} where they have no card,
    None for new weights). It goes into the card, and "hours_in_all" includes its hours. `notes`: more entries of the
    card; empty ones are left out.
    """
    loss = history["loss"].to_numpy()
    hours = float(np.sum(history["seconds"].to_numpy())) / 3600
    earlier = (start or {}).get("hours_in_all", (start or {}).get("hours", 0))
    train = getattr(profile, f"{name}_train")
    options = ("" if start is None else " --start FILE") + " --checkpointing" * train.checkpointing
    card = {
        "profile": profile.name,
        "model": name,
        "command": f"mousai train {name} --profile {profile.name} --steps {len(history)}{options} --ship",
        "steps": len(history),
        "hours": round(hours, 3),
        "hours_in_all": round(hours + earlier, 3),
        "seed": profile.seed,
        "checkpointing": train.checkpointing,
        "final_loss": round(float(loss[-100:].mean()), 4),
        # for comparison with later runs: mean and 10 and 90 % quantiles of the loss in equal parts of the run
        "loss_curve": over_parts(loss, np.mean),
        "loss_low": over_parts(loss, lambda part: np.quantile(part, 0.1)),
        "loss_high": over_parts(loss, lambda part: np.quantile(part, 0.9)),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "licence": "MIT; trained on arrangements of public domain tunes rendered with the TimGM6mb sound font",
        "config": asdict(getattr(profile, name)),
    }
    card |= {key: value for key, value in {**(notes or {}), "start": start}.items() if value}
    return save_weights(model, path or weights_path(profile, name), card)


def over_parts(loss: np.ndarray, statistic: Callable) -> list[float]:
    """The statistic of the loss in each of `CURVE` equal parts of a run, or in each step of a shorter one."""
    return [round(float(statistic(part)), 4) for part in np.array_split(loss, min(CURVE, len(loss)))]
