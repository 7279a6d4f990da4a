"""What each stage trains on, crops or latents with captions, and what becomes of it: weights with a card."""

import hashlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from mousai.checkpoint import load_weights, new_tcld, save_weights, weights_path
from mousai.config import Profile, TrainConfig
from mousai.data.clips import open_chunks, open_crops
from mousai.data.embedded import data_dir
from mousai.data.latents import Latents, write_latents
from mousai.data.records import Record, caption
from mousai.data.shards import Epochs, sharded
from mousai.dmae import DMAE
from mousai.evaluation.griffin_lim import fit_pca
from mousai.files import home
from mousai.inference.precision import choose_device
from mousai.shapes import Latent, Wave
from mousai.tcld import TCLD
from mousai.text import load_text_encoder
from mousai.train import Batches, Watch, fit, main_first, over_processes
from mousai.training.optimizer import optimizer_class

PCA_CROPS = 128  # about 8,000 latent steps in `cpu`
PCA_SPREAD = 0.4


def train_dmae(
    profile: Profile,
    steps: int | None = None,
    run: Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    watch: Watch | None = None,
    start: Path | None = None,
) -> tuple[DMAE, pd.DataFrame]:
    """Stage 1 on random crops of the train split, as `mousai train dmae` and notebook 04 do it.

    `start`: weights to go on from, of the same profile, with a schedule of their own and no warm start: where the
    encoder is frozen it stays theirs to the bit, so the latents that stage 2 learnt are still the right ones.
    """
    torch.manual_seed(profile.seed)
    if start is not None:
        dmae, train = replace(profile.dmae, encoder_pretrain_steps=0), replace(profile.dmae_train, schedule_restart=0)
        profile = replace(profile, dmae=dmae, dmae_train=train)
    config = over_processes(profile.dmae_train)
    with main_first(device):
        crops = open_crops(profile, "train", config.batch)
    model = DMAE(profile.dmae)
    if start is not None:
        load_weights(model, start)
    elif profile.dmae.encoder.pca_start:  # also when resuming: there may be no run yet
        start_from_pca(model, open_crops(profile, "train", PCA_CROPS)(0))
    return fit(  # type: ignore[return-value]
        model, lambda number: (crops(number),), config, steps or config.steps, profile.seed, run, resume, device, watch
    )


def switched(profile: Profile, checkpointing: bool, optimizer: str | None) -> Profile:
    """Both stages trained with gradient checkpointing where it is asked for, and that optimizer or the profile's.

    Raises ImportError, with the mend, where the optimizer's library is missing: now, not after the data are made.
    """

    def train(config: TrainConfig) -> TrainConfig:
        chosen = optimizer or config.optimizer
        optimizer_class(chosen)
        return replace(config, checkpointing=checkpointing or config.checkpointing, optimizer=chosen)

    return replace(profile, dmae_train=train(profile.dmae_train), tcld_train=train(profile.tcld_train))


def switches(config: TrainConfig) -> str:
    """What was switched on, as the shell says it."""
    optimizer = "" if config.optimizer == "adamw" else f" --optimizer {config.optimizer}"
    return " --checkpointing" * config.checkpointing + optimizer


