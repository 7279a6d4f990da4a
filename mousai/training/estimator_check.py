"""`mousai plan --check`: what is reckoned of a training step's memory, beside what real steps take on this CPU.

python -m mousai.training.estimator_check 3        two steps of `CHECKS[3]` in this process, their peak in GB as JSON
"""

import gc
import json
import sys
from contextlib import suppress
from dataclasses import replace

import psutil
import torch

from mousai.bench.efficiency import in_fresh_process, resident_peak_gb
from mousai.bench.model_scales import sized
from mousai.bench.paper_size import build
from mousai.config import Profile
from mousai.inference.precision import chosen
from mousai.small.profiles import A100, CPU, SMOKE
from mousai.train import fit
from mousai.training.estimator import reckon
from mousai.training.optimizer import EIGHT_BIT, optimizer_class
from mousai.training.plan import trained, training
from mousai.training.setup import switches

WITHIN = 0.15  # of the measured memory, in all configurations
# What malloc would keep for later goes back at once, so that memory is what is in use.
MALLOC = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def quarter() -> Profile:
    """The paper's architecture, a quarter as wide."""
    dmae, tcld, _ = sized("cpu")
    return replace(A100, name="a quarter of a100", dmae=dmae, tcld=tcld)


def warm(profile: Profile) -> Profile:
    """The profile after its warm start, where all is trained that ever is."""
    return replace(profile, dmae=replace(profile.dmae, encoder_pretrain_steps=0))


CHECKS = [
    ("dmae", trained(quarter(), batch=2)),
    ("dmae", trained(quarter(), batch=4, checkpointing=True)),
    ("dmae", trained(warm(CPU), batch=8, precision="float32")),
    ("tcld", trained(quarter(), batch=4)),
    ("tcld", trained(quarter(), batch=4, checkpointing=True)),
    ("tcld", trained(CPU, batch=8, precision="float32")),
    ("tcld", trained(CPU, batch=16, precision="auto")),
    ("tcld", trained(quarter(), batch=2, optimizer=EIGHT_BIT)),
]


def compare(number: int) -> dict[str, float]:
    """GB of one of `CHECKS`, reckoned here and measured in a process of its own; and their ratio."""
    stage, profile = CHECKS[number]
    config, here = training(profile, stage), torch.device("cpu")
    bfloat16 = chosen(config.precision, here) == torch.bfloat16
    reckoned = reckon(stage, profile, config.batch, bfloat16, gpu=False).memory / 1e9
    measured = in_fresh_process("mousai.training.estimator_check", str(number), settings=MALLOC)["gb"]
    return {"measured GB": measured, "reckoned GB": reckoned, "ratio": reckoned / measured}


def measure(number: int) -> float:
    """GB that two real steps add at their peak to what this process has after others, so that all is loaded."""
    train("tcld", trained(SMOKE, batch=1, optimizer=training(CHECKS[number][1], "tcld").optimizer))
    gc.collect()
    before = psutil.Process().memory_info().rss / 1e9
    train(*CHECKS[number])
    return resident_peak_gb() - before


def train(stage: str, profile: Profile) -> None:
    """Two steps of the training loop: in the second the optimizer has its memory from the first on."""
    torch.manual_seed(0)
    config = training(profile, stage)
    model, item, _, _ = build(stage, profile, config.batch)
    fit(model, lambda _: item, config, 2, device=torch.device("cpu"))


def named(number: int) -> str:
    """ "tcld of cpu, batch 16, --checkpointing"."""
    stage, profile = CHECKS[number]
    config = training(profile, stage)
    kind = chosen(config.precision, torch.device("cpu"))
    words = [f"{stage} of {profile.name}", f"batch {config.batch}", str(kind).removeprefix("torch.")]
    return ", ".join([*words, *switches(config).split(" --")[1:]])


def possible() -> list[int]:
    """Which of `CHECKS` can run: those whose optimizer is installed."""
    able = []
    for number, (stage, profile) in enumerate(CHECKS):
        with suppress(ImportError):
            optimizer_class(training(profile, stage).optimizer)
            able.append(number)
    return able


def show() -> bool:
    """Print a row for each configuration as it is measured; whether all are within `WITHIN`."""
    print("| configuration | measured GB | reckoned GB | ratio |\n|---|---|---|---|")
    ratios = []
    for number in possible():
        measured, reckoned, ratio = compare(number).values()
        ratios.append(ratio)
        print(f"| {named(number)} | {measured:.3f} | {reckoned:.3f} | {ratio:.2f} |", flush=True)
    missing = f"; {len(CHECKS) - len(ratios)} more want bitsandbytes" if len(ratios) < len(CHECKS) else ""
    print(f"{len(ratios)} configurations, each to be within {WITHIN:.0%}{missing}")
    return max(abs(ratio - 1) for ratio in ratios) <= WITHIN


if __name__ == "__main__":
    print(json.dumps({"gb": measure(int(sys.argv[1]))}))
