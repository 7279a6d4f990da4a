"""How few network evaluations give the quality of the reference, DDIM with many steps: an equivalence test (ours).

Stage 1 decodes clips of the test split from their own latents, and each is compared with its original. Stage 2
generates a clip for each of their prompts, which is compared with the prompt and with the original's spectrum. A solver
is equivalent where the interval, over tunes, of its paired difference to the reference lies inside a margin. The margin
is a share, set in the profile, of the distance from the reference to its floor, the error of the same clips against
other clips' targets.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mousai.config import Profile
from mousai.data.dataset import Workspace
from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.real import original_set
from mousai.evaluation.reconstruction import ltas_db
from mousai.evaluation.statistics import bootstrap
from mousai.inference.long import Run, decode
from mousai.inference.pipeline import Mousai
from mousai.progress import progress_bar
from mousai.shapes import Part, Wave
from mousai.small.dmae import SmallDMAE
from mousai.spectrogram import log_mel_l1
from mousai.training.network_ratio import without_network

EXCERPT = 2**16  # samples of a clip that are compared: 1.37 s
BATCH = 8
Errors = dict[str, np.ndarray]  # measure -> one number a clip; lower is better


class Solver(NamedTuple):
    """A sampler, its number of steps, and the seed of the noise it starts from."""

    sampler: str
    steps: int
    seed: int = 0

    @property
    def nfe(self) -> int:
        """Network evaluations: one a step; for Heun two a step, but one in the last."""
        return 2 * self.steps - 1 if self.sampler == "heun" else self.steps

    def __str__(self) -> str:
        return f"{self.sampler} {self.steps}" + f", seed {self.seed}" * (self.seed > 0)


@dataclass(frozen=True)
class Trial:
    """Errors of each solver's clips, the reference first, and of the floor. tunes: the tune of each clip.

    removed: errors of the reference without its network, the control that must not pass.
    """

    tunes: Sequence[str]
    errors: dict[Solver, Errors]
    floor: Errors
    removed: Errors | None = None

    def margins(self, share: float) -> dict[str, float]:
        """For each measure, `share` times the distance from the reference's mean error to that of the floor."""
        usual = next(iter(self.errors.values()))
        return {name: share * float(self.floor[name].mean() - usual[name].mean()) for name in usual}

    def differences(self, share: float) -> dict[Solver, dict[str, dict]]:
        """Solver (without the reference) -> measure -> value, low and high of its mean paired difference to the
        reference (95 %, whole tunes resampled), the margin, and whether the interval is `inside` it.
        """
        return {solver: self.difference(errors, share) for solver, errors in list(self.errors.items())[1:]}

    def difference(self, errors: Errors, share: float) -> dict[str, dict]:
        """One row of `differences`, for these errors."""
        usual, *_ = self.errors.values()
        row = {}
        for name, margin in self.margins(share).items():
            value, low, high = bootstrap(errors[name] - usual[name], groups=self.tunes)
            inside = -margin < low and high < margin
            row[name] = dict(value=value, low=low, high=high, margin=margin, inside=inside)
        return row


class Verdict(NamedTuple):
    """The result of a trial. It counts only where the trial could tell solvers apart: the reference passes from other
    noise, it fails without its network, and the shortest solver that passes fails with half of its steps.
    """

    shortest: Solver | None
    seed_passes: bool
    half_fails: bool
    removed_fails: bool = True

    @property
    def passed(self) -> bool:
        """Whether a shorter solver is equivalent, in a trial that counts."""
        return self.shortest is not None and self.seed_passes and self.half_fails and self.removed_fails

    def __str__(self) -> str:
        if self.passed:
            return f"{self.shortest} is equivalent to the reference"
        if not self.seed_passes:
            return "undecided: the reference from other noise does not pass, so more clips are needed"
        if not self.removed_fails:
            return "undecided: the reference passes without its network too, so the measure is too coarse"
        if self.shortest is None:
            return "no shorter solver is equivalent to the reference"
        return f"undecided: {self.shortest} passes and so does half of it, or that was not measured"


