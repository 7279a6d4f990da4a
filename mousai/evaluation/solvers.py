"""Quality against calls: how few calls of the trained nets give what DDIM's hundred a stage give (ours).

Stage 1 makes clips of the test split from their own latents: log-mel error and Frechet distance to the originals.
Stage 2 makes clips from prompts, decoded by a few calls: Frechet distance to real music. All start from the same noise.

python -m mousai.evaluation.solvers cpu ddim 100 100 exact ""     seconds of one chunk, as JSON on the last line
"""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mousai.bench.efficiency import PROMPT, in_fresh_process, timed
from mousai.config import Profile
from mousai.diffusion import get_sampler
from mousai.evaluation.distance import distance_row, frechet_distance
from mousai.evaluation.judge import Judge
from mousai.evaluation.samples import evaluation_prompts, original_set, other_set
from mousai.evaluation.statistics import bootstrap
from mousai.inference.pipeline import Mousai
from mousai.inference.precision import Numerics
from mousai.progress import progress_bar
from mousai.shapes import Wave
from mousai.small.profiles import get_profile
from mousai.spectrogram import log_mel_l1

HEARD = 2**17  # samples of a clip, 2.73 s
BATCH = 8


class Solver(NamedTuple):
    """A sampler and its steps, which are calls of the net but for Heun's."""

    sampler: str
    steps: int

    def __str__(self) -> str:
        return f"{self.sampler} {self.steps}"


def stage_1(model: Mousai, judge: Judge, solvers: list[Solver]) -> dict[str, dict]:
    """A row for each solver and for the reference: `log_mel` and `distance` with intervals, `from_reference` (the
    distance between the two solvers' clips), and whether both are within the reference's interval.
    """
    clips, n = original_set(model.profile), model.profile.evaluation.solver_clips
    real = torch.stack([clips[i][:, :HEARD] for i in range(min(n, len(clips)))])
    place = next(model.dmae.parameters()).device
    z = torch.cat([model.dmae.encode(w[None].to(place)) for w in real])

    def make(solver: Solver) -> Wave:
        return decoded(model, z, solver)

    return rows(make, judge, [reference(model.profile), *solvers], real, real)


def stage_2(model: Mousai, judge: Judge, solvers: list[Solver], decoder: Solver) -> dict[str, dict]:
    """As `stage_1`, without a log-mel error: what a prompt asks for has no original. The guidance is the profile's."""
    profile, place = model.profile, next(model.dmae.parameters()).device
    n, others = profile.evaluation.solver_clips, other_set(profile)
    texts = [prompt.text for prompt in evaluation_prompts(profile, -(-n // 4))][:n]
    real = torch.stack([others[i][:, :HEARD] for i in range(len(others))])

    def make(solver: Solver) -> Wave:
        z = [
            model.latents(
                texts[i : i + BATCH], profile.tcld.crop, seeded(i), solver.steps, sampler=solver.sampler
            )  # a whole chunk: stage 2's nets are made for no other length
            for i in range(0, n, BATCH)
        ]
        return decoded(model, torch.cat(z)[..., : HEARD // profile.dmae.latent_stride].to(place), decoder)

    return rows(make, judge, [reference(profile), *solvers], real, None)


def reference(profile: Profile) -> Solver:
    """The paper's sampler with many steps."""
    return Solver("ddim", profile.evaluation.reference_steps)


def decoded(model: Mousai, z: Tensor, solver: Solver) -> Wave:
    """Those latents as sound."""
    batches = [
        model.dmae.decode(z[i : i + BATCH], solver.steps, seeded(i), sampler=get_sampler(solver.sampler)).cpu()
        for i in range(0, len(z), BATCH)
    ]
    return torch.cat(batches)


def seeded(i: int) -> torch.Generator:
    """The noise of the batch that begins at clip i."""
    return torch.Generator().manual_seed(i)


def rows(
    make: Callable[[Solver], Wave], judge: Judge, solvers: list[Solver], real: Wave, original: Wave | None
) -> dict[str, dict]:
    """What each solver makes, measured against real clips, and clip by clip against the original where there is one.

    The first is what the others are held against.
    """
    heard, found, seen = embedded(judge, real), {}, []
    for solver in progress_bar(solvers, "solvers"):
        w = make(solver)
        seen.append(embedded(judge, w))
        row = {"distance": distance_row(seen[-1], heard), "from_reference": frechet_distance(seen[-1], seen[0])}
        if original is not None:
            value, low, high = bootstrap(log_mel_l1(w, original).numpy())
            row["log_mel"] = {"value": value, "low": low, "high": high, "n": len(w)}
        found[str(solver)] = row
    first = found[str(solvers[0])]
    for row in found.values():
        row["equal"] = all(within(row[name], first[name]) for name in ("distance", "log_mel") if name in row)
    return found


def within(row: dict[str, float], reference: dict[str, float]) -> bool:
    """Whether the value is in the reference's interval."""
    return reference["low"] <= row["value"] <= reference["high"]


def embedded(judge: Judge, w: Wave) -> np.ndarray:
    """The judge's vectors of clips."""
    return torch.cat([judge.embed_audio(clip[None]) for clip in w]).cpu().numpy()


def fresh_chunk(
    profile: Profile, sampler: str, steps: tuple[int, int], numerics: str = "", device: str | None = None
) -> float:
    """`chunk_seconds` in a fresh process."""
    arguments = (profile.name, sampler, *map(str, steps), numerics, device or "")
    return in_fresh_process("mousai.evaluation.solvers", *arguments)["seconds"]


def chunk_seconds(
    profile: Profile, sampler: str, steps: tuple[int, int], numerics: Numerics | None, device: str | None
) -> float:
    """Seconds from a prompt to a chunk of sound, `steps` of stage 2 and of stage 1; loading and warm-up are not in."""
    model = Mousai.load(profile, device, numerics)
    make = partial(model.generate, [PROMPT], profile.tcld.crop / profile.sample_rate, sampler=sampler)
    make(tcld_steps=1, dmae_steps=1)
    return timed(lambda: make(tcld_steps=steps[0], dmae_steps=steps[1]))


if __name__ == "__main__":
    name, kind, n, k, how, place = sys.argv[1:]
    seconds = chunk_seconds(get_profile(name), kind, (int(n), int(k)), how or None, place or None)  # type: ignore
    print(json.dumps({"seconds": seconds}))
