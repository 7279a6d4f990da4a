"""What `mousai plan` makes of a step: the largest batch, days, disk, and what it says of itself."""

import pytest

from mousai.cli import main
from mousai.config import Profile
from mousai.small.profiles import A100, SMOKE
from mousai.text import load_text_encoder
from mousai.training import plan
from mousai.training.estimator import Step
from mousai.training.plan import GPU, disk, largest, models, pieces, time_rows
from mousai.unet import count_parameters

ONE = GPU(10, {"float32": 1.0})


def test_the_largest_batch_is_the_last_that_fits():
    straight, bent = lambda n: 10 + 3 * n, lambda n: max(10 + 3 * n, 5 * n - 4)
    for batch in (1, 2, 16, 500):
        assert largest(straight, batch, 10, 100) == 30
        assert largest(straight, batch, 10, 99.9) == 29
        assert largest(straight, batch, 10, 13) == 1
        assert largest(straight, batch, 10, 12) == 0
        assert largest(bent, batch, 10, 100) == 20
        assert largest(lambda n: max(50, n), batch, 10, 49) == 0  # less than the optimizer takes at work


def test_a_batch_is_taken_in_as_few_equal_pieces_as_fit():
    assert [pieces(32, most) for most in (40, 32, 31, 9, 1, 0)] == [
        "1 x 32", "1 x 32", "2 x 16", "4 x 8", "32 x 1", "nothing fits",
    ]  # fmt: skip
    assert pieces(12, 5) == "3 x 4"


def test_days_are_steps_over_what_a_share_of_the_peak_computes():
    rows = time_rows(10**12, 86_400, ONE, 0.5)
    assert rows == {"GFLOP a step": "1,000", "steps a day (days), float32": "43,200 (2.0)"}


def test_the_disk_holds_weights_checkpoints_music_and_latents():
    table = disk(A100, 1000)["disk, GB"]
    n, m = (count_parameters(model) for model in models(A100).values())
    assert table["weights of both stages"] == f"{2 * (n + m) / 1e9:,.2f}"
    # two checkpoints of weights, average and two moments, and the best weights: 2 x 16 + 4 bytes
    assert table["dmae: two checkpoints, best weights"] == f"{36 * n / 1e9:,.2f}"
    assert table["tcld: two checkpoints, best weights"] == f"{36 * m / 1e9:,.2f}"
    assert table["1,000 hours of FLAC"] == f"{3.6e6 * 48_000 * 4 * 0.6 / 1e9:,.2f}"
    assert table["their latents"] == f"{3.6e6 * 48_000 / 1024 * 32 * 2 / 1e9:,.2f}"


def test_the_command_prints_both_stages_and_what_is_assumed(capsys, monkeypatch):
    """A step that takes 8 GB and, for each item, one GB, or half of one where it is computed again; and 1 TFLOP."""

    def reckoned(stage: str, profile: Profile, batch: int, bfloat16: bool) -> Step:
        assert bfloat16 and plan.training(profile, stage).optimizer == "adamw8bit"
        each = 0.5 if plan.training(profile, stage).checkpointing else 1.0
        return Step(*(int(gb * 1e9) for gb in (2, 2, 4, 2, each * batch, 8 + each * batch)), flop=10**12)

    monkeypatch.setattr(plan, "reckon", reckoned)
    words = ["--profile", "smoke", "--batch", "40", "--optimizer", "adamw8bit", "--precision", "bfloat16"]
    with pytest.raises(SystemExit) as left:
        main(["plan", *words, "--gpu", "h100-80gb", "--memory-gb", "40", "--efficiency", "0.25", "--hours", "5"])
    said = " ".join(capsys.readouterr().out.split())
    assert not left.value.code
    for stage in ("dmae", "tcld"):
        assert f"{stage}: batch 40, bfloat16 over float32 weights, adamw8bit, 60 steps" in said
    for row in (
        "activations, GB | 40.00 | 20.00 |",
        "largest batch that fits | 28 | 56 |",  # 36 GB, a tenth kept free
        "a batch of 40 as | 2 x 20 | 1 x 40 |",
        "steps a day (days), bfloat16 | 21,371,040 (0.0) |",
        "5 hours of FLAC",
        "25% of the peak TFLOP/s, 66.9 in float32, 494.7 in tf32, 989.4 in bfloat16",
        "not measured on such a GPU",
    ):
        assert row in said, row


def test_beside_stage_two_stand_stage_one_and_the_text_encoder():
    assert plan.beside("dmae", A100) == 0
    assert plan.beside("tcld", A100) == 4 * (185_107_872 + 109_628_544)
    model = load_text_encoder(SMOKE.tcld.text).model
    assert count_parameters(model) == plan.TEXT_ENCODERS["minilm"]


def test_another_gpu_is_its_memory_and_its_peak():
    assert plan.gpu_of("a100-40gb", 24.0, 71.0) == GPU(24.0, {"the peak given": 71.0})
    assert plan.gpu_of("a100-40gb") == plan.GPUS["a100-40gb"]
