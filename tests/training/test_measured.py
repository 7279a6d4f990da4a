"""Reckoned memory against that of real steps on this CPU, each in a process of its own."""

import sys

import pytest

from mousai.training import estimator_check as measured
from mousai.training import plan
from mousai.training.estimator_check import CHECKS, WITHIN, compare
from mousai.training.optimizer import EIGHT_BIT

LINUX_ONLY = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="where malloc can be told to give back")


def within(number: int) -> None:
    row = compare(number)
    assert row["measured GB"] > 0.2, "too small to be told from what libraries take"
    assert abs(row["ratio"] - 1) <= WITHIN, f"{measured.named(number)}: {row}"


@LINUX_ONLY
@pytest.mark.parametrize("number", [2, 5])
def test_what_is_reckoned_is_what_a_real_step_of_each_stage_takes(number):
    within(number)


@LINUX_ONLY
@pytest.mark.paper_size
@pytest.mark.parametrize("number", measured.possible(), ids=measured.named)
def test_all_configurations_that_are_measured_are_as_reckoned(number):
    within(number)


def test_what_is_measured_differs_in_stage_width_batch_and_switches():
    assert len(measured.possible()) >= 4 and {stage for stage, _ in CHECKS} == {"dmae", "tcld"}
    settings = [plan.training(profile, stage) for stage, profile in CHECKS]
    assert {config.checkpointing for config in settings} == {False, True}
    assert {config.optimizer for config in settings} == {"adamw", EIGHT_BIT}
    assert len({config.batch for config in settings}) > 2 and len({profile.name for _, profile in CHECKS}) == 2
