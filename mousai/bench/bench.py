"""`mousai bench`: time ours and the authors' packages in one run, interleaved, with the same weights, steps and noise.

Their results are compared, so that a ratio is of two ways to one result. The architecture is the paper's; smaller sizes
have a quarter or a sixteenth of its width. No text encoder is timed.

python -m mousai.bench.bench smoke exact tcld        one call in a process of its own, its peak memory as JSON
python -m mousai.bench.bench smoke 3                 all of it, 3 repeats, as JSON
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mousai.bench.efficiency import (
    PAPER_SECONDS,
    in_fresh_process,
    machine_peak,
    quartiles,
    resident_peak_gb,
    timed,
)
from mousai.bench.model_scales import inputs, seeded, sized
from mousai.bench.riffusion import filled, fresh_riffusion
from mousai.config import A100
from mousai.dmae import DMAE
from mousai.files import write_text
from mousai.inference.long import Run, sample_latents
from mousai.inference.pipeline import optimize_for_cpu
from mousai.inference.samplers import Guidance
from mousai.inference.windows import window_starts
from mousai.progress import progress_bar
from mousai.tcld import TCLD

REPEATS = 5
SCALE = 5.0
STEPS = {"tcld": 4, "dmae": 4, "prompt_to_wave": 2}  # sampler steps of a call; with more, fixed costs weigh less
AUTHORS, EXACT, FAST = "authors", "exact", "fast"  # theirs; ours in float32; ours in whatever precision is faster here
SAME = ("tcld", "dmae")  # parts with equal results; in prompt_to_wave ours decodes in windows, theirs in one pass

Calls = dict[str, Callable[[], Tensor]]


def bench(size: str, repeats: int = REPEATS, against: str = AUTHORS) -> dict[str, Any]:
    """Measure all parts: {settings, machine, "rows": a row for each part, "metrics": metric id -> value}.

    size: one of `NARROWER`. repeats: timed calls of each. against: "authors", or also Riffusion. Raises ImportError,
    with the mend, where the authors' packages are not installed.
    """
    sides = every_side(size)
    parts = list(sides[AUTHORS])
    progress = progress_bar(name=f"bench {size}", total=len(parts) * (repeats + 1), show=True)
    rows = []
    for part in parts:
        ways = {way: calls[part] for way, calls in sides.items() if part in calls}
        rows.append(measure(part, ways, repeats, progress.update))
    del sides, ways
    for row in rows:
        row["memory_gb"] = {way: fresh_memory(size, way, row["part"]) for way in row["seconds"]}
        progress.update()
    progress.close()
    peak = quartiles([row["peak_gflop_s"] for row in rows])[1]
    machine = {"threads": torch.get_num_threads(), "peak_gflop_s": peak, "torch": torch.__version__}
    settings = {"size": size, "steps": STEPS, "guidance": SCALE, "repeats": repeats}
    result = {**settings, **machine, "rows": rows, "metrics": metrics(rows)}
    return result | (beside_riffusion(result) if "riffusion" in against else {})


def metrics(rows: list[dict]) -> dict[str, float]:
    """Metric id, as the report's thresholds name it -> value: median ratios, and the smaller share of peak."""
    by_part = {row["part"]: row for row in rows}
    found = {}
    for name in STEPS:
        found[f"bench.{name}.exact_ratio"] = by_part[name]["exact_ratio"][1]
        found[f"bench.{name}.fast_ratio"] = by_part[name]["fast_ratio"][1]
    found["bench.train_step.ratio"] = by_part["train_step"]["exact_ratio"][1]
    return found | {"bench.peak_share": min(by_part[name]["peak_share"] for name in SAME)}


def measure(part: str, ways: Calls, repeats: int, tick: Callable[[], Any]) -> dict[str, Any]:
    """The row of one part, from a call of each way to warm up and `repeats` interleaved, timed calls.

    Ratios are of calls that follow each other. The machine's peak is measured before each round, because other load, or
    heat, slows both. ways: way -> call. tick: called after each round.
    """
    with FlopCounterMode(display=False) as counter:
        expected = ways[AUTHORS]()
    made = {way: ways[way]() for way in ways if way != AUTHORS}
    apart = {way: (wave - expected).abs().max().item() for way, wave in made.items()} if part in SAME else {}
    seconds = {way: [] for way in ways}
    peaks = []
    for _ in range(repeats):
        peaks.append(machine_peak())
        for way, call in ways.items():
            seconds[way].append(timed(call))
        tick()
    middle = {way: quartiles(times)[1] for way, times in seconds.items()}
    gflop = counter.get_total_flops() / 1e9
    shares = [gflop / took / peak for took, peak in zip(seconds[EXACT], peaks, strict=True)]
    row = {"part": part, "gflop": gflop, "seconds": middle, "peak_share": quartiles(shares)[1]}
    row["peak_gflop_s"] = quartiles(peaks)[1]
    for way in (EXACT, FAST):
        pairs = zip(seconds.get(way, []), seconds[AUTHORS], strict=False)
        row[f"{way}_ratio"] = quartiles([theirs / ours for ours, theirs in pairs]) if way in ways else None
        row[f"{way}_difference"] = apart.get(way)
    return row


