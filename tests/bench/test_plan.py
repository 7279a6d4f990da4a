"""What `mousai plan` makes of a step: the largest batch, days, disk, and what it says of itself."""

from dataclasses import replace

import pytest

from mousai.bench import plan
from mousai.bench.efficiency import in_fresh_process
from mousai.bench.model_scales import sized
from mousai.bench.plan import GPU, disk
from mousai.cli import main
from mousai.config import A100
from mousai.small.profiles import SMOKE
from mousai.text import load_text_encoder
from mousai.training.setup import with_training
from mousai.unet import count_parameters


@pytest.fixture
def known(monkeypatch) -> None:
    """Each item takes one GB of activations, or half of one where they are computed again; and 25 GFLOP."""

    def activations(stage, profile):
        assert plan.training(profile, stage).precision == "auto"
        return 0.5 if plan.training(profile, stage).checkpointing else 1.0

    monkeypatch.setattr(plan, "activations_gb", activations)
    monkeypatch.setattr(plan, "flop_per_item", lambda stage, profile: 25 * 10**9)


@pytest.mark.parametrize(
    ("gb", "most", "said"),
    [(45, 40, "1 x 32"), (35, 31, "2 x 16"), (11, 9, "4 x 8"), (1.2, 1, "32 x 1"), (1, 0, "nothing fits")],
)
def test_a_batch_is_taken_in_as_few_equal_pieces_as_fit(known, gb, most, said):
    """A tenth of the memory is kept free; the small weights take 0.01 GB."""
    rows = plan.column("dmae", with_training(SMOKE, batch=32, precision="auto"), GPU(gb, {"float32": 1.0}), 0.5)
    assert (rows["largest batch that fits"], rows["a batch of 32 as"]) == (str(most), said)


def test_days_are_steps_over_what_a_share_of_the_peak_computes(known):
    profile = with_training(SMOKE, batch=40, precision="auto", steps=86_400)
    rows = plan.column("dmae", profile, GPU(10, {"float32": 1.0}), 0.5)
    assert rows["GFLOP a step"] == "1,000" and rows["steps a day (days), float32"] == "43,200 (2.0)"


def test_the_disk_holds_weights_checkpoints_music_and_latents():
    table = disk(A100, 1000)["disk, GB"]
    n, m = 185_107_872, 562_508_096 + 64 * 768
    assert plan.weights_gb(A100) == {"dmae": 4 * n / 1e9, "tcld": 4 * m / 1e9, "text": 4 * 109_628_544 / 1e9}
    assert table["weights of both stages"] == f"{2 * (n + m) / 1e9:,.2f}"
    # two checkpoints of weights, average and two moments, and the best weights: 2 x 16 + 4 bytes
    assert table["dmae: two checkpoints, best weights"] == f"{36 * n / 1e9:,.2f}"
    assert table["tcld: two checkpoints, best weights"] == f"{36 * m / 1e9:,.2f}"
    assert table["1,000 hours of FLAC"] == f"{3.6e6 * 48_000 * 4 * 0.6 / 1e9:,.2f}"
    assert table["their latents"] == f"{3.6e6 * 48_000 / 1024 * 32 * 2 / 1e9:,.2f}"


def test_the_command_prints_both_stages_and_what_is_assumed(capsys, known):
    words = ["--profile", "smoke", "--batch", "40", "--precision", "bfloat16"]
    with pytest.raises(SystemExit) as left:
        main(["plan", *words, "--gpu", "h100-80gb", "--memory-gb", "40", "--efficiency", "0.25", "--hours", "5"])
    said = " ".join(capsys.readouterr().out.split())
    assert not left.value.code
    for stage in ("dmae", "tcld"):
        assert f"{stage}: batch 40, bfloat16 over float32 weights, 60 steps" in said
    for row in (
        "activations, GB | 40.00 | 20.00 |",
        "largest batch that fits | 35 | 71 |",  # 36 GB, a tenth kept free, and small weights
        "a batch of 40 as | 2 x 20 | 1 x 40 |",
        "GFLOP a step | 1,000 | 1,000 |",
        "steps a day (days), bfloat16 | 21,371,040 (0.0) |",
        "5 hours of FLAC",
        "25% of the peak TFLOP/s, 66.9 in float32, 494.7 in tf32, 989.4 in bfloat16",
        "not measured on such a GPU",
    ):
        assert row in said, row


def test_the_text_encoder_is_as_large_as_it_is_said_to_be():
    model = load_text_encoder(SMOKE.tcld.text).model
    assert count_parameters(model) == plan.TEXT_ENCODERS["minilm"]


def test_stage_one_and_the_text_encoder_are_beside_stage_two(known):
    rows = {
        stage: plan.column(stage, with_training(SMOKE, precision="auto"), plan.GPUS["a100-40gb"], 0.5)
        for stage in ("dmae", "tcld")
    }
    sizes = plan.weights_gb(SMOKE)
    assert "frozen models beside it, GB" not in rows["dmae"]
    assert rows["tcld"]["frozen models beside it, GB"] == f"{sizes['dmae'] + sizes['text']:.2f}"


def test_another_gpu_is_its_memory_and_its_peak():
    assert plan.gpu_of("a100-40gb", 24.0, 71.0) == GPU(24.0, {"the peak given": 71.0})
    assert plan.gpu_of("a100-40gb") == plan.GPUS["a100-40gb"]


def test_a_setting_that_is_not_given_stays():
    changed = with_training(A100, batch=7, precision=None)
    assert changed.dmae_train == replace(A100.dmae_train, batch=7)
    assert changed.tcld_train == replace(A100.tcld_train, batch=7)


@pytest.mark.parametrize("stage", ["dmae", "tcld"])
def test_operations_are_those_of_every_pass_and_checkpointing_adds_less_than_one_of_three(stage):
    dmae, tcld, _ = sized("cpu")
    narrow = replace(A100, dmae=dmae, tcld=tcld)
    kept, again = (plan.flop_per_item(stage, with_training(narrow, checkpointing=on)) for on in (False, True))
    assert 1.1 < again / kept < 4 / 3


@pytest.mark.system
@pytest.mark.parametrize("stage", ["dmae", "tcld"])
def test_activations_are_measured_and_fewer_with_checkpointing(stage):
    kept, again = (
        in_fresh_process("mousai.bench.plan", "a100", stage, way, "float32")["gb"] for way in ("kept", "checkpointing")
    )
    assert 0.02 < again < 0.7 * kept < 1
