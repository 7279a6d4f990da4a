"""Measure the paper's size: sampling steps and one training step of a stage, on one item, in float32 on the CPU.

python -m mousai.bench.paper_size tcld        one stage in this process; JSON on the last line
"""

import json
import sys
import zlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from mousai.bench.efficiency import (
    PAPER_SECONDS,
    in_fresh_process,
    per_call_row,
    resident_peak_gb,
    timed_calls,
)
from mousai.config import Profile, TrainConfig
from mousai.inference.windows import window_starts
from mousai.small.profiles import get_profile
from mousai.small.stages import new_dmae, new_tcld
from mousai.training.loop import fit
from mousai.unet import count_parameters

STAGES = ("dmae", "tcld")


def fresh_steps(stage: str, name: str = "a100") -> dict:
    """`paper_size_steps` in a fresh process, so that the peak memory is its own."""
    return in_fresh_process("mousai.bench.paper_size", stage, name)


def paper_size_steps(stage: str, profile: Profile, seed: int = 0) -> dict:
    """Seconds, peak memory in GB, and which parameters a training step moves; random weights, one item, no T5.

    First DDIM steps, guided in stage 2: one to warm up, then `TIMED`, whose median is `sample_seconds`. Then one step
    of the training loop, without warm-up: loss, backward, AdamW. The memory includes the EMA's copy; the seconds do
    not include its update. Raises ValueError for an unknown stage.
    """
    torch.manual_seed(seed)
    model, item, denoise, config = build(stage, profile)
    sound, seconds = timed_calls(lambda: denoise(torch.Generator().manual_seed(seed)))
    sample_memory = resident_peak_gb()
    gradients = watch_gradients(model)
    before = digests(model)
    _, history = fit(model, lambda _: item, config, 1, seed, device=torch.device("cpu"))
    after = digests(model)
    return {
        "stage": stage,
        "profile": profile.name,
        "parameters": count_parameters(model),
        "items": 1,
        "item_shapes": [list(tensor.shape) for tensor in item],
        "sample_shape": list(sound.shape),
        "sample_finite": bool(sound.isfinite().all()),
        "sample_seconds": seconds[1],
        "sample_quartiles": seconds[::2],
        "sample_memory_gb": sample_memory,
        "loss": float(history["loss"].iloc[0]),
        "train_seconds": float(history["seconds"].iloc[0]),
        "memory_gb": resident_peak_gb(),
        "no_finite_gradient": [name for name in before if gradients.get(name) not in ("finite", "zero")],
        "zero_gradient": [name for name, gradient in gradients.items() if gradient == "zero"],
        "not_moved": [name for name in before if before[name] == after[name]],
        "ema": True,
        "precision": str(next(model.parameters()).dtype).removeprefix("torch."),
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }


def paper_size_row(runs: dict[str, dict], profile: Profile, seconds: float = PAPER_SECONDS) -> dict:
    """The row of Table 3 at that size, computed from `paper_size_steps` of both stages, without the text encoder.

    runs: stage -> its result. Both networks are in memory at once, so their peaks are added; the sum is a little too
    large, because each peak includes Python and torch.
    """
    steps = (profile.sampling.dmae_steps, profile.sampling.tcld_steps)
    length = round(seconds * profile.sample_rate)
    windows = [len(window_starts(length, crop, 3 * crop // 4)) for crop in (profile.dmae.crop, profile.tcld.crop)]
    calls = {stage: n * k for stage, n, k in zip(STAGES, windows, steps, strict=True)}
    timed = {}
    for stage in STAGES:
        first, third = runs[stage]["sample_quartiles"]
        timed[stage] = (first, runs[stage]["sample_seconds"], third)
    memory = sum(runs[stage]["sample_memory_gb"] for stage in STAGES)
    return {
        **per_call_row("paper_size", "random weights", calls, timed, seconds, memory),
        "steps": [profile.sampling.tcld_steps, profile.sampling.dmae_steps],
        "guidance": profile.sampling.guidance,
        **{key: runs["tcld"][key] for key in ("precision", "threads", "device")},
    }


def build(
    stage: str, profile: Profile, items: int = 1
) -> tuple[nn.Module, tuple[Tensor, ...], Callable[[torch.Generator], Tensor], TrainConfig]:
    """(model, a batch of `items` random inputs for its loss, a function that does one DDIM step on one item of noise,
    the settings of its training). Raises ValueError for an unknown stage.
    """
    config = profile.dmae
    latent_channels = profile.dmae.encoder.latent_channels
    if stage == "dmae":
        model = new_dmae(config)
        w = 0.1 * torch.randn(items, 2, config.crop)
        z = torch.randn(1, latent_channels, config.crop // config.latent_stride).tanh()
        return model, (w,), lambda generator: model.decode(z, 1, generator), profile.dmae_train
    if stage == "tcld":
        model = new_tcld(profile)
        text = profile.tcld.text
        scale = profile.sampling.guidance
        z = torch.randn(items, latent_channels, model.window).tanh()
        words = torch.randn(items, text.tokens, text.features)
        sample = lambda generator: model.sample(words[:1], model.window, 1, scale, generator)  # noqa: E731
        return model, (z, words), sample, profile.tcld_train
    raise ValueError(f"unknown stage {stage!r}: choose one of {', '.join(STAGES)}")


def watch_gradients(model: nn.Module) -> dict[str, str]:
    """Parameter -> "finite", "zero" or "not finite", for each one with a gradient; the next backward fills it.

    Hooks look at each gradient at once, because the training loop frees gradients before it returns.
    """
    seen: dict[str, str] = {}

    def look(name: str, gradient: Tensor) -> None:
        seen[name] = "not finite" if not gradient.isfinite().all() else "finite" if gradient.any() else "zero"

    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: look(name, p.grad))
    return seen


def digests(model: nn.Module) -> dict[str, int]:
    """A checksum of each parameter, because copies to compare with would count in the peak memory."""
    return {name: zlib.crc32(parameter.detach().numpy()) for name, parameter in model.named_parameters()}  # type: ignore


if __name__ == "__main__":
    which, size = [*sys.argv[1:], "a100"][:2]
    print(json.dumps(paper_size_steps(which, get_profile(size))))