def every_side(size: str) -> dict[str, Calls]:
    """Way -> part -> call, all with one set of weights, the random ones of the authors' nets."""
    from mousai.interop.authors import dmae_from_authors, tcld_from_authors

    torch.manual_seed(0)
    theirs = authors_nets(size)
    first, second = theirs[0].state_dict(), theirs[1].state_dict()
    states = dmae_from_authors(first, sized(size)[0]), tcld_from_authors(second, sized(size)[1])
    sides = {AUTHORS: authors_calls(size, *theirs)}
    for way in (EXACT, FAST):
        ours = our_nets(size)
        for net, state in zip(ours, states, strict=True):
            net.load_state_dict(state, assign=True)  # shares memory, because five copies may not fit
        sides[way] = our_calls(size, way, *ours)
    return sides


def authors_nets(size: str) -> tuple[nn.Module, nn.Module]:
    """The authors' (stage 1, stage 2). Raises ImportError, with the mend, where their packages are not installed."""
    try:
        from mousai.bench.authors import authors_dmae, authors_tcld
    except ImportError as error:
        raise ImportError("the authors' packages are missing: pip install -e '.[dev]'") from error
    dmae, tcld, _ = sized(size)
    return authors_dmae(dmae).eval(), authors_tcld(tcld).eval()


def our_nets(size: str) -> tuple[DMAE, TCLD]:
    """Our (stage 1, stage 2)."""
    dmae, tcld, latent = sized(size)
    return DMAE(dmae).eval(), TCLD(tcld, latent).eval()


def authors_calls(size: str, dmae: Any, tcld: Any) -> Calls:
    """Part -> call, as the authors' packages do it."""
    words, z, w, eps = inputs(size)

    @torch.no_grad()
    def latents(steps: int) -> Tensor:
        return tcld.sample(eps, num_steps=steps, embedding=words, embedding_scale=SCALE).tanh()

    @torch.no_grad()
    def wave(z: Tensor, steps: int) -> Tensor:
        return dmae.decode(z, num_steps=steps, generator=seeded())

    return parts(latents, wave, z) | {"train_step": train_step(dmae, lambda: dmae(w))}


def our_calls(size: str, way: str, dmae: DMAE, tcld: TCLD) -> Calls:
    """Part -> call, as we do it; the training step only in float32, on weights that are not optimized for sampling."""
    trained = {"train_step": our_step(size, dmae)} if way == EXACT else {}
    return sampling_calls(size, *optimized(way, dmae, tcld)) | trained


def optimized(way: str, dmae: DMAE, tcld: TCLD) -> tuple[DMAE, TCLD]:
    """Copies of both stages, optimized for sampling in the precision of `way`."""
    precision = "float32" if way == EXACT else "fast"
    return optimize_for_cpu(dmae, precision), optimize_for_cpu(tcld, precision)


def our_step(size: str, dmae: DMAE) -> Callable[[], Tensor]:
    """A training step of our stage 1."""
    w = inputs(size)[2]
    return train_step(dmae, lambda: dmae(w, seeded()))


def sampling_calls(size: str, dmae: DMAE, tcld: TCLD) -> Calls:
    """Part -> call for the parts that sample, with nets that are optimized for it."""
    words, z, _, eps = inputs(size)

    def latents(steps: int) -> Tensor:
        run = Run(steps, guidance=Guidance(SCALE))
        return sample_latents(tcld, words, eps.shape[-1], run, seeded()).tanh()

    return parts(latents, lambda z, steps: dmae.decode(z, steps, seeded()), z)


def parts(latents: Callable[[int], Tensor], wave: Callable[[Tensor, int], Tensor], z: Tensor) -> Calls:
    """Part -> call: stage 2, stage 1, and both in sequence. latents, wave: as in `our_calls`; z: for stage 1 alone."""
    n, k, both = STEPS.values()
    return {
        "tcld": lambda: latents(n),
        "dmae": lambda: wave(z, k),
        "prompt_to_wave": lambda: wave(latents(both), both),
    }