def judge(trial: Trial, share: float) -> Verdict:
    """The verdict on a trial, among whose solvers is the reference from other noise. share: as in `Trial.margins`."""
    passes = {s: all(row["inside"] for row in rows.values()) for s, rows in trial.differences(share).items()}
    usual = next(iter(trial.errors))
    again = [solver for solver in passes if solver[:2] == usual[:2]]
    passing = [solver for solver in passes if passes[solver] and solver not in again]
    shortest = min(passing, key=lambda solver: solver.nfe, default=None)
    seed_passes = bool(again) and all(passes[solver] for solver in again)
    removed = trial.difference(trial.removed, share) if trial.removed else {}
    removed_fails = not removed or not all(row["inside"] for row in removed.values())
    if shortest is None:
        return Verdict(None, seed_passes, half_fails=False, removed_fails=removed_fails)
    half = shortest._replace(steps=shortest.steps // 2)
    return Verdict(shortest, seed_passes, not passes.get(half, True), removed_fails)


def stage_1(work: Workspace, model: Mousai, solvers: Sequence[Solver]) -> Trial:
    """Trial of stage 1: `logmel_l1` between each solver's decoding of a clip's own latent and the clip."""
    real, _, tunes = originals(work)
    place = next(model.dmae.parameters()).device
    z = torch.cat([model.dmae.encode(w[None].to(place)) for w in real])

    def errors(w: Wave, shift: int) -> Errors:
        return {"logmel_l1": log_mel_l1(w, real.roll(shift, 0)).numpy()}

    found = trial(lambda solver: decoded(model, z, solver), errors, tunes, with_reference(work.profile, solvers))
    if not isinstance(model.dmae, SmallDMAE) or model.dmae.head is None:
        return found
    removed = copy(model)
    removed.dmae = without_network(model.dmae)
    return replace(found, removed=errors(decoded(removed, z, reference(work.profile)), 0))


def stage_2(work: Workspace, model: Mousai, embedding: InDomain, solvers: Sequence[Solver], decoder: Solver) -> Trial:
    """Trial of stage 2: `text`, 1 - cosine of a clip and its prompt, and `ltas_db` to the prompt's original.

    All clips are decoded by the same `decoder`. The guidance is the profile's.
    """
    profile = work.profile
    place = next(model.dmae.parameters()).device
    real, texts, tunes = originals(work)
    n = len(texts)
    prompts = embedding.embed_text(texts)

    def make(solver: Solver) -> Wave:
        how = model.sampling(tcld_steps=solver.steps, sampler=solver.sampler)
        z = [
            # a whole chunk, the length that stage 2 was trained on
            model.latents(texts[i : i + BATCH], profile.tcld.crop, noise_of(solver, i, min(i + BATCH, n)), how)
            for i in range(0, n, BATCH)
        ]
        return decoded(model, torch.cat(z)[..., : EXCERPT // profile.dmae.latent_stride].to(place), decoder)

    def errors(w: Wave, shift: int) -> Errors:
        cosine = (embedding.embed_audio(w) * prompts.roll(shift, 0)).sum(dim=1)
        pairs = zip(w.numpy(), real.roll(shift, 0).numpy(), strict=True)
        return {"text": (1 - cosine).numpy(), "ltas_db": np.array([ltas_db(mine, its) for mine, its in pairs])}

    return trial(make, errors, tunes, with_reference(profile, solvers))


def trial(
    make: Callable[[Solver], Wave],
    errors: Callable[[Wave, int], Errors],
    tunes: Sequence[str],
    solvers: Sequence[Solver],
) -> Trial:
    """Make and measure each solver's clips; the first solver is the reference.

    errors(w, shift) compares clip i with target i - shift; the floor is the reference's error at a shift of 1.
    """
    found = {}
    floor: Errors = {}
    for solver in progress_bar(solvers, "solvers"):
        w = make(solver)
        found[solver] = errors(w, 0)
        floor = floor or errors(w, 1)
    return Trial(tunes, found, floor)


def originals(work: Workspace) -> tuple[Part, list[str], list[str]]:
    """(the clips that solvers are measured on [n, 2, EXCERPT], their prompts, their tunes)."""
    clips = original_set(work).first(work.profile.evaluation.solver_clips)
    w = torch.stack([clips[i][:, :EXCERPT] for i in range(len(clips))])
    return w, [prompt.text for prompt in clips.prompts], clips.titles


def reference(profile: Profile) -> Solver:
    """The paper's sampler with many steps."""
    return Solver("ddim", profile.evaluation.reference_steps)


def with_reference(profile: Profile, solvers: Sequence[Solver]) -> list[Solver]:
    """The reference, the reference from other noise, then the others."""
    usual = reference(profile)
    return [usual, usual._replace(seed=1), *solvers]


def decoded(model: Mousai, z: Tensor, solver: Solver) -> Wave:
    """The waveforms of the latents z, decoded by this solver; never refined, which would hide the solver."""
    run = Run(solver.steps, solver.sampler, refinement_steps=0)
    batches = []
    for i in range(0, len(z), BATCH):
        generator = noise_of(solver, i, i + 1)[0]
        batches.append(decode(model.dmae, z[i : i + BATCH], run, generator).cpu())
    return torch.cat(batches)


def noise_of(solver: Solver, begin: int, end: int) -> list[torch.Generator]:
    """A generator for each clip from `begin` to `end` - 1; solvers with the same seed start from the same noise."""
    return [torch.Generator().manual_seed(1_000_000 * solver.seed + i) for i in range(begin, end)]
