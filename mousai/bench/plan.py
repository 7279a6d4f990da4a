"""`mousai plan`: estimate memory, time and disk of a training at any size before it is paid for.

Weights, their average (EMA), gradients and AdamW's two moments are computed from the number of parameters; operations
are counted by torch's FlopCounterMode on meta tensors. Activations are measured in real steps on this machine's CPU;
for `a100` at a quarter of the paper's width, then scaled by the width.

python -m mousai.bench.plan a100 dmae checkpointing float32       GB of activations of one item; JSON on the last line
"""

import json
import sys
from dataclasses import dataclass, replace

import pandas as pd
import torch
from tabulate import tabulate
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from mousai.bench.efficiency import in_fresh_process, resident_peak_gb
from mousai.bench.model_scales import NARROWER, sized
from mousai.bench.paper_size import STAGES, build
from mousai.config import Profile, TrainConfig
from mousai.small.profiles import get_profile
from mousai.training.activation_checkpointing import activation_checkpointing
from mousai.training.setup import with_training
from mousai.unet import count_parameters

KEPT_FREE = 0.1  # share of a GPU's memory, for CUDA's context, cuDNN's workspaces, fragmentation [ours]
FLAC_SHARE = 0.6  # of 16-bit PCM: an assumption; loud and dense music takes more [ours]
TEXT_ENCODERS = {"t5-base": 109_628_544, "minilm": 22_564_608}  # parameters
BATCHES = (1, 3)  # batches of the measured steps; their difference is without what does not grow with the batch


@dataclass(frozen=True)
class GPU:
    """memory: in GB. tflops: precision -> peak TFLOP/s, dense."""

    memory: float
    tflops: dict[str, float]


# From NVIDIA's data sheets of A100 and H100 SXM, halved where those assume sparsity; float32 is without tensor cores.
A100_PEAK = {"float32": 19.5, "tf32": 156.0, "bfloat16": 312.0}
H100_PEAK = {"float32": 66.9, "tf32": 494.7, "bfloat16": 989.4}
GPUS = {"a100-40gb": GPU(40, A100_PEAK), "a100-80gb": GPU(80, A100_PEAK), "h100-80gb": GPU(80, H100_PEAK)}


def gpu_of(name: str, memory: float | None = None, tflops: float | None = None) -> GPU:
    """The GPU of that name, with other memory in GB, or with one given peak, whose precision the user knows."""
    known = GPUS[name]
    return GPU(memory or known.memory, {"the peak given": tflops} if tflops else known.tflops)


def training(profile: Profile, stage: str) -> TrainConfig:
    """The profile's training settings for a stage, "dmae" or "tcld"."""
    return getattr(profile, f"{stage}_train")


def plan(profile: Profile, gpu: GPU, efficiency: float, hours: float | None = None) -> str:
    """What `mousai plan` prints: a table for each stage, then the disk, then the assumptions.

    efficiency: share of the GPU's peak that training reaches. hours: of music, by default those of the profile's data.
    """
    tables = []
    for stage in STAGES:
        config = training(profile, stage)
        kind = "bfloat16 over float32 weights" if config.precision == "auto" else "float32"
        title = f"{stage}: batch {config.batch}, {kind}, {config.steps:,} steps"
        columns = {
            f"{word} checkpointing": column(stage, with_training(profile, checkpointing=on), gpu, efficiency)
            for word, on in (("without", False), ("with", True))
        }
        tables.append(f"{title}\n\n{tabulate(pd.DataFrame(columns), 'keys', 'pipe')}")
    disk_table = tabulate(disk(profile, hours or hours_of(profile)), "keys", "pipe")
    return "\n\n".join([*tables, disk_table, assumed(gpu, efficiency)])


