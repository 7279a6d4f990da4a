"""What `mousai train` watches: loss on held-out music at fixed levels, a clip, the best weights, early warnings.

Items, noise and levels are the same in every watch and every run of a profile, so that the numbers can be compared.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from tqdm.auto import tqdm

from mousai.checkpoint import save_tensors
from mousai.config import Profile
from mousai.data.clips import open_crops
from mousai.data.records import prompt
from mousai.diffusion import diffusion_loss, gaussian_like
from mousai.dmae import DMAE
from mousai.files import aside, write_text
from mousai.inference.pipeline import write_audio
from mousai.inference.precision import choose_device
from mousai.shapes import Signal, Wave
from mousai.spectrogram import log_mel
from mousai.tcld import TCLD
from mousai.text import load_text_encoder
from mousai.training.setup import open_latents

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)
ITEMS = 16  # crops, or chunks, of the valid split
HEARD = 2**18  # samples that are decoded of what stage 2 made: 5.46 s
IGNORED = 1.02  # where another's condition costs less, in the mean over sigma >= 0.5, it is ignored
SATURATED = 0.5  # share of the latent beyond 0.99

Net = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x_sigma, sigma, condition) -> v_hat
HeldOut = Callable[..., tuple[Tensor, Tensor, Net]]  # model -> x_0 and condition of every item, what predicts v
Clip = Callable[..., list[Tensor]]  # model -> waves [1, 2, time]: the original where there is one, then the model's


class Validation:
    """What `fit` calls as its `watch`. All it writes goes below `run`; `row` is what it found last.

    validation.csv (step, sigma, loss, shuffled), the same in tensorboard/; clips/STEP.ogg and .png; best.safetensors,
    the averaged weights of the lowest mean loss. With `resume` the rows of earlier steps stay, else they are forgotten.
    `warm`: steps before which nothing is trained that could hear the condition.
    """

    def __init__(
        self, profile: Profile, run: Path, resume: bool, condition: str, held_out: HeldOut, clip: Clip, warm: int = 0
    ):
        self.profile, self.run, self.resume, self.warm = profile, run, resume, warm
        self.condition, self.held_out, self.clip = condition, held_out, clip
        self.row, self.writer, path = {}, None, run / "validation.csv"
        kept = resume and path.is_file()
        self.table = pd.read_csv(path, float_precision="round_trip") if kept else pd.DataFrame({"step": []})

    @torch.no_grad()
    def __call__(self, step: int, model: nn.Module) -> None:
        """Measure, write and warn; `model` is the averaged one, in eval mode, after `step` steps."""
        x_0, told, net = self.held_out(model)
        losses = [self.losses(net, x_0, told, sigma) for sigma in SIGMAS]
        rows = pd.DataFrame([{"step": step, "sigma": s, **pair} for s, pair in zip(SIGMAS, losses, strict=True)])
        noisy, saturated = rows[rows.sigma >= 0.5], (told.abs() > 0.99).float().mean().item()
        ratio = (noisy.shuffled / noisy.loss).mean()
        self.row = {"step": step, "loss": rows.loss.mean(), "ratio": ratio, "saturated": saturated}
        self.table = self.table[self.table.step < step]
        self.keep_best(model)
        self.log(rows)
        self.play(model)
        for text in self.warnings():
            tqdm.write(f"step {step}: {text}", file=sys.stderr)

    def last(self) -> list[dict[str, float]]:
        """Step, sigma and both losses at every level, where they were measured last; empty before the first time."""
        rows = pd.DataFrame(self.table[self.table.step == self.table.step.max()])
        return rows.round(4).to_dict("records")

    def losses(self, net: Net, x_0: Signal, told: Tensor, sigma: float) -> dict[str, float]:
        """Mean (v_hat - v)^2 at one level, each item with its own condition and with its neighbour's."""
        eps, level = gaussian_like(x_0, generator(self.profile)), x_0.new_full((len(x_0),), sigma)

        def loss(heard: Tensor) -> float:
            return diffusion_loss(lambda x, s: net(x, s, heard), x_0, eps, level).mean().item()

        return {"loss": loss(told), "shuffled": loss(told.roll(1, 0))}

    def keep_best(self, model: nn.Module) -> None:
        """Write the weights where the mean loss is lower than at every step before."""
        before = self.table.groupby("step").loss.mean().min() if len(self.table) else math.inf
        if self.row["loss"] < before:
            save_tensors(model.state_dict(), self.run / "best.safetensors", {"step": str(self.row["step"])})

    def log(self, rows: pd.DataFrame) -> None:
        """The table anew with these rows at its end; the same numbers to TensorBoard."""
        from torch.utils.tensorboard import SummaryWriter  # seconds to import

        self.table = pd.concat([self.table, rows]) if len(self.table) else rows
        write_text(self.table.to_csv(index=False), self.run / "validation.csv")
        if self.writer is None:  # TensorBoard hides what an earlier run wrote from `purge_step` on
            purge = self.row["step"] if self.resume else 0
            self.writer = SummaryWriter(str(self.run / "tensorboard"), purge_step=purge)
        for row in rows.to_dict("records"):
            for name in ("loss", "shuffled"):
                self.writer.add_scalar(f"{name}/{row['sigma']}", row[name], row["step"])
        self.writer.flush()

    def play(self, model: nn.Module) -> None:
        """The first item as the model makes it, to be heard, and its picture."""
        waves, path = self.clip(model), self.run / "clips" / f"{self.row['step']}.ogg"
        write_audio(waves[-1][0], path, self.profile.sample_rate)
        draw(waves, path.with_suffix(".png"), self.profile.sample_rate)

    def warnings(self) -> list[str]:
        """What to look into before more time is spent, a line each."""
        step, ratio, saturated = self.row["step"], self.row["ratio"], self.row["saturated"]
        found = []
        if step > self.warm and ratio < IGNORED:
            found.append(f"the {self.condition} is ignored: a shuffled one costs only x{ratio:.2f}")
        if self.condition == "latent" and saturated > SATURATED:  # text is not squeezed by tanh
            found.append(f"the latent is saturated: {100 * saturated:.0f} % of it beyond 0.99")
        return found


