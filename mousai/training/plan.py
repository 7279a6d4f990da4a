"""`mousai plan`: memory, time and disk of a training at any size, before anybody pays for them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import pandas as pd
import torch
from torch import nn

from mousai.bench.paper_size import STAGES
from mousai.checkpoint import new_tcld
from mousai.config import Profile, TrainConfig
from mousai.dmae import DMAE
from mousai.training.estimator import Step, optimizer_bytes, reckon
from mousai.unet import count_parameters

KEPT_FREE = 0.1  # of a GPU's memory, for what is not reckoned: CUDA's context, cuDNN's workspaces, gaps [ours]
FLAC_SHARE = 0.6  # of 16-bit PCM: an assumption; loud and dense music takes more [ours]
TEXT_ENCODERS = {"t5-base": 109_628_544, "minilm": 22_713_216}  # parameters
DAY = 86_400


@dataclass(frozen=True)
class GPU:
    """Memory in GB; peak TFLOP/s of each precision, dense."""

    memory: float
    tflops: dict[str, float]


# From NVIDIA's data sheets of A100 and H100 SXM, halved where those count sparsity; float32 is outside of tensor cores.
A100_PEAK = {"float32": 19.5, "tf32": 156.0, "bfloat16": 312.0}
H100_PEAK = {"float32": 66.9, "tf32": 494.7, "bfloat16": 989.4}
GPUS = {"a100-40gb": GPU(40, A100_PEAK), "a100-80gb": GPU(80, A100_PEAK), "h100-80gb": GPU(80, H100_PEAK)}


def gpu_of(name: str, memory: float | None = None, tflops: float | None = None) -> GPU:
    """The GPU of that name; with other GB, or with one peak for whatever precision its TFLOP/s are of."""
    known = GPUS[name]
    return GPU(memory or known.memory, {"the peak given": tflops} if tflops else known.tflops)


def trained(
    profile: Profile,
    batch: int | None = None,
    precision: str | None = None,
    optimizer: str | None = None,
    checkpointing: bool | None = None,
) -> Profile:
    """The profile with both stages' training changed alike; what is None stays as it is."""
    asked = {"batch": batch, "precision": precision, "optimizer": optimizer, "checkpointing": checkpointing}
    given = {name: value for name, value in asked.items() if value is not None}
    both = {f"{stage}_train": replace(training(profile, stage), **given) for stage in STAGES}
    return replace(profile, **both)


def training(profile: Profile, stage: str) -> TrainConfig:
    """Settings of one stage's training."""
    return getattr(profile, f"{stage}_train")


def plan(profile: Profile, gpu: GPU, efficiency: float, hours: float | None = None) -> str:
    """All that `mousai plan` prints: for each stage a table, then disk, then what is assumed.

    `efficiency`: share of the GPU's peak that training reaches; `hours` of music, the profile's where None.
    """
    hours = hours_of(profile) if hours is None else hours
    tables = []
    for stage in STAGES:
        config = training(profile, stage)
        kind = "bfloat16 over float32 weights" if config.precision == "auto" else "float32"
        title = f"{stage}: batch {config.batch}, {kind}, {config.optimizer}, {config.steps:,} steps"
        ways = {False: "without checkpointing", True: "with checkpointing"}
        columns = {way: column(stage, trained(profile, checkpointing=on), gpu, efficiency) for on, way in ways.items()}
        tables.append(f"{title}\n\n{pd.DataFrame(columns).to_markdown()}")
    return "\n\n".join([*tables, disk(profile, hours).to_markdown(), assumed(gpu, efficiency)])


def column(stage: str, profile: Profile, gpu: GPU, efficiency: float) -> dict[str, str]:
    """One way to train a stage, row by row."""
    config, others = training(profile, stage), beside(stage, profile)
    at = cache(partial(reckon, stage, profile, bfloat16=config.precision == "auto"))
    step, room = at(config.batch), (1 - KEPT_FREE) * 1e9 * gpu.memory - others
    most = largest(lambda batch: at(batch).memory, config.batch, step.weights + step.average + step.optimizer, room)
    return {
        **memory_rows(step, others),
        "largest batch that fits": str(most),
        f"a batch of {config.batch} as": pieces(config.batch, most),
        **time_rows(step.flop * config.accumulate, config.steps, gpu, efficiency),
    }