def column(stage: str, profile: Profile, gpu: GPU, efficiency: float) -> dict[str, str]:
    """A column of the table: row -> its text, for one stage with the profile's settings; memory in GB (1e9 bytes)."""
    config = training(profile, stage)
    sizes = weights_gb(profile)
    weights = sizes[stage]
    parts = {"weights": weights, "EMA": weights, "optimizer": 2 * weights, "gradients": weights}
    if stage == "tcld":  # stage 1 and the text encoder encode its batches
        parts["frozen models beside it"] = sizes["dmae"] + sizes["text"]
    fixed = sum(parts.values())
    item = activations_gb(stage, profile)
    parts |= {"activations": config.batch * item, "all": fixed + config.batch * item}
    most = max(0, int(((1 - KEPT_FREE) * gpu.memory - fixed) / item))
    fits = [n for n in range(1, config.batch + 1) if config.batch % n == 0 and config.batch // n <= most]
    rows = {f"{name}, GB": f"{size:,.2f}" for name, size in parts.items()}
    rows["largest batch that fits"] = str(most)
    # by gradient accumulation (`accumulate`), or on several GPUs
    rows[f"a batch of {config.batch} as"] = f"{fits[0]} x {config.batch // fits[0]}" if fits else "nothing fits"
    flop = flop_per_item(stage, profile) * config.batch * config.accumulate
    rows["GFLOP a step"] = f"{flop / 1e9:,.0f}"
    for precision, tflops in gpu.tflops.items():
        daily = 86_400 * efficiency * tflops * 1e12 / flop
        rows[f"steps a day (days), {precision}"] = f"{daily:,.0f} ({config.steps / daily:,.1f})"
    return rows


def weights_gb(profile: Profile) -> dict[str, float]:
    """GB of float32 weights: of "dmae", "tcld" and "text", the text encoder."""
    with torch.device("meta"):
        counts = {stage: count_parameters(build(stage, profile)[0]) for stage in STAGES}
    counts["text"] = TEXT_ENCODERS.get(profile.tcld.text.encoder, 0)
    return {name: 4 * count / 1e9 for name, count in counts.items()}


def flop_per_item(stage: str, profile: Profile) -> int:
    """Floating-point operations of loss and backward for one item, with the recomputation of checkpointing."""
    with torch.device("meta"):
        model, item, _, config = build(stage, profile)
    counter = FlopCounterMode(display=False)
    with activation_checkpointing(model, config.checkpointing), sdpa_kernel(SDPBackend.MATH), counter:
        model(*item, torch.Generator()).backward()
    return counter.get_total_flops()


def activations_gb(stage: str, profile: Profile) -> float:
    """GB of one item's activations in a training step: measured in a fresh process, for `a100` scaled by the width."""
    config = training(profile, stage)
    kept = "checkpointing" if config.checkpointing else "kept"
    measured = in_fresh_process("mousai.bench.plan", profile.name, stage, kept, config.precision)["gb"]
    return measured * (NARROWER["cpu"] if profile.name.startswith("a100") else 1)


def measure(stage: str, profile: Profile, checkpointing: bool, bfloat16: bool) -> float:
    """GB that one more item adds to the peak of a training step on this CPU; for `a100` at a quarter of the width."""
    if profile.name.startswith("a100"):
        dmae, tcld, _ = sized("cpu")
        profile = replace(profile, dmae=dmae, tcld=tcld)
    peaks = []
    for batch in BATCHES:
        torch.manual_seed(0)
        model, item, _, _ = build(stage, profile, batch)
        with activation_checkpointing(model, checkpointing):
            with torch.autocast("cpu", torch.bfloat16, bfloat16):
                loss = model(*item, torch.Generator())
            loss.backward()
        peaks.append(resident_peak_gb())
    return (peaks[1] - peaks[0]) / (BATCHES[1] - BATCHES[0])


def hours_of(profile: Profile) -> float:
    """Hours of music in the profile's embedded data set; the paper's has 2,500 [A]."""
    return profile.data.pieces * profile.data.piece_samples / profile.sample_rate / 3600


def disk(profile: Profile, hours: float) -> pd.DataFrame:
    """GB that a training needs on the disk. A checkpoint holds weights, their average and AdamW's two moments.

    Shipped weights and latents are float16.
    """
    sizes = weights_gb(profile)
    gb_per_channel = 2 * 3600 * hours * profile.sample_rate / 1e9  # 16 bits a sample, or a number of a latent
    latents = profile.dmae.encoder.latent_channels / profile.dmae.latent_stride
    rows = {"weights of both stages": (sizes["dmae"] + sizes["tcld"]) / 2}
    rows |= {f"{stage}: two checkpoints, best weights": 2 * (4 * sizes[stage]) + sizes[stage] for stage in STAGES}
    rows |= {f"{hours:,.0f} hours of FLAC": 2 * gb_per_channel * FLAC_SHARE, "their latents": latents * gb_per_channel}
    rows["all"] = sum(rows.values())
    return pd.DataFrame({"disk, GB": {name: f"{size:,.2f}" for name, size in rows.items()}})


def assumed(gpu: GPU, efficiency: float) -> str:
    """The assumptions behind the numbers, as text."""
    peak = ", ".join(f"{tflops:g} in {precision}" for precision, tflops in gpu.tflops.items())
    return f"""\
Memory is an estimate, not measured on such a GPU: {gpu.memory:g} GB, {KEPT_FREE:.0%} of them kept free (ours).
Activations are those of steps on this CPU; at the paper's size, of a quarter of the width, times four.
Gradients come while activations go, so the fullest moment of a step is less than "all".
Days assume {efficiency:.0%} of the peak TFLOP/s, {peak} (the share is ours), and count no validation.
By default torch computes float32 convolutions in tf32 and float32 products in float32: days lie between the two.
The paper's batch of 32 and 1,000,000 steps are recollection [M]; a week a stage on one A100 is from one source [B].
FLAC is taken to be {FLAC_SHARE:.0%} of 16-bit PCM (ours). While a checkpoint is written, there are three."""


if __name__ == "__main__":
    name, which, kept, precision = sys.argv[1:]
    print(json.dumps({"gb": measure(which, get_profile(name), kept == "checkpointing", precision == "auto")}))
