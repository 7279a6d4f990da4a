"""Set up the training of each stage: its data (crops, or latents with captions), its model and its schedule."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mousai.checkpoint import load_weights
from mousai.config import Profile
from mousai.data.dataset import Workspace
from mousai.data.latents import Latents, write_latents
from mousai.data.records import training_caption
from mousai.data.shards import Epochs
from mousai.dmae import DMAE
from mousai.inference.codec import encoder_hash
from mousai.inference.precision import choose_device
from mousai.shapes import Latent
from mousai.small.config import has_pca_start, pretrain_steps, with_pretraining
from mousai.small.dmae import SmallDMAE
from mousai.small.pca import start_from_pca
from mousai.small.stages import describe_weights, load_dmae, new_dmae, new_tcld, weights_path
from mousai.tcld import TCLD
from mousai.text import load_text_encoder
from mousai.train import Batches
from mousai.training.loop import fit
from mousai.training.processes import main_first, process_state, split_batch
from mousai.training.resume import NEW_RUN, Run, plan_run

PCA_CROPS = 128  # crops that the PCA is fitted on, about 8,000 latent steps in `cpu`


def train_dmae(space: Workspace, steps: int | None = None, run: Run = NEW_RUN) -> tuple[DMAE, pd.DataFrame]:
    """Train stage 1 on random crops of the train split; return the EMA's model and the history of `fit`.

    `steps`: by default the profile's; with fewer, encoder pre-training and warm-up get shorter too (`shortened`). With
    `run.start` there is no encoder pre-training, so a small profile's encoder does not change and stage 2's latents
    stay valid.
    """
    device = choose_device(space.device)
    plan = plan_training(space, run, steps)
    profile = scheduled(space.profile, plan)
    config = split_batch(profile.dmae_train, process_state(device).num_processes)
    with main_first(device):
        crops = space.data.crops("train", profile.dmae.crop, config.batch, profile.seed)
    torch.manual_seed(profile.seed)
    model = new_dmae(profile.dmae)
    if run.start is not None:
        load_weights(model, run.start)
    elif isinstance(model, SmallDMAE) and has_pca_start(profile.dmae):  # also to resume: maybe without a state
        start_from_pca(model, space.data.crops("train", profile.dmae.crop, PCA_CROPS, profile.seed)(0))
    run = replace(run, plan=plan)
    return fit(  # type: ignore[return-value]
        model, lambda number: (crops(number),), config, plan["steps"], profile.seed, device, run
    )


def train_tcld(
    space: Workspace, dmae: DMAE, steps: int | None = None, run: Run = NEW_RUN, pieces: int | None = None
) -> tuple[TCLD, pd.DataFrame]:
    """Train stage 2 on the train split's latents and random captions; return the EMA's model and the history of `fit`.

    `steps` as for stage 1. `pieces`: train on this many pieces only, so that a notebook need not encode them all.
    """
    device = choose_device(space.device)
    plan = plan_training(space, run, steps, dmae)
    profile = scheduled(space.profile, plan)
    config = split_batch(profile.tcld_train, process_state(device).num_processes)
    with main_first(device):
        latents = open_latents(space, dmae, "train", pieces)
    torch.manual_seed(profile.seed)
    model = new_tcld(profile)
    if run.start is not None:
        load_weights(model, run.start)
    model.latent_std.copy_(latents.std())
    batches = caption_batches(space, latents, config.batch)
    run = replace(run, plan=plan)
    return fit(model, batches, config, plan["steps"], profile.seed, device, run)  # type: ignore[return-value]


def plan_training(space: Workspace, run: Run, steps: int | None, dmae: DMAE | None = None) -> dict:
    """The plan of a run on this data, of stage 1, or of stage 2 over `dmae`. Raises as `plan_run`."""
    data = f"{space.data.key} ({space.root.name})"
    if dmae is None:
        return plan_run(run, steps, space.profile.dmae_train.steps, data=data)
    return plan_run(run, steps, space.profile.tcld_train.steps, data=data, encoder=encoder_hash(dmae))


def with_training(profile: Profile, **settings: object) -> Profile:
    """The profile with fields of both `TrainConfig`s set to `settings`; those that are None stay as they are."""
    given = {name: value for name, value in settings.items() if value is not None}
    dmae_train = replace(profile.dmae_train, **given)  # type: ignore[arg-type]
    return replace(profile, dmae_train=dmae_train, tcld_train=replace(profile.tcld_train, **given))  # type: ignore[arg-type]


def scheduled(profile: Profile, plan: dict) -> Profile:
    """The profile with the schedule that a plan of `plan_run` asks for."""
    if plan["start"] is not None:
        profile = pretrained_for(profile, 0)
    return shortened(profile, plan["schedule_steps"])


def shortened(profile: Profile, steps: int) -> Profile:
    """The profile for runs of `steps` steps: encoder pre-training takes at most a third, warm-up at most a tenth."""
    warmup = steps // 10
    profile = pretrained_for(profile, steps // 3)
    return replace(
        profile,
        dmae_train=replace(profile.dmae_train, warmup=min(profile.dmae_train.warmup, warmup)),
        tcld_train=replace(profile.tcld_train, warmup=min(profile.tcld_train.warmup, warmup)),
    )


def pretrained_for(profile: Profile, steps: int) -> Profile:
    """The profile with at most `steps` steps of encoder pre-training; the schedule restarts at its new end."""
    steps = min(pretrain_steps(profile.dmae), steps)
    train = replace(profile.dmae_train, schedule_restart=min(profile.dmae_train.schedule_restart, steps))
    return replace(profile, dmae=with_pretraining(profile.dmae, steps), dmae_train=train)


def caption_batches(space: Workspace, latents: Latents, batch: int) -> Batches:
    """Number of a batch -> (z [batch, 32, window], embeddings) of chunks, each with a new random caption.

    Chunks are drawn at random with replacement; those of shards come once per epoch.
    """
    profile = space.profile
    encoder = load_text_encoder(profile.tcld.text, choose_device(space.device))
    order = Epochs(latents.counts, profile.seed) if space.data.sharded else None

    def batches(number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([profile.seed, number])
        picks = order.batch(number, batch) if order else rng.integers(len(latents), size=batch).tolist()
        captions = []
        for i in picks:
            record, k = latents.about(i)
            captions.append(training_caption(record, k, rng, profile.tcld.title_drop, space.fits))
        return latents[picks], encoder(captions)

    return batches


def encode_split(space: Workspace, dmae: DMAE, split: str, pieces: int | None = None) -> Latent:
    """All latents of `open_latents` in memory: [chunks, 32, crop / 1024]."""
    latents = open_latents(space, dmae, split, pieces)
    return latents[range(len(latents))]


def open_latents(space: Workspace, dmae: DMAE, split: str, pieces: int | None = None) -> Latents:
    """The latents of every chunk of a split, or of its first `pieces` pieces, in order; encoded where missing."""
    return Latents(cache_latents(space, dmae, split, pieces)[0])


@torch.no_grad()
def cache_latents(
    space: Workspace, dmae: DMAE, split: str, pieces: int | None = None, rank: int = 0, world: int = 1
) -> tuple[Path, int]:
    """Encode chunks whose latents are missing; return the folder of latents, and how many files it still lacks.

    Of `world` processes this is number `rank`, which makes its share. The folder's name has the hashes of encoder and
    chunks, so that latents of others are never read.
    """
    chunks = space.data.chunks(split, pieces)
    encoder = encoder_hash(dmae)
    device = next(dmae.parameters()).device
    folder = space.runs / "latents" / f"{space.root.name}-{split}-{len(chunks)}-{chunks.digest()[:8]}-{encoder}"

    def encode(wave: np.ndarray) -> Tensor:
        return dmae.encode(torch.from_numpy(wave)[None].to(device)).cpu()

    return folder, write_latents(chunks, encode, folder, encoder, rank, world, f"latents of {split}")


def open_dmae(space: Workspace, weights: Path | None = None) -> DMAE:
    """Stage 1 with the weights in a folder, by default the profile's; prints on stderr which file that is."""
    dmae = load_dmae(space.profile, choose_device(space.device), weights)
    print(f"stage 1: {describe_weights(weights_path(space.profile, 'dmae', weights))}", file=sys.stderr)
    return dmae
