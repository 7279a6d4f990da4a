"""The paper's claims: an outcome for each from the results alone, never better than they are."""

import pytest
from helpers.results import write_all

from mousai.report import claims
from mousai.report.claims import CLAIMS, FAILS, HOLDS, LOW, MEDIUM, NONE, NOT_TESTED, UNDECIDED, Claim
from mousai.report.record import Report
from mousai.report.results import Results, paper
from mousai.report.thresholds import Threshold

PART = Claim("x", "a test", "without it", (Threshold("gain", "part.gain", "above", 0),))


def results(tmp_path, profile="smoke", **metrics: tuple) -> Results:
    """Results that hold these metrics: name (with __ for a dot) -> value, low, high, units."""
    report = Report("04_dmae_training", profile, tmp_path, device="cpu")
    for name, (value, low, high, units) in metrics.items():
        report.metric(name.replace("__", "."), value, low, high, n=4 * units, units=units)
    report.done()
    return Results.read(tmp_path, profile)


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.1, 0.3, HOLDS), (-0.1, 0.3, UNDECIDED), (-0.3, -0.1, FAILS), (0.0, 0.3, UNDECIDED)]
)
def test_the_whole_interval_decides_a_claim(tmp_path, low, high, said):
    found = claims.outcome(PART, results(tmp_path, part__gain=((low + high) / 2, low, high, 10)))
    assert (found.outcome, found.confidence) == (said, MEDIUM) and "n = 40, 10 tunes" in found.how_sure


def test_what_was_not_measured_was_not_tested_and_says_why(tmp_path):
    assert claims.outcome(PART, results(tmp_path)).how_sure == "no result here holds part.gain"
    report = Report("04_dmae_training", "smoke", tmp_path, device="cpu")
    report.not_run("part.gain", "too little memory")
    report.done()
    found = claims.outcome(PART, Results.read(tmp_path, "smoke"))
    assert (found.outcome, found.confidence, found.how_sure) == (NOT_TESTED, NONE, "too little memory")


def test_one_condition_that_fails_undoes_a_claim_and_one_that_is_missing_leaves_it_untested(tmp_path):
    both = Claim("x", "a test", "", (*PART.conditions, Threshold("loss", "part.loss", "below", 1)))
    assert claims.outcome(both, results(tmp_path, part__gain=(1, 0.5, 2, 9))).outcome == NOT_TESTED
    good, open_, bad = (0.5, 0.4, 0.6, 9), (0.9, 0.8, 1.2, 9), (1.5, 1.2, 1.8, 9)
    for loss, said in ((good, HOLDS), (open_, UNDECIDED), (bad, FAILS)):
        assert claims.outcome(both, results(tmp_path, part__gain=(1, 0.5, 2, 9), part__loss=loss)).outcome == said


def test_confidence_is_low_without_interval_with_few_tunes_and_for_a_stand_in(tmp_path):
    found = results(tmp_path, part__gain=(0.2, 0.1, 0.3, 9))
    assert claims.outcome(PART, found).confidence == LOW
    alone = results(tmp_path, part__gain=(0.2, None, None, 40))
    assert claims.outcome(PART, alone).confidence == LOW
    stand_in = Claim("x", "a test", "", PART.conditions, stand_in=True)
    assert claims.outcome(stand_in, results(tmp_path, part__gain=(0.2, 0.1, 0.3, 40))).confidence == LOW


def test_three_training_runs_are_enough_and_two_are_not(tmp_path):
    for runs, sure in ((3, MEDIUM), (2, LOW)):
        report = Report("08_long_term_amplitude", "smoke", tmp_path, device="cpu")
        report.metric("part.gain", 0.2, 0.1, 0.3, n=runs, units=runs, units_of="training runs")
        report.done()
        assert claims.outcome(PART, Results.read(tmp_path, "smoke")).confidence == sure


def test_a_stage_1_whose_network_does_nothing_does_not_keep_the_papers_first_claim(tmp_path):
    levels = {f"dmae__network_ratio__0.{level}": (1.0, None, None, 16) for level in (3, 5, 7)}
    worth = {name: (0.8, None, None, 16) for name in levels}
    unclear, nearer = (0.0, -0.1, 0.1, 20), (-0.2, -0.3, -0.1, 20)
    for ratios, in_domain, musicnn, expected in (
        (levels, unclear, unclear, FAILS),
        (worth, unclear, nearer, UNDECIDED),
        (worth, nearer, unclear, UNDECIDED),
        (worth, nearer, nearer, HOLDS),
    ):
        distances = {
            "dmae__kd_minus_no_network__alone": in_domain,
            "dmae__kd_minus_no_network__alone__musicnn": musicnn,
        }
        found = claims.outcomes(results(tmp_path, **distances, **ratios))["compression"]
        assert (found.outcome, found.confidence) == (expected, LOW)


def test_real_time_is_the_papers_only_at_its_size(tmp_path):
    fast = {"bench__inverse_rtf": (7.0, None, None, 5)}
    small, full = (results(tmp_path / name, name, **fast) for name in ("cpu", "a100"))
    assert claims.outcomes(small)["real_time"].outcome == NOT_TESTED
    assert claims.outcomes(full)["real_time"].outcome == HOLDS


def test_every_claim_has_the_papers_words_a_test_and_the_row_without_its_part(tmp_path):
    assert [claim.name for claim in CLAIMS] == [name for name in paper()["claims"] if name != "title"]
    write_all(tmp_path)
    rows = claims.rows(Results.read(tmp_path, "smoke"))
    for row, claim in zip(rows, CLAIMS, strict=True):
        assert all((row.item, row.paper, row.ours, row.rule)) and row.verdict in (HOLDS, FAILS, UNDECIDED, NOT_TESTED)
        assert claim.conditions or claim.needs