def shortened(profile: Profile, steps: int) -> Profile:
    """The profile for a run of so few steps: the warm start takes at most a third, the schedule follows."""
    warm = min(profile.dmae.encoder_pretrain_steps, steps // 3)
    train = replace(profile.dmae_train, schedule_restart=warm, warmup=min(profile.dmae_train.warmup, steps // 10))
    return replace(profile, dmae=replace(profile.dmae, encoder_pretrain_steps=warm), dmae_train=train)


@torch.no_grad()
def start_from_pca(model: DMAE, w: Wave) -> None:
    """Encoder and reader begin as an inverse pair, the yardstick's PCA of training waveforms w [n, 2, time].

    Its 32 numbers, each of standard deviation `PCA_SPREAD`, hardly notice the tanh; the encoder's net begins quietly
    beside it. From random weights the same net is far behind after thousands of steps.
    """
    straight, reader = model.encoder.straight, model.reader
    if straight is None or reader is None:
        raise ValueError("a start from PCA needs `pca_start` and a reader: see `EncoderConfig` and `DMAEConfig`")
    pca, (channels, inside, frames) = fit_pca(w, model.config), straight.weight.shape
    spread = PCA_SPREAD / np.sqrt(pca.explained_variance_)[:, None]
    analysis, synthesis = (torch.from_numpy(pca.components_ * s).float() for s in (spread, 1 / spread))
    mean = torch.from_numpy(pca.mean_).float()
    straight.weight.copy_(analysis.view(channels, frames, inside).transpose(1, 2))
    straight.bias.copy_(-analysis @ mean)  # type: ignore[union-attr]
    model.encoder.to_out.weight.mul_(0.1)
    model.encoder.to_out.bias.zero_()  # type: ignore[union-attr]
    head = reader.to_magnitude  # its outputs: number by number, the frames of each together
    head.weight.zero_()
    head.weight[:, :channels, 0] = synthesis.view(channels, frames, inside).permute(2, 1, 0).flatten(0, 1)
    head.bias.copy_(mean.view(frames, inside).T.flatten())  # type: ignore[union-attr]


def train_tcld(
    profile: Profile,
    dmae: DMAE,
    steps: int | None = None,
    run: Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    pieces: int | None = None,
    watch: Watch | None = None,
    start: Path | None = None,
) -> tuple[TCLD, pd.DataFrame]:
    """Stage 2 on the train split's latents and fresh captions, as `mousai train tcld` and notebook 05 do it.

    `pieces`: only the first so many, so that a lesson need not encode them all. `start`: weights to go on from, of the
    same profile, with a schedule of their own.
    """
    torch.manual_seed(profile.seed)
    config = over_processes(profile.tcld_train)
    with main_first(device):
        latents = open_latents(profile, dmae, "train", pieces)
    model = new_tcld(profile)
    if start is not None:
        load_weights(model, start)
    model.latent_std.copy_(latents.std())
    batches = caption_batches(profile, latents, config.batch, device)
    return fit(model, batches, config, steps or config.steps, profile.seed, run, resume, device, watch)  # type: ignore


def ship(
    profile: Profile,
    name: str,
    model: nn.Module,
    history: pd.DataFrame,
    path: Path | None = None,
    start: dict | None = None,
    validation: list[dict[str, float]] | None = None,
) -> dict:
    """Write weights (by default those the package ships) and their card: how they came about; returns the card.

    `start`: the card of the weights that the run went on from, empty where they have none; kept whole, and
    "hours_in_all" counts theirs too. `validation`: what the valid split said last, one entry a noise level.
    """
    loss, seconds, before = history["loss"].to_numpy(), history["seconds"].to_numpy(), start or {}
    hours, train = float(seconds.sum()) / 3600, getattr(profile, f"{name}_train")
    words = ("" if start is None else " --start FILE") + switches(train)
    card = {
        "profile": profile.name,
        "model": name,
        "command": f"mousai train {name} --profile {profile.name} --steps {len(history)}{words} --ship",
        "data": data_dir(profile).name,
        "steps": len(history),
        "hours": round(hours, 3),
        "hours_in_all": round(hours + before.get("hours_in_all", before.get("hours", 0)), 3),
        "seed": profile.seed,
        "checkpointing": train.checkpointing,
        "optimizer": train.optimizer,
        "final_loss": round(float(loss[-100:].mean()), 4),
        # over 100 equal parts of the run: what a healthy one looks like
        "loss_curve": over_parts(loss, np.mean),
        "loss_low": over_parts(loss, lambda part: np.quantile(part, 0.1)),
        "loss_high": over_parts(loss, lambda part: np.quantile(part, 0.9)),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "licence": "MIT; trained on arrangements of public domain tunes rendered with the TimGM6mb sound font",
        "config": asdict(getattr(profile, name)),
    }
    if validation:
        card["validation"] = validation
    if start:
        card["start"] = start
    return save_weights(model, path or weights_path(profile, name), card)


def over_parts(loss: np.ndarray, statistic: Callable, parts: int = 100) -> list[float]:
    """One number for each of at most 100 equal parts of a run."""
    return [round(float(statistic(part)), 4) for part in np.array_split(loss, min(parts, len(loss)))]


def caption_batches(profile: Profile, latents: Latents, batch: int, device: torch.device | None) -> Batches:
    """Number -> (z, embeddings) of chunks; each chunk's caption is drawn anew every time.

    The chunks are drawn by chance, or, where the data set is shards, come each once an epoch.
    """
    encoder = load_text_encoder(profile.tcld.text, device or choose_device())
    order = Epochs(latents.counts, profile.seed) if sharded(data_dir(profile)) else None

    def batches(number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([profile.seed, number])
        picks = order.batch(number, batch) if order else rng.integers(len(latents), size=batch).tolist()
        texts = [training_caption(*latents.about(i), rng=rng, title_drop=profile.tcld.title_drop) for i in picks]
        return latents[picks], encoder(texts)

    return batches


def training_caption(record: Record, k: int, rng: np.random.Generator, title_drop: float) -> str:
    """`caption`, the paper's; where its drops leave nothing, the chunk tag stands in."""
    return caption(record, k, rng, title_drop) or f"{k} of {record.chunks}"


def encode_split(profile: Profile, dmae: DMAE, split: str, pieces: int | None = None) -> Latent:
    """`open_latents`, all of them in memory: [chunks, 32, crop / 1024]."""
    latents = open_latents(profile, dmae, split, pieces)
    return latents[range(len(latents))]


def open_latents(profile: Profile, dmae: DMAE, split: str, pieces: int | None = None) -> Latents:
    """Of every chunk of a split, or of its first `pieces`, in the records' order; made where they are missing."""
    return Latents(cache_latents(profile, dmae, split, pieces)[0])


@torch.no_grad()
def cache_latents(
    profile: Profile, dmae: DMAE, split: str, pieces: int | None = None, rank: int = 0, world: int = 1
) -> tuple[Path, int]:
    """Encode what is missing, of `world` processes this one's share; returns the folder, and how many parts it lacks.

    Its name holds the hashes of encoder and records, so others never read it. Raises ValueError where the processes
    would each have to prepare the data set first.
    """
    root = data_dir(profile)
    if world > 1 and not sharded(root) and not (root / "manifest.jsonl").is_file():
        raise ValueError(f"{root}: no music yet: run `mousai data prepare` first, the processes share what is there")
    chunks, encoder = open_chunks(profile, split, pieces), encoder_hash(dmae)
    name = f"{root.name}-{split}-{len(chunks)}-{chunks.digest()[:8]}-{encoder}"
    folder, device = home() / "latents" / name, next(dmae.parameters()).device
    encode = lambda wave: dmae.encode(torch.from_numpy(wave)[None].to(device)).cpu()  # noqa: E731
    return folder, write_latents(chunks, encode, folder, encoder, rank, world, f"latents of {split}")


def encoder_hash(dmae: DMAE) -> str:
    """Short digest of the encoder's weights."""
    digest = hashlib.sha256()
    for tensor in dmae.encoder.state_dict().values():
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
