"""Quality against calls, on a tiny model: who is compared with whom, and what counts as equal."""

import numpy as np
import pytest
import torch

from mousai.evaluation import solvers
from mousai.evaluation.in_domain import InDomain
from mousai.evaluation.solvers import Solver, rows, within
from mousai.inference.pipeline import Mousai


class Four(InDomain):
    """An embedding of four numbers."""

    def __init__(self):
        pass

    def embed_audio(self, w: torch.Tensor) -> torch.Tensor:
        return w[:, :, :2].flatten(1)


def clips(shift: float) -> torch.Tensor:
    noise = torch.randn(12, 2, 4096, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise + shift


def test_a_solver_is_equal_where_both_numbers_are_in_the_references_interval():
    made = {"ddim 100": 0.0, "multistep 4": 0.0, "ddim 2": 3.0}
    solvers = [Solver("ddim", 100), Solver("multistep", 4), Solver("ddim", 2)]
    found = rows(lambda s: clips(made[str(s)]), Four(), solvers, clips(0.0), clips(0.1))
    assert list(found) == ["ddim 100", "multistep 4", "ddim 2"]
    assert [row["equal"] for row in found.values()] == [True, True, False]
    assert found["multistep 4"]["from_reference"] < 1e-6 < 1 < found["ddim 2"]["from_reference"]
    assert found["ddim 2"]["log_mel"]["value"] > found["ddim 100"]["log_mel"]["value"]
    assert found["ddim 100"]["distance"]["n"] == 12


def test_without_originals_the_distance_alone_decides():
    found = rows(lambda s: clips(0.0), Four(), [Solver("heun", 3)], clips(0), None)
    assert "log_mel" not in found["heun 3"] and found["heun 3"]["equal"]


@pytest.mark.parametrize(("value", "inside"), [(0.9, False), (1.0, True), (2.0, True), (2.1, False)])
def test_the_interval_has_its_ends(value, inside):
    assert within({"value": value}, {"low": 1.0, "high": 2.0}) == inside


class Recorder(Mousai):
    """A stack that says what it was asked for."""

    def __init__(self, profile):
        self.profile, self.asked = profile, []
        self.dmae = self

    def parameters(self):
        yield torch.zeros(1)

    def latents(self, texts, samples, generators, sampling):
        seeds = [generator.initial_seed() for generator in generators]
        self.asked.append((len(texts), samples, seeds, sampling.tcld_steps, sampling.tcld_sampler))
        return torch.zeros(len(texts), 32, samples // 1024)


def noise(dmae, z, run, generator):
    return torch.randn(len(z), 2, z.shape[-1] * 1024, generator=torch.Generator().manual_seed(0))


def test_stage_2_makes_whole_chunks_of_which_the_beginning_is_measured(with_genres, monkeypatch):
    tiny = with_genres.profile
    model = Recorder(tiny)
    monkeypatch.setattr(solvers, "EXCERPT", 4096)
    monkeypatch.setattr(solvers, "decode", noise)
    found = solvers.stage_2(with_genres, model, Four(), [Solver("multistep", 7)], Solver("multistep", 3))
    n, crop = tiny.evaluation.solver_clips, tiny.tcld.crop
    seeds = [*range(n)]
    assert model.asked == [(n, crop, seeds, tiny.evaluation.reference_steps, "ddim"), (n, crop, seeds, 7, "multistep")]
    assert next(iter(found.values()))["distance"]["n"] == n and np.isfinite(found["multistep 7"]["from_reference"])
