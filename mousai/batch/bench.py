"""`mousai bench`: ours and the authors' packages in one run, turn about, same weights, same steps, same noise.

Both run in this process on as many threads; what they give is compared, so that a ratio is of two ways to one result.
The architecture is the paper's; smaller sizes have a quarter or a sixteenth of its width. No text encoder is timed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from mousai.batch.report import write_json
from mousai.diffusion import gaussian_like
from mousai.dmae import DMAE
from mousai.evaluation.efficiency import now, quartiles
from mousai.precision import autocast
from mousai.profiles import A100, DMAEConfig, TCLDConfig, UNetConfig
from mousai.progress import progress_bar
from mousai.tcld import TCLD

NARROWER = {"a100": 1, "cpu": 4, "smoke": 16}
REPEATS, SCALE = 5, 5.0
STEPS = {"tcld": 4, "dmae": 4, "prompt_to_wave": 2}  # weights are cast to bfloat16 once a call, however many steps
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Part:
    """One job done both ways; `equal` where both should give the same tensor, else why they do not."""

    name: str
    ours: Callable[[], Tensor]
    theirs: Callable[[], Tensor]
    fast: Callable[[], Tensor] | None = None
    equal: bool = True


def bench(size: str, repeats: int = REPEATS) -> dict[str, Any]:
    """All parts: rows of the table, the machine's peak, and the metric ids of what was measured.

    Raises ImportError, with the mend, where the authors' packages are not installed.
    """
    parts, peak = build_parts(size), machine_peak()
    bar = progress_bar(name=f"bench {size}", total=len(parts) * repeats, show=True)
    rows = [measure(part, repeats, peak, bar.update) for part in parts]
    bar.close()
    by_part, metrics = {row["part"]: row for row in rows}, {}
    for name in ("tcld", "dmae", "prompt_to_wave"):
        metrics[f"bench.{name}.exact_ratio"] = by_part[name]["exact_ratio"][1]
        metrics[f"bench.{name}.fast_ratio"] = by_part[name]["fast_ratio"][1]
    metrics["bench.train_step.ratio"] = by_part["train_step"]["exact_ratio"][1]
    metrics["bench.peak_share"] = min(by_part[name]["peak_share"] for name in ("tcld", "dmae"))
    machine = {"threads": torch.get_num_threads(), "peak_gflop_s": peak, "torch": torch.__version__}
    settings = {"size": size, "steps": STEPS, "guidance": SCALE, "repeats": repeats}
    return {**settings, **machine, "rows": rows, "metrics": metrics}


def measure(part: Part, repeats: int, peak: float, tick: Callable[[], Any]) -> dict[str, Any]:
    """One part: a call of each to warm up, then turn about; ratios are of neighbours in time, then their quartiles."""
    with FlopCounterMode(display=False) as counter:
        expected = part.theirs()
    gflop, ways = counter.get_total_flops() / 1e9, {"exact": part.ours, "theirs": part.theirs}
    difference = (part.ours() - expected).abs().max().item() if part.equal else None
    if part.fast is not None:
        ways["fast"] = part.fast
        fast_difference = (part.fast() - expected).abs().max().item() if part.equal else None
    seconds = {way: [] for way in ways}
    for _ in range(repeats):
        for way, call in ways.items():
            seconds[way].append(timed(call))
        tick()
    middle = {way: quartiles(times)[1] for way, times in seconds.items()}
    ratio = lambda way: quartiles([b / a for a, b in zip(seconds[way], seconds["theirs"], strict=True)])  # noqa: E731
    return {
        "part": part.name,
        "gflop": gflop,
        "seconds": middle,
        "exact_ratio": ratio("exact"),
        "fast_ratio": ratio("fast") if part.fast else None,
        "difference": difference,
        "fast_difference": fast_difference if part.fast else None,
        "peak_share": gflop / middle["exact"] / peak,
    }


def timed(call: Callable[[], Tensor]) -> float:
    """Seconds of a call."""
    started = now()
    call()
    return now() - started


def machine_peak(n: int = 2048) -> float:
    """GFLOP/s of this machine in float32: the better of a large matrix product and a large convolution."""
    a, b, x, w = torch.randn(n, n), torch.randn(n, n), torch.randn(1, 512, 8192), torch.randn(512, 512, 3)
    work = {lambda: a @ b: 2 * n**3, lambda: F.conv1d(x, w, padding=1): 2 * 512 * 512 * 3 * 8192}
    speeds = []
    with torch.no_grad():
        for call, flop in work.items():
            call()
            for _ in range(5):
                started = time.perf_counter()
                call()
                speeds.append(flop / 1e9 / (time.perf_counter() - started))
    return max(speeds)


def build_parts(size: str) -> list[Part]:
    """Both stages in both libraries, the authors' random weights in ours."""
    try:
        from mousai.batch.authors import authors_dmae, authors_tcld
    except ImportError as error:
        raise ImportError("the authors' packages are missing: pip install -e '.[dev]'") from error
    from mousai.interop import dmae_from_authors, tcld_from_authors

    torch.manual_seed(0)
    dmae_config, tcld_config, latent = sized(size)
    their_dmae, their_tcld = authors_dmae(dmae_config).eval(), authors_tcld(tcld_config).eval()
    dmae, tcld = DMAE(dmae_config).eval(), TCLD(tcld_config, window=latent).eval()
    dmae.load_state_dict(dmae_from_authors(their_dmae.state_dict(), dmae_config))
    tcld.load_state_dict(tcld_from_authors(their_tcld.state_dict(), tcld_config))
    quick = DMAE(replace(dmae_config, precision="auto")).eval()
    quick.load_state_dict(dmae.state_dict(), assign=True)
    words = torch.randn(1, tcld_config.text.tokens, tcld_config.text.features)
    z = torch.randn(1, 32, dmae_config.crop // dmae_config.latent_stride).tanh()
    shape = torch.empty(1, 32, latent)

    def latents(steps: int, precision: str = "float32") -> Tensor:
        with autocast(precision, CPU):
            return tcld.sample(words, latent, steps, SCALE, seeded()).tanh()

    @torch.no_grad()
    def their_latents(steps: int) -> Tensor:
        eps = gaussian_like(shape, seeded())
        return their_tcld.sample(eps, num_steps=steps, embedding=words, embedding_scale=SCALE).tanh()

    def wave(model: DMAE, z: Tensor, steps: int) -> Tensor:
        return model.decode(z, steps, seeded())

    @torch.no_grad()
    def their_wave(z: Tensor, steps: int) -> Tensor:
        return their_dmae.decode(z, num_steps=steps, generator=seeded())

    w = 0.1 * torch.randn(1, 2, dmae_config.crop)

    n, k, both = (STEPS[name] for name in ("tcld", "dmae", "prompt_to_wave"))
    whole = Part(
        "prompt_to_wave",
        lambda: wave(dmae, latents(both), both),
        lambda: their_wave(their_latents(both), both),
        lambda: wave(quick, latents(both, "auto"), both),
        equal=False,  # ours blends windows of the training crop, theirs is one long call
    )
    step = train_step(dmae, lambda: dmae(w, seeded()))
    return [
        Part("tcld", lambda: latents(n), lambda: their_latents(n), lambda: latents(n, "auto")),
        Part("dmae", lambda: wave(dmae, z, k), lambda: their_wave(z, k), lambda: wave(quick, z, k)),
        whole,
        Part("train_step", step, train_step(their_dmae, lambda: their_dmae(w)), equal=False),
    ]


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def train_step(model: torch.nn.Module, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Loss, backward, AdamW with the paper's settings, on one crop."""
    made: list[torch.optim.Optimizer] = []

    def step() -> Tensor:
        if not made:  # its two moments are memory that sampling need not carry
            made.append(torch.optim.AdamW(model.parameters(), 1e-4, (0.95, 0.999), 1e-6, 1e-3))
        value = loss()
        value.backward()
        made[0].step()
        made[0].zero_grad(set_to_none=True)
        return value.detach()

    return step


def sized(size: str) -> tuple[DMAEConfig, TCLDConfig, int]:
    """The paper's stages at that width, and the latent length of stage 2: 43.7 s but in `smoke`.

    Raises ValueError for another size.
    """
    if size not in NARROWER:
        raise ValueError(f"unknown size {size!r}: choose one of {', '.join(NARROWER)}")
    by, small = NARROWER[size], size == "smoke"
    encoder = replace(A100.dmae.encoder, channels=A100.dmae.encoder.channels // by)
    crop = 2**16 if small else A100.dmae.crop
    dmae = replace(A100.dmae, unet=narrower(A100.dmae.unet, by), encoder=encoder, crop=crop)
    latent = A100.tcld.crop // A100.dmae.latent_stride
    return dmae, replace(A100.tcld, unet=narrower(A100.tcld.unet, by)), 128 if small else latent


def narrower(config: UNetConfig, by: int) -> UNetConfig:
    """All widths divided; at least one head."""
    channels, heads = tuple(width // by for width in config.channels), max(1, config.heads // by)
    return replace(config, channels=channels, heads=heads, features=config.features // by)


def show(result: dict[str, Any], out: Path | None = None) -> None:
    """Print the table and what it was measured with; write all of it to `out`."""
    print(table(result).to_markdown())
    print(f"{result['threads']} threads, peak {result['peak_gflop_s']:.0f} GFLOP/s in float32; steps {result['steps']}")
    if out is not None:
        write_json(result, out)


def table(result: dict[str, Any]) -> pd.DataFrame:
    """What a person reads: one line a part."""
    lines = []
    for row in result["rows"]:
        low, middle, high = row["exact_ratio"]
        line = {
            "part": row["part"],
            "GFLOP": round(row["gflop"], 1),
            "authors s": round(row["seconds"]["theirs"], 3),
            "ours s": round(row["seconds"]["exact"], 3),
            "ratio [quartiles]": f"{middle:.2f} [{low:.2f}, {high:.2f}]",
            "bfloat16": f"{row['fast_ratio'][1]:.2f}" if row["fast_ratio"] else "",
            "difference": "" if row["difference"] is None else f"{row['difference']:.1e}",
            "share of peak": f"{100 * row['peak_share']:.0f} %",
        }
        lines.append(line)
    return pd.DataFrame(lines).set_index("part")