def memory_rows(step: Step, others: int) -> dict[str, str]:
    """GB (1e9 bytes) of each part of a step, and of the step at its fullest moment, which is less than all parts."""
    parts = {
        "weights": step.weights,
        "EMA": step.average,
        "optimizer": step.optimizer,
        "gradients": step.gradients,
        "activations": step.activations,
        "frozen models beside it": others,
        "at the fullest moment": step.memory + others,
    }
    return {f"{name}, GB": f"{size / 1e9:,.2f}" for name, size in parts.items()}


def time_rows(flop: int, steps: int, gpu: GPU, efficiency: float) -> dict[str, str]:
    """Operations of a step; steps a day and days in each precision that the GPU has."""
    rows = {"GFLOP a step": f"{flop / 1e9:,.0f}"}
    for precision, tflops in gpu.tflops.items():
        daily = DAY * efficiency * tflops * 1e12 / flop
        rows[f"steps a day (days), {precision}"] = f"{daily:,.0f} ({steps / daily:,.1f})"
    return rows


def largest(memory: Callable[[int], float], guess: int, fixed: float, room: float) -> int:
    """The largest batch whose step takes at most `room` bytes; 0 where not even one item fits.

    Beyond what is `fixed`, memory grows almost evenly with the batch: each guess gives a better one.
    """
    for _ in range(6):
        better = max(1, int(guess * (room - fixed) / (memory(guess) - fixed)))
        if better == guess:
            break
        guess = better
    while guess and memory(guess) > room:
        guess -= 1
    return guess


def pieces(batch: int, most: int) -> str:
    """ "4 x 8": how many equal batches of at most `most` make one, as `accumulate` or as many GPUs take it."""
    fits = [n for n in range(1, batch + 1) if batch % n == 0 and batch // n <= most]
    return f"{fits[0]} x {batch // fits[0]}" if fits else "nothing fits"


def beside(stage: str, profile: Profile) -> int:
    """Bytes of what is frozen and on the GPU while stage 2 learns: stage 1 and the text encoder, float32."""
    if stage == "dmae":
        return 0
    return 4 * (count_parameters(models(profile)["dmae"]) + TEXT_ENCODERS.get(profile.tcld.text.encoder, 0))


def models(profile: Profile) -> dict[str, nn.Module]:
    """Both stages, without content."""
    with torch.device("meta"):
        return {"dmae": DMAE(profile.dmae), "tcld": new_tcld(profile)}


def hours_of(profile: Profile) -> float:
    """Hours of music of the profile's own data set; the paper's has 2,500 [A]."""
    return profile.data.pieces * profile.data.piece_samples / profile.sample_rate / 3600


def disk(profile: Profile, hours: float) -> pd.DataFrame:
    """GB that a training leaves on the disk."""
    samples, stride = 3600 * hours * profile.sample_rate, profile.dmae.latent_stride
    both = models(profile)
    rows = {"weights of both stages": sum(2 * count_parameters(model) for model in both.values())}
    for stage, model in both.items():
        copy, kept = 4 * count_parameters(model), optimizer_bytes(model, training(profile, stage).optimizer)[0]
        rows[f"{stage}: two checkpoints, best weights"] = 2 * (2 * copy + kept) + copy
    rows[f"{hours:,.0f} hours of FLAC"] = round(2 * 2 * samples * FLAC_SHARE)
    rows["their latents"] = round(2 * samples / stride * profile.dmae.encoder.latent_channels)
    rows["all"] = sum(rows.values())
    return pd.DataFrame({"disk, GB": {name: f"{size / 1e9:,.2f}" for name, size in rows.items()}})


def assumed(gpu: GPU, efficiency: float) -> str:
    """What stands behind the numbers."""
    peak = ", ".join(f"{tflops:g} in {precision}" for precision, tflops in gpu.tflops.items())
    return f"""\
Memory is reckoned, not measured on such a GPU: {gpu.memory:g} GB, {KEPT_FREE:.0%} of them kept free (ours).
Gradients come while activations go: the fullest moment is less than all parts, or when the optimizer is at work.
`mousai plan --check` measures smaller configurations on this machine's CPU and puts them beside what is reckoned.
Days assume {efficiency:.0%} of the peak TFLOP/s, {peak} (the share is ours), and count no validation.
Left alone, torch computes float32 convolutions in tf32 and float32 products in float32: days lie between the two.
The paper's batch of 32 and 1,000,000 steps are recollection [M]; a week a stage on one A100 is from one source [B].
FLAC is taken to be {FLAC_SHARE:.0%} of 16-bit PCM (ours). While a checkpoint is written, there are three."""
