"""What `mousai train` does: it trains one stage and writes its weights and card."""

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd

from mousai.data.dataset import Workspace
from mousai.data.records import prompt
from mousai.inference.codec import encoder_hash
from mousai.inference.precision import choose_device
from mousai.training.export import export_weights
from mousai.training.processes import main_first, process_state
from mousai.training.resume import Run, check_unused, read_plan
from mousai.training.setup import open_dmae, plan_training, train_dmae, train_tcld
from mousai.training.validation import dmae_validation, tcld_validation


def train_stage(
    space: Workspace, stage: str, path: Path, run: Run, steps: int | None = None, weights: Path | None = None
) -> pd.DataFrame | None:
    """Train "dmae" or "tcld", write its weights and card to `path`, and return the history of `fit`.

    `run.folder` must be set. `weights`: for "tcld" the folder of the stage 1 whose latents it learns, by default the
    profile's. Of several processes only the main one writes; the others return None. Without music in the valid split
    there is no validation. Raises ValueError where the folder holds a run and `run.resume` is not set.
    """
    assert run.folder is not None
    device = choose_device(space.device)
    dmae = None
    validation = None
    with main_first(device):
        if not run.resume:
            check_unused(run.folder)
        if stage == "tcld":
            dmae = open_dmae(space, weights)
        plan_training(space, run, steps, dmae)  # what cannot be resumed is refused before the validation
        if not space.data.has("valid"):
            print(f"{space.root}: no music in the valid split: training goes on without validation", file=sys.stderr)
        elif dmae is not None:
            validation = tcld_validation(space, dmae, run.folder, run.resume)
        else:
            validation = dmae_validation(space, run.folder, run.resume)
    run = replace(run, callback=validation)
    if dmae is not None:
        model, history = train_tcld(space, dmae, steps, run)
    else:
        model, history = train_dmae(space, steps, run)
    if not process_state(device).is_main_process:
        return None
    start = read_plan(replace(run, resume=True)).get("start")
    notes = {
        "data": space.root.name,
        "licence": space.data.licence if space.own_data else None,
        "validation": validation.last() if validation else None,
        "encoder": encoder_hash(dmae) if dmae else None,
        "prompt": example_prompt(space) if dmae else None,
        "segments": usual_segments(space) if dmae else None,
    }
    export_weights(space.profile, stage, model, history, path, start["card"] if start else None, notes)
    return history


def example_prompt(space: Workspace) -> str:
    """An example prompt for the card: that of the first training piece's second chunk, or of its only one."""
    record, _ = space.data.chunks("train").about(0)
    return prompt(record, min(2, record.chunks), space.fits)


def usual_segments(space: Workspace) -> int:
    """The usual n of "k of n": that of most pieces, in shards of most among a hundred training chunks."""
    if not space.data.sharded:
        return space.data.segments
    chunks = space.data.chunks("train")
    some = range(0, len(chunks), -(-len(chunks) // 100))
    return Counter(chunks.about(i)[0].chunks for i in some).most_common(1)[0][0]


def summary(path: Path, history: pd.DataFrame) -> str:
    """One line: file, steps, mean loss of the last 100, hours, and the share of them spent waiting for data."""
    hours = history["seconds"].sum() / 3600
    waited = history["waited"].sum() / history["seconds"].sum()
    loss = history["loss"].tail(100).mean()
    return f"{path}: {len(history)} steps, loss {loss:.4f}, {hours:.3f} hours, {waited:.0%} of them waiting for data"
