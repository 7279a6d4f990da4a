"""Validation during training: losses on held-out music at fixed noise levels, a clip, the best weights, warnings.

Items, noise and noise levels are the same every time and in every run of a profile, so numbers can be compared (ours).
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import tqdm

from mousai.checkpoint import save_tensors
from mousai.config import Profile
from mousai.data.dataset import Workspace
from mousai.data.records import prompt
from mousai.diffusion import diffusion_loss, gaussian_like
from mousai.dmae import DMAE
from mousai.files import atomic_write, write_text
from mousai.inference.audio import write_audio
from mousai.inference.long import to_signal
from mousai.inference.precision import choose_device
from mousai.shapes import Signal, Wave
from mousai.small.config import has_magnitude_head, pretrain_steps
from mousai.spectrogram import log_mel
from mousai.tcld import TCLD
from mousai.text import load_text_encoder
from mousai.training.network_ratio import SIGMAS, dmae_network_ratio, tcld_network_ratio
from mousai.training.setup import open_latents

ITEMS = 16  # crops (stage 1) or chunks (stage 2) of the valid split
CLIP = 2**18  # samples of stage 2's clip, 5.46 s
IGNORED = 1.02  # warn of a smaller shuffled-conditioning loss ratio, mean over sigma >= 0.5
NOTHING = 0.999  # warn of a larger network ratio, mean over the noise levels
SATURATED = 0.5  # warn of a larger share of latent numbers whose size is over 0.99

Net = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_sigma, sigma, condition) -> v_hat


@dataclass(frozen=True)
class Subject:
    """What validation measures of one stage. Each function takes the EMA's model.

    `condition`: "latent"; "inject", which is the latent where a magnitude head uses it too; or "text". `held_out`: x_0
    and condition of every item, and the network. `clip`: waveforms [1, 2, time], the original if there is one, then the
    model's. `network_ratio`: as in `training.network_ratio`. `quiet`: up to this step the network may do nothing
    without a warning.
    """

    condition: str
    held_out: Callable[..., tuple[Tensor, Tensor, Net]]
    clip: Callable[..., list[Tensor]]
    network_ratio: Callable[..., dict[float, float]]
    quiet: int = 0


class Validation:
    """The callback of `fit`. `row` has the means that it measured last. It writes into `folder`:

    validation.csv, with step, sigma, loss, shuffled (the loss with another item's condition) and network_ratio; the
    same in tensorboard/; clips/STEP.ogg and .png; best.safetensors, the EMA's weights with the lowest mean loss. With
    `resume` rows of earlier steps are kept, else they are dropped.
    """

    def __init__(self, profile: Profile, folder: Path, resume: bool, subject: Subject):
        self.profile = profile
        self.folder = folder
        self.resume = resume
        self.subject = subject
        self.row: dict[str, float] = {}
        self.writer = None
        path = folder / "validation.csv"
        kept = resume and path.is_file()
        # "round_trip": a resumed run must write the same digits. pandas' own annotation has forgotten it.
        exact: Any = "round_trip"
        self.table = pd.read_csv(path, float_precision=exact) if kept else pd.DataFrame({"step": []})

    @torch.no_grad()
    def __call__(self, step: int, model: nn.Module) -> None:
        """Measure, write, print and warn. `model`: the EMA's, in eval mode, after `step` steps."""
        x_0, condition, net = self.subject.held_out(model)
        losses = [{"step": step, "sigma": sigma, **self.losses(net, x_0, condition, sigma)} for sigma in SIGMAS]
        without = self.subject.network_ratio(model)
        losses = [{**row, "network_ratio": without[row["sigma"]]} for row in losses]
        rows = pd.DataFrame(losses)
        noisy = rows[rows.sigma >= 0.5]
        self.row = {
            "step": step,
            "loss": rows.loss.mean(),
            "ratio": (noisy.shuffled / noisy.loss).mean(),
            "network_ratio": rows.network_ratio.mean(),
            "saturated": (condition.abs() > 0.99).float().mean().item(),
        }
        self.table = self.table[self.table.step < step]
        self.keep_best(model)
        self.log(rows)
        self.write_clip(model)
        for line in [self.summary(), *self.warnings()]:
            tqdm.write(f"step {step}: {line}", file=sys.stderr)

    def last(self) -> list[dict[str, float]]:
        """The rows of validation.csv that were measured last, one per noise level; empty before the first time."""
        rows = pd.DataFrame(self.table[self.table.step == self.table.step.max()])
        return rows.round(4).to_dict("records")

    def losses(self, net: Net, x_0: Signal, condition: Tensor, sigma: float) -> dict[str, float]:
        """Mean (v_hat - v)^2 at one noise level: "loss" with each item's own condition, "shuffled" with another's."""
        eps = gaussian_like(x_0, generator(self.profile))
        level = x_0.new_full((len(x_0),), sigma)

        def loss(given: Tensor) -> float:
            return diffusion_loss(lambda x, s: net(x, s, given), x_0, eps, level).mean().item()

        return {"loss": loss(condition), "shuffled": loss(condition.roll(1, 0))}

    def keep_best(self, model: nn.Module) -> None:
        """Write the weights if the mean loss is lower than at every earlier step."""
        before = self.table.groupby("step").loss.mean().min() if len(self.table) else math.inf
        if self.row["loss"] < before:
            save_tensors(model.state_dict(), self.folder / "best.safetensors", {"step": str(self.row["step"])})

    def log(self, rows: pd.DataFrame) -> None:
        """Append the rows to validation.csv and to TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        self.table = pd.concat([self.table, rows]) if len(self.table) else rows
        write_text(self.table.to_csv(index=False), self.folder / "validation.csv")
        if self.writer is None:  # rows of an earlier run from `purge_step` on are hidden
            purge = self.row["step"] if self.resume else 0
            self.writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=purge)
        for row in rows.to_dict("records"):
            for name in ("loss", "shuffled", "network_ratio"):
                self.writer.add_scalar(f"{name}/{row['sigma']}", row[name], row["step"])
        self.writer.flush()

    def write_clip(self, model: nn.Module) -> None:
        """Write the model's clip of the first item as sound, and its log-mel spectrogram."""
        waves = self.subject.clip(model)
        path = self.folder / "clips" / f"{self.row['step']}.ogg"
        write_audio(waves[-1][0], path, self.profile.sample_rate)
        draw(waves, path.with_suffix(".png"), self.profile.sample_rate)

    def summary(self) -> str:
        """One line: mean loss, loss at each noise level, shuffled-conditioning loss ratio, network ratios."""
        levels = ", ".join(f"{row['sigma']}: {row['loss']:.4f}" for row in self.last())
        ratio = f"{self.subject.condition} shuffled x{self.row['ratio']:.2f}"
        worth = ", ".join(f"{row['network_ratio']:.3f}" for row in self.last())
        return (
            f"validation loss {self.row['loss']:.4f} (sigma {levels}), {ratio}, with the network over without: {worth}"
        )

    def warnings(self) -> list[str]:
        """What to look into before training on, a line each: network unused, condition unused, latent saturated."""
        found = []
        if self.row["step"] > self.subject.quiet and self.row["network_ratio"] > NOTHING:
            worth = f"{self.row['network_ratio']:.3f} of the loss without it"
            found.append(f"the network does nothing yet: {worth}; look for the cause if this lasts")
        alone = self.subject.condition != "inject"  # else the head uses it even if the network does not
        if alone and self.row["step"] > self.subject.quiet and self.row["ratio"] < IGNORED:
            found.append(f"the {self.subject.condition} is ignored: a shuffled one costs only x{self.row['ratio']:.2f}")
        if self.subject.condition != "text" and self.row["saturated"] > SATURATED:  # text is not bounded by tanh
            found.append(f"the latent is saturated: {100 * self.row['saturated']:.0f} % of it beyond 0.99")
        return found


def dmae_validation(space: Workspace, folder: Path, resume: bool = False) -> Validation:
    """The validation of `train_dmae`, on crops of the valid split; its clip is a reconstruction."""
    profile = space.profile
    w = space.data.crops("valid", profile.dmae.crop, ITEMS, profile.seed)(0).to(choose_device(space.device))

    def held_out(model: DMAE) -> tuple[Tensor, Tensor, Net]:
        z = model.encode_crop(w)
        return to_signal(model, w, z), z, model.net

    def clip(model: DMAE) -> list[Wave]:
        z = model.encode_crop(w[:1])
        return [w[:1], model.decode(z, profile.sampling.dmae_steps, generator(profile))]

    def network_ratio(model: DMAE) -> dict[float, float]:
        return dmae_network_ratio(model, w, generator(profile))

    quiet = pretrain_steps(profile.dmae) + profile.dmae_train.steps // 10
    condition = "inject" if has_magnitude_head(profile.dmae) else "latent"
    return Validation(profile, folder, resume, Subject(condition, held_out, clip, network_ratio, quiet))


def tcld_validation(space: Workspace, dmae: DMAE, folder: Path, resume: bool = False) -> Validation:
    """The validation of `train_tcld`, on chunks of the valid split; its clip is sampled for the first one's prompt."""
    profile = space.profile
    device = choose_device(space.device)
    settings = profile.sampling
    latents = open_latents(space, dmae, "valid")
    picks = np.random.default_rng(profile.seed).permutation(len(latents))[:ITEMS].tolist()
    texts = [prompt(*latents.about(i), space.fits) for i in picks]
    embedding = load_text_encoder(profile.tcld.text, device)(texts)
    z = latents[picks].to(device)

    def predict(model: TCLD) -> Net:
        return lambda x, sigma, condition: model.unet(x, sigma, embedding=condition)

    def held_out(model: TCLD) -> tuple[Tensor, Tensor, Net]:
        return z / model.latent_std, embedding, predict(model)

    def clip(model: TCLD) -> list[Wave]:
        noise = generator(profile)
        sampled = model.sample(embedding[:1], model.window, settings.tcld_steps, settings.guidance, noise)
        return [dmae.decode(sampled[..., : CLIP // profile.dmae.latent_stride], settings.dmae_steps, noise)]

    def network_ratio(model: TCLD) -> dict[float, float]:
        return tcld_network_ratio(model, z, embedding, generator(profile))

    quiet = profile.tcld_train.steps // 10
    return Validation(profile, folder, resume, Subject("text", held_out, clip, network_ratio, quiet))


def generator(profile: Profile) -> torch.Generator:
    """A new generator for validation alone, so that it does not change the noise of training."""
    return torch.Generator().manual_seed(profile.seed)


def draw(waves: list[Wave], path: Path, sample_rate: int) -> None:
    """Draw the waveforms' log-mel spectrograms below one another in a PNG file."""
    fig = Figure(figsize=(8, 2.5 * len(waves)), layout="constrained")
    for ax, wave in zip(fig.subplots(len(waves), squeeze=False)[:, 0], waves, strict=True):
        extent = (0, wave.shape[-1] / sample_rate, 0, 80)
        mel = log_mel(wave.cpu())[0]
        ax.imshow(mel, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=-3, vmax=2)
        ax.set(xlabel="seconds", ylabel="mel band")
    with atomic_write(path) as temporary:
        fig.savefig(temporary, format="png", dpi=80)
