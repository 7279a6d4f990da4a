"""One plain training loop for both stages, on accelerate; EMA; save and resume.

Everything random in step i is a function of (seed, i): the batch, the noise, the levels. So a resumed run repeats what
an uninterrupted one would have done, and no random state needs saving.
"""

import copy
import hashlib
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from mousai.checkpoint import new_tcld, save_tensors, save_weights, weights_path
from mousai.data.clips import Chunks, RandomCrops
from mousai.data.embedded import data_dir, load_records
from mousai.data.records import Record, caption
from mousai.dmae import DMAE
from mousai.files import write_text
from mousai.profiles import Profile, TrainConfig, choose_device, home
from mousai.shapes import Latent
from mousai.tcld import TCLD
from mousai.text import load_text_encoder

Batches = Callable[[int], tuple]  # step -> the model's positional arguments


class EMA:
    """Exponential moving average of the weights: beta_i = min(0.995, 1 - (1 + i)^-0.7), as in the authors' trainer.

    `model` is a true copy: what it computes comes from the averaged weights (the authors' copy runs the original's).
    """

    def __init__(self, model: nn.Module, beta: float, power: float):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.beta, self.power = beta, power

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Call after the optimizer's step number `step`, counted from 1."""
        beta = min(self.beta, 1 - (1 + step) ** -self.power)
        for average, current in zip(self.model.parameters(), model.parameters(), strict=True):
            average.lerp_(current, 1 - beta)
        for average, current in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(current)


def learning_rate(config: TrainConfig, step: int, steps: int) -> float:
    """The paper's is constant; a short run warms up linearly and follows a cosine to 0."""
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    return config.lr * warm * (0.5 * (1 + math.cos(math.pi * step / steps)) if config.decay else 1.0)


def step_generator(seed: int, step: int) -> torch.Generator:
    """The noise of one step."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence([seed, step]).generate_state(1)[0]))


def fit(
    model: nn.Module,
    batches: Batches,
    config: TrainConfig,
    steps: int,
    seed: int = 0,
    run: Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
) -> tuple[nn.Module, pd.DataFrame]:
    """Train `model` for `steps` steps; returns its EMA and the history (step, loss, lr, seconds).

    With `run`, saves there every `save_minutes`, at the end, and when interrupted; `resume` goes on from what is there.
    Raises ValueError when the loss is no longer finite.
    """
    accelerator = Accelerator(cpu=(device or choose_device()).type == "cpu")
    optimizer = torch.optim.AdamW(
        model.parameters(), config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )
    model.to(accelerator.device).train()
    ema = EMA(model, config.ema_beta, config.ema_power)
    history = load_run(run, model, ema, optimizer) if run and resume else []
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    saved = time.monotonic()
    bar = progress_bar(type(model).__name__, len(history), steps)
    try:
        for step in range(len(history), steps):
            history.append(train_step(wrapped, batches, config, step, steps, seed, optimizer, accelerator))
            ema.update(model, step + 1)
            bar.set_postfix(loss=f"{recent(history):.3f}", refresh=False)
            bar.update()
            if run and time.monotonic() - saved > 60 * config.save_minutes:
                save_run(run, model, ema, optimizer, history)
                saved = time.monotonic()
    finally:  # also when interrupted: what was learned is kept
        bar.close()
        if run:
            save_run(run, model, ema, optimizer, history)
    return ema.model, pd.DataFrame(history)


def train_step(wrapped, batches, config, step, steps, seed, optimizer, accelerator) -> dict:
    """One batch, one gradient, one update; returns the row of the history."""
    start = time.perf_counter()
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(config, step, steps)
    batch = [tensor.to(accelerator.device) for tensor in batches(step)]
    waited = time.perf_counter() - start
    loss = wrapped(*batch, step_generator(seed, step), step)
    if not math.isfinite(value := loss.item()):  # before the weights are touched: what is saved stays good
        raise ValueError(f"loss is {value} at step {step}: lower the learning rate, {config.lr}, or check the data")
    accelerator.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    seconds = time.perf_counter() - start
    return {"step": step, "loss": value, "lr": learning_rate(config, step, steps), "seconds": seconds, "waited": waited}


def recent(history: list[dict], n: int = 50) -> float:
    """Mean loss of the last n steps."""
    return float(np.mean([row["loss"] for row in history[-n:]]))


def progress_bar(name: str, initial: int, total: int) -> tqdm:
    """A bar on a screen; in a log, a line every ten seconds."""
    return tqdm(desc=name, initial=initial, total=total, mininterval=0.5 if sys.stderr.isatty() else 10, unit="step")


def save_run(run: Path, model: nn.Module, ema: EMA, optimizer, history: list[dict]) -> None:
    """run/last.safetensors: weights, average and optimizer of one moment in one file; run/history.csv beside it."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"ema.{name}": tensor for name, tensor in ema.model.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
    save_tensors(tensors, run / "last.safetensors", {"history": json.dumps(history)})
    write_text(pd.DataFrame(history).to_csv(index=False), run / "history.csv")