def train_step(model: nn.Module, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A function that does one training step on one crop: loss, backward, AdamW with the paper's settings."""
    made: list[torch.optim.Optimizer] = []

    def step() -> Tensor:
        if not made:  # made late, because its two moments would count in the memory of sampling
            made.append(torch.optim.AdamW(model.parameters(), 1e-4, (0.95, 0.999), 1e-6, 1e-3))
        value = loss()
        value.backward()
        made[0].step()
        made[0].zero_grad(set_to_none=True)
        return value.detach()

    return step


def fresh_memory(size: str, way: str, part: str) -> float:
    """Peak resident memory in GB of one call of that part, in a process that holds nothing else."""
    return in_fresh_process("mousai.bench.bench", size, way, part)["memory_gb"]


def one_call(size: str, way: str, part: str) -> dict[str, float]:
    """Call one part once, in this process: {"memory_gb": peak resident memory}."""
    with torch.device("meta"):  # because the usual initialization of a billion weights takes half a minute
        nets = authors_nets(size) if way == AUTHORS else our_nets(size)
    dmae, tcld = (cast(Any, filled(net)) for net in nets)
    if way == AUTHORS:
        call = authors_calls(size, dmae, tcld)[part]
    elif part == "train_step":
        call = our_step(size, dmae)
    else:
        call = sampling_calls(size, *optimized(way, dmae, tcld))[part]
    call()
    return {"memory_gb": resident_peak_gb()}


def beside_riffusion(result: dict[str, Any]) -> dict[str, Any]:
    """Seconds of work for a second of music, Riffusion's, ours, and their ratio, as in Table 3.

    Ours is computed from the timed calls, for the paper's steps. The comparison is fair only at size `a100`.
    """
    call = {row["part"]: row["seconds"][EXACT] / STEPS[row["part"]] for row in result["rows"] if row["part"] in SAME}
    crop = sized(result["size"])[0].crop
    settings = A100.sampling
    windows = len(window_starts(A100.tcld.crop, crop, 3 * crop // 4))
    ours = (settings.tcld_steps * call["tcld"] + windows * settings.dmae_steps * call["dmae"]) / PAPER_SECONDS
    theirs = fresh_riffusion(PAPER_SECONDS)["time_per_audio"]
    return {"riffusion": {"time_per_audio": theirs, "ours": ours, "ratio": theirs / ours}}


def show(result: dict[str, Any], out: Path | None = None) -> None:
    """Print the table and its settings; write the whole result as JSON to `out`."""
    print(table(result).to_markdown())
    print(f"{result['threads']} threads, peak {result['peak_gflop_s']:.0f} GFLOP/s in float32; steps {result['steps']}")
    if "riffusion" in result:
        print(f"seconds for a second of music, Riffusion's, ours at 100 steps a stage: {result['riffusion']}")
    if out is not None:
        write_text(json.dumps(result, indent=1) + "\n", out)


def table(result: dict[str, Any]) -> pd.DataFrame:
    """The result as a table for people, one line a part."""
    lines = []
    for row in result["rows"]:
        line = {
            "part": row["part"],
            "GFLOP": round(row["gflop"], 1),
            "authors s": round(row["seconds"][AUTHORS], 3),
            "ours s": round(row["seconds"][EXACT], 3),
            "exact [quartiles]": ratio(row["exact_ratio"]),
            "fast [quartiles]": ratio(row["fast_ratio"]),
            "difference": "" if row["exact_difference"] is None else f"{row['exact_difference']:.1e}",
            "share of peak": f"{100 * row['peak_share']:.0f} %",
            "GB": ", ".join(f"{way} {gb:.1f}" for way, gb in row["memory_gb"].items()),
        }
        lines.append(line)
    return pd.DataFrame(lines).set_index("part")


def ratio(quartiles: tuple[float, float, float] | None) -> str:
    """ "1.31 [1.30, 1.33]": how many times as long theirs takes, median and quartiles."""
    return "" if quartiles is None else "{1:.2f} [{0:.2f}, {2:.2f}]".format(*quartiles)


def fresh_bench(size: str, repeats: int) -> dict[str, Any]:
    """`bench` in a fresh process, so that its memory is freed afterwards."""
    return in_fresh_process("mousai.bench.bench", size, str(repeats))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        print(json.dumps(bench(sys.argv[1], int(sys.argv[2]))))
    else:
        print(json.dumps(one_call(*sys.argv[1:])))
