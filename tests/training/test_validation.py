"""Validation in training: the same measure every time, written down, and without a trace in the training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from safetensors import safe_open
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.testing import assert_close

from mousai.data.records import prompt, read_manifest
from mousai.diffusion import add_noise, alpha_beta, v_target
from mousai.small.stages import new_dmae, new_tcld
from mousai.text import load_text_encoder
from mousai.training import setup, validation
from mousai.training.resume import Run
from mousai.training.setup import encode_split, train_dmae
from mousai.training.validation import SIGMAS, Subject, Validation, dmae_validation, draw, tcld_validation

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def quick(monkeypatch) -> None:
    """Few items, empty pictures, and a start from PCA in a moment."""
    monkeypatch.setattr(validation, "ITEMS", 3)
    monkeypatch.setattr(validation, "draw", lambda waves, path, sample_rate: path.touch())
    monkeypatch.setattr(setup, "PCA_CROPS", 4)


class Knows(nn.Module):
    """A model that is told x_0 and answers with the true v, off by its one weight."""

    def __init__(self, error: float):
        super().__init__()
        self.error = nn.Parameter(torch.tensor([error]))

    def net(self, x: torch.Tensor, sigma: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        alpha, beta = alpha_beta(sigma)
        return v_target(told, (x - alpha * told) / beta, sigma) + self.error


def items() -> torch.Tensor:
    return 0.1 * torch.randn(3, 2, 2048, generator=torch.Generator().manual_seed(1))


def of_knows(tiny, run: Path, resume: bool = False, told=lambda x_0: x_0, quiet: int = 0, worth=0.5) -> Validation:
    """Of a `Knows`, with `told` of x_0 as the condition."""
    held_out = lambda model: (items(), told(items()), model.net)  # noqa: E731
    ratio = lambda model: dict.fromkeys(SIGMAS, worth)  # noqa: E731
    subject = Subject("latent", held_out, lambda model: [items()[:1]], ratio, quiet)
    return Validation(tiny, run, resume, subject)


def after(tiny, run: Path, errors: list[float], resume: bool = False, first: int = 1) -> Validation:
    """Validation called at one step after another, on models that are wrong by so much."""
    seen = of_knows(tiny, run, resume)
    for step, error in enumerate(errors, first):
        seen(step, Knows(error))
    return seen


def table(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "validation.csv")


def test_the_loss_at_every_level_is_the_velocity_error_with_the_items_own_condition(tiny, tmp_path):
    after(tiny, tmp_path, [0.5])
    rows = table(tmp_path)
    assert rows.columns.tolist() == ["step", "sigma", "loss", "shuffled", "network_ratio"]
    assert rows.sigma.tolist() == list(SIGMAS) and set(rows.step) == {1}
    assert_close(rows.loss.tolist(), [0.25] * len(SIGMAS), atol=1e-5, rtol=0)


def test_shuffled_is_the_loss_with_the_neighbours_condition(tiny, tmp_path):
    after(tiny, tmp_path, [0.0])
    x_0, seed = items(), torch.Generator().manual_seed(tiny.seed)
    eps = torch.randn(x_0.shape, generator=seed)
    for row in table(tmp_path).itertuples():
        sigma = torch.full((3,), row.sigma)
        v_hat = Knows(0.0).net(add_noise(x_0, eps, sigma), sigma, x_0.roll(1, 0))
        assert_close(row.shuffled, (v_hat - v_target(x_0, eps, sigma)).square().mean().item(), atol=1e-5, rtol=1e-4)
        assert row.shuffled > row.loss + 1e-4


def test_every_validation_measures_the_same_way(tiny, space, tmp_path):
    torch.manual_seed(0)
    model = new_dmae(tiny.dmae).eval()
    one, other = (dmae_validation(space, tmp_path / name) for name in "ab")
    one(10, model)
    torch.manual_seed(5)
    one(20, model)
    other(10, model)
    rows = table(tmp_path / "a")
    for name in ("loss", "shuffled"):
        first, second = (rows[rows.step == step][name].tolist() for step in (10, 20))
        assert first == second == table(tmp_path / "b")[name].tolist()


def test_the_best_weights_are_kept_and_of_which_step_they_are(tiny, tmp_path):
    after(tiny, tmp_path, [0.5, 0.1, 0.3])
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.metadata() == {"step": "2"}
        assert_close(file.get_tensor("error"), torch.tensor([0.1]))


def test_a_resumed_validation_keeps_earlier_rows_and_the_best_of_them(tiny, tmp_path):
    after(tiny, tmp_path, [0.5, 0.1, 0.3])
    after(tiny, tmp_path, [0.2, 0.2], resume=True, first=3)  # the run had been saved after step 2
    rows = table(tmp_path).groupby("step").loss.mean()
    assert_close(rows.tolist(), [0.25, 0.01, 0.04, 0.04], atol=1e-5, rtol=0)
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert file.metadata() == {"step": "2"}


def test_what_was_measured_last_is_one_entry_a_level_and_nothing_before_the_first_time(tiny, tmp_path):
    assert of_knows(tiny, tmp_path).last() == []
    last = after(tiny, tmp_path, [0.5, 0.1]).last()
    assert [(row["step"], row["sigma"]) for row in last] == [(2, sigma) for sigma in SIGMAS]
    assert_close([row["loss"] for row in last], [0.01] * len(SIGMAS), atol=1e-4, rtol=0)


def test_a_new_validation_forgets_the_run_before(tiny, tmp_path):
    after(tiny, tmp_path, [0.1, 0.1, 0.1])
    after(tiny, tmp_path, [0.5])
    assert set(table(tmp_path).step) == {1}
    with safe_open(tmp_path / "best.safetensors", "pt") as file:
        assert_close(file.get_tensor("error"), torch.tensor([0.5]))


def test_tensorboard_shows_the_tables_numbers(tiny, tmp_path):
    after(tiny, tmp_path, [0.5, 0.1])
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    rows = table(tmp_path)
    assert set(events.Tags()["scalars"]) == {
        f"{name}/{sigma}" for name in ("loss", "shuffled", "network_ratio") for sigma in SIGMAS
    }
    for name in ("loss", "shuffled"):
        for sigma in SIGMAS:
            shown = events.Scalars(f"{name}/{sigma}")
            assert [point.step for point in shown] == [1, 2]
            assert_close(
                [point.value for point in shown], rows[rows.sigma == sigma][name].tolist(), atol=1e-6, rtol=1e-5
            )


def lines(seen: Validation, step: int, error: float, capsys) -> list[str]:
    capsys.readouterr()
    seen(step, Knows(error))
    measured, *warned = capsys.readouterr().err.splitlines()
    row = seen.row
    assert measured.startswith(f"step {step}: validation loss {row['loss']:.4f} (sigma 0.1: ")
    assert f"), {seen.subject.condition} shuffled x{row['ratio']:.2f}, with the network over without: 0.500" in measured
    return warned


def test_a_condition_that_makes_no_difference_is_said_in_a_line_once_it_is_trained(tiny, tmp_path, capsys):
    same = lambda x_0: x_0[:1].expand_as(x_0)  # noqa: E731
    seen = of_knows(tiny, tmp_path, told=same, quiet=10)
    assert lines(seen, 10, 0.5, capsys) == []
    assert lines(seen, 11, 0.5, capsys) == ["step 11: the latent is ignored: a shuffled one costs only x1.00"]
    assert lines(of_knows(tiny, tmp_path), 11, 0.0, capsys) == []


def test_a_latent_at_its_limits_is_said_in_a_line_and_a_text_is_not(tiny, tmp_path, capsys):
    seen = of_knows(tiny, tmp_path, told=lambda x_0: 5 + 50 * x_0)
    [line] = [line for line in lines(seen, 1, 0.0, capsys) if "saturated" in line]
    assert line.startswith("step 1: the latent is saturated: ") and line.endswith(" % of it beyond 0.99")
    seen.subject = replace(seen.subject, condition="text")
    assert not [line for line in lines(seen, 2, 0.0, capsys) if "saturated" in line]


def test_stage_ones_clip_is_the_first_crop_through_the_latent_heard_and_seen(tiny, space, tmp_path, monkeypatch):
    monkeypatch.setattr(validation, "draw", draw)
    torch.manual_seed(0)
    model, seen = new_dmae(tiny.dmae).eval(), dmae_validation(space, tmp_path)
    seen(7, model)
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["7.ogg", "7.png"]
    wave, rate = soundfile.read(tmp_path / "clips" / "7.ogg")
    assert (rate, wave.shape) == (48_000, (tiny.dmae.crop, 2))
    assert (tmp_path / "clips" / "7.png").read_bytes()[1:4] == b"PNG"
    original, made = seen.subject.clip(model)
    z = model.encode_crop(original)
    assert_close(made, model.decode(z, tiny.sampling.dmae_steps, torch.Generator().manual_seed(tiny.seed)))
    x_0, told, _ = seen.subject.held_out(model)
    assert_close(x_0[:1], model.to_signal(original, z), atol=1e-4, rtol=1e-4)
    assert_close(told[:1], z, atol=1e-5, rtol=1e-5)


def test_stage_one_is_validated_on_the_valid_split_alone(tiny, tiny_data, tmp_path, space):
    for record in read_manifest(tiny_data / "manifest.jsonl"):
        if record.split != "valid":
            (tiny_data / record.file).unlink()
    dmae_validation(space, tmp_path)(1, new_dmae(tiny.dmae).eval())


def test_stage_two_is_validated_on_latents_beside_their_own_prompts(tiny, tiny_data, tmp_path, space):
    torch.manual_seed(0)
    dmae, tcld = new_dmae(tiny.dmae).eval(), new_tcld(tiny).eval()
    tcld.latent_std.fill_(0.5)
    seen = tcld_validation(space, dmae, tmp_path)
    seen(3, tcld)
    x_0, told, _ = seen.subject.held_out(tcld)
    latents, encoder = encode_split(space, dmae, "valid"), load_text_encoder(tiny.tcld.text, CPU)
    [record] = [record for record in read_manifest(tiny_data / "manifest.jsonl") if record.split == "valid"]
    for z, embedding in zip(x_0, told, strict=True):
        [k] = [k for k in range(record.chunks) if torch.equal(latents[k] / 0.5, z)]
        assert_close(embedding, encoder([prompt(record, k + 1)])[0], atol=1e-5, rtol=1e-5)
    assert (tmp_path / "clips" / "3.ogg").is_file() and (tmp_path / "clips" / "3.png").is_file()
    assert len(table(tmp_path)) == len(SIGMAS)


def test_validation_leaves_the_random_states_as_they_were(tiny, space, tmp_path):
    seen, model = dmae_validation(space, tmp_path), new_dmae(tiny.dmae).eval()
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    seen(1, model)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_a_validated_training_is_bit_identical_to_one_that_is_not(space, tmp_path):
    plain, expected = train_dmae(space, 3)
    watched, history = train_dmae(space, 3, Run(callback=dmae_validation(space, tmp_path)))
    assert_close(dict(watched.state_dict()), dict(plain.state_dict()), atol=0, rtol=0)
    assert history.loss.tolist() == expected.loss.tolist()
    assert set(table(tmp_path).step) == {0, 3}


def test_nothing_half_written_is_left_beside_what_it_wrote(tiny, tmp_path):
    after(tiny, tmp_path, [0.5])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.safetensors",
        "clips",
        "tensorboard",
        "validation.csv",
    ]
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == ["1.ogg", "1.png"]


def test_a_network_that_does_nothing_is_warned_of_after_the_quiet_steps(tiny, tmp_path, capsys):
    seen = of_knows(tiny, tmp_path, quiet=10, worth=1.0)
    seen(10, Knows(0.1))
    assert "does nothing" not in capsys.readouterr().err
    seen(11, Knows(0.1))
    assert "the network does nothing yet: 1.000" in capsys.readouterr().err
    of_knows(tiny, tmp_path, worth=0.9)(12, Knows(0.1))
    said = capsys.readouterr().err
    assert "does nothing" not in said and "with the network over without: 0.900" in said


def test_both_stages_say_what_their_network_is_worth(tiny, space, tmp_path):
    torch.manual_seed(0)
    dmae = new_dmae(tiny.dmae).eval()
    seen = dmae_validation(space, tmp_path)
    seen(1, dmae)
    assert len({row["network_ratio"] for row in seen.last()}) > 1