def watch_dmae(profile: Profile, run: Path, device: torch.device | None = None, resume: bool = False) -> Validation:
    """For `train_dmae`: crops of the valid split; shuffled is the latent, heard the first crop's reconstruction."""
    w = open_crops(profile, "valid", ITEMS)(0).to(device or choose_device())

    def held_out(model: DMAE) -> tuple[Tensor, Tensor, Net]:
        return model.to_signal(w), model.encode_crop(w), model.net

    def clip(model: DMAE) -> list[Wave]:
        z = model.encode_crop(w[:1])
        return [w[:1], model.decode(z, profile.sampling.dmae_steps, generator(profile))]

    return Validation(profile, run, resume, "latent", held_out, clip, profile.dmae.encoder_pretrain_steps)


def watch_tcld(
    profile: Profile, dmae: DMAE, run: Path, device: torch.device | None = None, resume: bool = False
) -> Validation:
    """For `train_tcld`: chunks of the valid split; shuffled is the text, heard what the first chunk's prompt brings."""
    place, latents = device or choose_device(), open_latents(profile, dmae, "valid")
    picks = np.random.default_rng(profile.seed).permutation(len(latents))[:ITEMS].tolist()
    embedding = load_text_encoder(profile.tcld.text, place)([prompt(*latents.about(i)) for i in picks])
    z, settings = latents[picks].to(place), profile.sampling

    def held_out(model: TCLD) -> tuple[Tensor, Tensor, Net]:
        return z / model.latent_std, embedding, lambda x, sigma, told: model.unet(x, sigma, embedding=told)

    def clip(model: TCLD) -> list[Wave]:
        noise = generator(profile)
        made = model.sample(embedding[:1], model.window, settings.tcld_steps, settings.guidance, noise)
        return [dmae.decode(made[..., : HEARD // profile.dmae.latent_stride], settings.dmae_steps, noise)]

    return Validation(profile, run, resume, "text", held_out, clip)


def generator(profile: Profile) -> torch.Generator:
    """Its own, so that training's noise is as without a watch."""
    return torch.Generator().manual_seed(profile.seed)


def draw(waves: list[Wave], path: Path, sample_rate: int) -> None:
    """Log-mel pictures, the first above, as PNG: written aside and renamed."""
    fig, look = Figure(figsize=(8, 2.5 * len(waves)), layout="constrained"), {"cmap": "magma", "vmin": -3, "vmax": 2}
    for ax, wave in zip(fig.subplots(len(waves), squeeze=False)[:, 0], waves, strict=True):
        extent = (0, wave.shape[-1] / sample_rate, 0, 80)
        ax.imshow(log_mel(wave.cpu())[0], origin="lower", aspect="auto", extent=extent, **look)
        ax.set(xlabel="seconds", ylabel="mel band")
    with aside(path) as temporary:
        fig.savefig(temporary, format="png", dpi=80)
