"""Quality against network evaluations: how few give what DDIM with a hundred a stage gives (ours).

Stage 1 decodes clips of the test split from their own latents: log-mel error and Fréchet distance to the originals.
Stage 2 generates clips from prompts, decoded in a few steps: Fréchet distance to real music. All start from the same
noise.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mousai.config import Profile
from mousai.data.dataset import Workspace
from mousai.evaluation.distance import distance_row, frechet_distance
from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.real import original_set, other_set
from mousai.evaluation.samples import evaluation_prompts
from mousai.evaluation.statistics import bootstrap
from mousai.inference.long import Run, decode
from mousai.inference.pipeline import Mousai
from mousai.progress import progress_bar
from mousai.shapes import Wave
from mousai.spectrogram import log_mel_l1

EXCERPT = 2**17  # samples of a clip, 2.73 s
BATCH = 8


class Solver(NamedTuple):
    """A sampler and its steps; a step is one network evaluation, two for Heun."""

    sampler: str
    steps: int

    def __str__(self) -> str:
        return f"{self.sampler} {self.steps}"


def stage_1(work: Workspace, model: Mousai, embedding: InDomain, solvers: list[Solver]) -> dict[str, dict]:
    """A row for each solver and for the reference: `log_mel` and `distance` with intervals, `from_reference` (the
    distance between the two solvers' clips), and whether both are within the reference's interval.
    """
    clips = original_set(work)
    n = work.profile.evaluation.solver_clips
    real = torch.stack([clips[i][:, :EXCERPT] for i in range(min(n, len(clips)))])
    place = next(model.dmae.parameters()).device
    z = torch.cat([model.dmae.encode(w[None].to(place)) for w in real])

    def make(solver: Solver) -> Wave:
        return decoded(model, z, solver)

    return rows(make, embedding, [reference(work.profile), *solvers], real, real)


def stage_2(
    work: Workspace, model: Mousai, embedding: InDomain, solvers: list[Solver], decoder: Solver
) -> dict[str, dict]:
    """As `stage_1`, without a log-mel error: what a prompt asks for has no original. The guidance is the profile's."""
    profile = work.profile
    place = next(model.dmae.parameters()).device
    n = profile.evaluation.solver_clips
    others = other_set(work)
    genres = max(1, len(work.data.genres))
    texts = [prompt.text for prompt in evaluation_prompts(work, -(-n // genres))][:n]
    real = torch.stack([others[i][:, :EXCERPT] for i in range(len(others))])

    def make(solver: Solver) -> Wave:
        z = [
            model.latents(  # a whole chunk: stage 2's nets are made for no other length
                texts[i : i + BATCH],
                profile.tcld.crop,
                [seeded(j) for j in range(i, min(i + BATCH, n))],
                model.sampling(tcld_steps=solver.steps, sampler=solver.sampler),
            )
            for i in range(0, n, BATCH)
        ]
        return decoded(model, torch.cat(z)[..., : EXCERPT // profile.dmae.latent_stride].to(place), decoder)

    return rows(make, embedding, [reference(profile), *solvers], real, None)


def reference(profile: Profile) -> Solver:
    """The paper's sampler with many steps."""
    return Solver("ddim", profile.evaluation.reference_steps)


def decoded(model: Mousai, z: Tensor, solver: Solver) -> Wave:
    """Those latents as sound."""
    batches = [
        decode(model.dmae, z[i : i + BATCH], Run(solver.steps, solver.sampler), seeded(i)).cpu()
        for i in range(0, len(z), BATCH)
    ]
    return torch.cat(batches)


def seeded(i: int) -> torch.Generator:
    """The noise of the batch that begins at clip i."""
    return torch.Generator().manual_seed(i)


def rows(
    make: Callable[[Solver], Wave], embedding: InDomain, solvers: list[Solver], real: Wave, original: Wave | None
) -> dict[str, dict]:
    """What each solver makes, measured against real clips, and clip by clip against the original where there is one.

    The first solver is the reference of the others.
    """
    real_vectors = embedding.embed_audio(real).numpy()
    found: dict[str, dict] = {}
    vectors: list[np.ndarray] = []
    for solver in progress_bar(solvers, "solvers"):
        w = make(solver)
        vectors.append(embedding.embed_audio(w).numpy())
        row = {
            "distance": distance_row(vectors[-1], real_vectors),
            "from_reference": frechet_distance(vectors[-1], vectors[0]),
        }
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
