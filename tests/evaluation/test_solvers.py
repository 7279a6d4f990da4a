"""Equivalence of samplers, on numbers and on a tiny model: what passes, what makes the test sharp, who is compared."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from mousai.evaluation import solvers
from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.solvers import Solver, Trial, judge
from mousai.inference.pipeline import Mousai

N = 24
TUNES = [f"tune {i // 2}" for i in range(N)]
REFERENCE = Solver("ddim", 100)


def trial_of(**offsets: float) -> Trial:
    """Errors near 1, `offsets` the mean difference of each solver "name_steps" to the reference; floor near 2."""
    rng = np.random.default_rng(0)
    usual = 1 + 0.3 * rng.standard_normal(N)
    errors = {REFERENCE: {"e": usual}}
    for name, offset in offsets.items():
        sampler, steps, *seed = name.split("_")
        noise = rng.standard_normal(N)
        paired = usual + offset + 0.02 * (noise - noise.mean())
        errors[Solver(sampler, int(steps), len(seed))] = {"e": paired}
    return Trial(TUNES, errors, {"e": usual + 1})


def test_the_margin_is_a_share_of_the_distance_to_the_floor():
    assert_allclose(trial_of().margins(0.1)["e"], 0.1)
    assert_allclose(trial_of().margins(0.3)["e"], 0.3)


@pytest.mark.parametrize(
    ("offset", "inside"), [(0.0, True), (0.08, True), (-0.08, True), (0.095, False), (-0.3, False)]
)
def test_inside_is_the_whole_interval_of_the_paired_difference(offset, inside):
    row = trial_of(multistep_4=offset).differences(0.1)[Solver("multistep", 4)]["e"]
    assert row["low"] < row["value"] < row["high"] and row["value"] == pytest.approx(offset)
    assert row["inside"] == inside


def test_tunes_are_resampled_whole():
    """Two clips of a tune that say the same are one tune's worth of evidence."""
    apart, twice = trial_of(heun_4=0.0), trial_of(heun_4=0.0)
    usual = apart.errors[REFERENCE]["e"]
    by_tune = 0.1 * np.repeat(np.random.default_rng(1).standard_normal(N // 2), 2)
    widths = []
    for one, tunes in ((apart, [str(i) for i in range(N)]), (twice, TUNES)):
        one.errors[Solver("heun", 4)]["e"] = usual + by_tune
        row = Trial(tunes, one.errors, one.floor).differences(0.1)[Solver("heun", 4)]["e"]
        widths.append(row["high"] - row["low"])
    assert widths[1] == pytest.approx(2**0.5 * widths[0], rel=0.15)


SHARP = {"ddim_100_again": 0.01, "multistep_4": 0.5, "multistep_8": 0.01, "multistep_16": 0.0}


def test_the_shortest_that_passes_is_named_where_half_of_it_fails():
    verdict = judge(trial_of(**SHARP), 0.1)
    assert verdict.passed and verdict.shortest == Solver("multistep", 8)
    assert str(verdict) == "multistep 8 is equivalent to the reference"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ddim_100_again": 0.2}, "undecided: the reference from other noise"),
        ({"multistep_4": 0.0}, "undecided: multistep 4 passes and so does half of it"),  # multistep 2 was not measured
        ({"multistep_8": 0.2, "multistep_16": 0.2}, "no shorter solver"),
    ],
)
def test_without_a_sharp_test_nothing_is_claimed(changes, said):
    verdict = judge(trial_of(**(SHARP | changes)), 0.1)
    assert not verdict.passed and str(verdict).startswith(said)


def test_a_measure_that_does_not_miss_the_network_claims_nothing():
    sharp = trial_of(**SHARP)
    usual = sharp.errors[REFERENCE]["e"]
    assert judge(replace(sharp, removed={"e": usual + 0.5}), 0.1).passed
    verdict = judge(replace(sharp, removed={"e": usual + 0.01}), 0.1)
    assert not verdict.passed and str(verdict).startswith("undecided: the reference passes without its network")


def test_without_the_reference_from_other_noise_nothing_is_claimed():
    verdict = judge(trial_of(multistep_4=0.5, multistep_8=0.01), 0.1)
    assert verdict.shortest == Solver("multistep", 8) and not verdict.seed_passes and not verdict.passed


def test_all_measures_must_be_inside():
    one = trial_of(**SHARP)
    for solver, errors in one.errors.items():
        errors["other"] = errors["e"] + (solver.sampler == "multistep")
    one.floor["other"] = one.floor["e"]
    assert judge(one, 0.1).shortest is None


def test_evaluations_are_steps_but_for_heun():
    assert [Solver(name, 5).nfe for name in ("ddim", "multistep", "heun")] == [5, 5, 9]


class Axes(InDomain):
    """Prompt i is axis i; a clip is the axis that its first sample says."""

    def __init__(self):
        pass

    def embed_audio(self, w: torch.Tensor) -> torch.Tensor:
        return torch.eye(64)[w[:, 0, 0].round().long()]

    def embed_text(self, texts: list[str]) -> torch.Tensor:
        return torch.eye(64)[: len(texts)]


class Recorder(Mousai):
    """A stack that says what it was asked for; the first number of each clip's z is the clip's."""

    def __init__(self, profile):
        self.profile, self.asked = profile, []
        self.dmae = self

    def parameters(self):
        yield torch.zeros(1)

    def latents(self, texts, samples, generators, sampling):
        seeds = [generator.initial_seed() for generator in generators]
        self.asked.append((len(texts), samples, seeds, sampling.tcld_steps, sampling.tcld_sampler))
        return torch.arange(float(len(texts)))[:, None, None].expand(-1, 32, samples // 1024)

    def encode(self, w):
        return w[:, :1, ::1024]


def spread(dmae, z, run, generator):
    return z[:, :1, :1].expand(-1, 2, z.shape[-1] * 1024) + 0.0


def test_stage_2_makes_whole_chunks_for_the_prompts_of_the_clips_it_is_held_against(with_genres, monkeypatch):
    tiny = with_genres.profile
    model = Recorder(tiny)
    monkeypatch.setattr(solvers, "EXCERPT", 4096)
    monkeypatch.setattr(solvers, "decode", spread)
    found = solvers.stage_2(with_genres, model, Axes(), [Solver("multistep", 7)], Solver("multistep", 3))
    many, crop = tiny.evaluation.reference_steps, tiny.tcld.crop
    n = len(found.tunes)
    usual, other = [*range(n)], [1_000_000 + i for i in range(n)]
    assert model.asked == [
        (n, crop, usual, many, "ddim"),
        (n, crop, other, many, "ddim"),
        (n, crop, usual, 7, "multistep"),
    ]
    assert_allclose(found.errors[Solver("multistep", 7)]["text"], 0)  # each clip is on its own prompt's axis
    assert_allclose(found.floor["text"], 1)  # and on no other's


def test_stage_1_is_held_against_the_clips_its_latents_come_from(with_genres, monkeypatch):
    monkeypatch.setattr(solvers, "EXCERPT", 4096)
    original, _, _ = solvers.originals(with_genres)
    monkeypatch.setattr(solvers, "decode", lambda dmae, z, run, generator: original[: len(z)])
    found = solvers.stage_1(with_genres, Recorder(with_genres.profile), [Solver("heun", 3)])
    assert list(found.errors)[1:] == [solvers.reference(with_genres.profile)._replace(seed=1), Solver("heun", 3)]
    assert_allclose(found.errors[Solver("heun", 3)]["logmel_l1"], 0, atol=1e-6)
    assert (found.floor["logmel_l1"] > 0).all()