def load_run(run: Path, model: nn.Module, ema: EMA, optimizer) -> list[dict]:
    """Fill all three from run/last.safetensors; returns the history so far, empty where there is no run yet.

    Raises ValueError where the file is damaged or of another profile.
    """
    path = run / "last.safetensors"
    if not path.is_file():
        return []
    try:
        with safe_open(path, "pt") as file:
            history = json.loads(file.metadata()["history"])
        tensors, state = load_file(path), {}
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, index, key = name.split(".")
                state.setdefault(int(index), {})[key] = tensor
        for prefix, module in (("model.", model), ("ema.", ema.model)):
            module.load_state_dict({k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)})
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    except (SafetensorError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged or of another profile: delete it, or train without resuming") from error
    return history


def train_dmae(
    profile: Profile,
    steps: int | None = None,
    run: Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
) -> tuple[DMAE, pd.DataFrame]:
    """Stage 1 on random crops of the train split, as `mousai train dmae` and notebook 04 do it."""
    torch.manual_seed(profile.seed)
    config = profile.dmae_train
    crops = RandomCrops(
        load_records(profile, "train"), data_dir(profile), profile.dmae.crop, config.batch, profile.seed
    )
    model = DMAE(profile.dmae)
    return fit(  # type: ignore[return-value]
        model, lambda step: (crops(step),), config, steps or config.steps, profile.seed, run, resume, device
    )


def train_tcld(
    profile: Profile,
    dmae: DMAE,
    steps: int | None = None,
    run: Path | None = None,
    resume: bool = False,
    device: torch.device | None = None,
    pieces: int | None = None,
) -> tuple[TCLD, pd.DataFrame]:
    """Stage 2 on the train split's latents and fresh captions, as `mousai train tcld` and notebook 05 do it.

    `pieces`: only the first so many, so that a lesson need not encode them all.
    """
    torch.manual_seed(profile.seed)
    config = profile.tcld_train
    z = encode_split(profile, dmae, "train", pieces)
    model = new_tcld(profile)
    model.latent_std.copy_(z.std())
    batches = caption_batches(profile, z, config.batch, device)
    return fit(model, batches, config, steps or config.steps, profile.seed, run, resume, device)  # type: ignore


def ship(profile: Profile, name: str, model: nn.Module, history: pd.DataFrame, path: Path | None = None) -> dict:
    """Write weights (by default those the package ships) and their card: how they came about; returns the card."""
    loss, seconds = history["loss"].to_numpy(), history["seconds"].to_numpy()
    card = {
        "profile": profile.name,
        "model": name,
        "command": f"mousai train {name} --profile {profile.name} --steps {len(history)} --ship",
        "data": data_dir(profile).name,
        "steps": len(history),
        "hours": round(float(seconds.sum()) / 3600, 3),
        "seed": profile.seed,
        "final_loss": round(float(loss[-100:].mean()), 4),
        # 100 means over equal parts of the run
        "loss_curve": [round(float(part.mean()), 4) for part in np.array_split(loss, min(100, len(loss)))],
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "licence": "MIT; trained on arrangements of public domain tunes rendered with the TimGM6mb sound font",
        "config": asdict(getattr(profile, name)),
    }
    return save_weights(model, path or weights_path(profile, name), card)


def caption_batches(profile: Profile, z: Latent, batch: int, device: torch.device | None) -> Batches:
    """step -> (latents, embeddings) of random chunks; each chunk's caption is drawn anew every time."""
    records, encoder = load_records(profile, "train"), load_text_encoder(profile.tcld.text, device or choose_device())
    chunks = [(record, k) for record in records for k in range(1, record.chunks + 1)][: len(z)]

    def batches(step: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng([profile.seed, step])
        picks = rng.integers(len(chunks), size=batch)
        texts = [training_caption(*chunks[i], rng=rng) for i in picks]
        return z[torch.from_numpy(picks)], encoder(texts)

    return batches


def training_caption(record: Record, k: int, rng: np.random.Generator) -> str:
    """The paper's caption. Each element is dropped with 0.1; where that leaves nothing, the chunk tag stands in."""
    return caption(record, k, rng) or f"{k} of {record.chunks}"


@torch.no_grad()
def encode_split(profile: Profile, dmae: DMAE, split: str, pieces: int | None = None) -> Latent:
    """Latents of every chunk of a split, or of its first `pieces`: [chunks, 32, crop / 1024], in the records' order.

    Cached on disk; the cache's name holds the encoder's hash, so other weights never read it.
    """
    records = load_records(profile, split)[:pieces]
    name = f"{data_dir(profile).name}-{split}-{len(records)}-{encoder_hash(dmae)}"
    path = home() / "latents" / f"{name}.safetensors"
    if path.is_file():
        return load_file(path)["z"].float()
    device = next(dmae.parameters()).device
    chunks = Chunks(records, data_dir(profile))
    bar = tqdm(chunks, f"latents of {split}", mininterval=0.5 if sys.stderr.isatty() else 10)
    z = torch.cat([dmae.encode(torch.from_numpy(wave)[None].to(device)).cpu() for _, _, wave in bar])
    save_tensors({"z": z.half()}, path)
    return z.half().float()


def encoder_hash(dmae: DMAE) -> str:
    """Short digest of the encoder's weights."""
    digest = hashlib.sha256()
    for tensor in dmae.encoder.state_dict().values():
        digest.update(tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
