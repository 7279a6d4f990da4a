"""Reports: what a notebook writes comes back as tables and figures, identically, with nothing left out."""

import hashlib
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from helpers.results import GENRES, TABLE3, amplitude, scores, write_all
from jinja2 import UndefinedError

from mousai.report import claims, page, tables, thresholds
from mousai.report.build import BEGIN, END, SECTIONS, build, front_page
from mousai.report.record import Report
from mousai.report.results import Results
from mousai.report.table3 import table3
from mousai.report.verdicts import (
    DIFFERENT,
    DIRECTION,
    NOT_COMPARABLE,
    NOT_REACHED,
    NOT_RUN,
    PROXY,
    QUOTED,
    REACHED,
    SAME,
    UNDECIDED,
    number,
)


def hashes(out: Path) -> dict[str, str]:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    return {path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_report_is_redrawn_byte_for_byte(tmp_path):
    write_all(tmp_path)
    build(tmp_path, "smoke")
    first = hashes(tmp_path)
    build(tmp_path, "smoke")
    assert hashes(tmp_path) == first
    assert {"README.md", "tables/table_4.csv", "tables/table_4.md", "figures/figure_5.png"} <= first.keys()


def test_the_page_begins_with_links_to_all_its_sections(tmp_path):
    write_all(tmp_path)
    page = build(tmp_path, "smoke").read_text("utf-8")
    links = page.partition("\n## ")[0].splitlines()[-1].split(" · ")
    assert [link.partition("]")[0].lstrip("[") for link in links] == re.findall(r"^## (.+)$", page, re.MULTILINE)
    assert links[0] == "[The paper's claims](#the-papers-claims)"
    assert "| claim" in "".join(page.splitlines(keepends=True)[:10])


def test_the_summary_indexes_every_metric_with_its_file(tmp_path):
    write_all(tmp_path)
    build(tmp_path, "smoke")
    summary = json.loads((tmp_path / "results" / "summary.json").read_text())
    assert summary["table4.made_up"] == {
        "value": 0.5,
        "low": 0.4,
        "high": 0.6,
        "n": 7,
        "file": "results/06_clap_score.json",
    }
    assert len(summary) == 6 + len(claims.CLAIMS) + 1
    assert summary["report.minutes"]["n"] == 6 and summary["report.minutes"]["processors"] != [""]
    assert summary["claims.ten_steps"] == {"outcome": "not tested", "confidence": "none"}


def test_without_results_of_a_lesson_its_rows_say_not_run_and_why(tmp_path):
    Report("01_v_diffusion", "smoke", tmp_path, device="cpu").done()
    build(tmp_path, "smoke")
    results = Results.read(tmp_path, "smoke")
    for key, rows in SECTIONS.items():
        for row in rows(results):
            assert row.verdict == (claims.NOT_TESTED if key == "claims" else NOT_RUN) or row.verdict == QUOTED, (
                key,
                row,
            )
            assert row.verdict != NOT_RUN or row.ours == "not run", (key, row)
            assert row.rule.strip(), (key, row)
        assert sum(row.verdict == QUOTED for row in rows(results)) <= 1, key
    assert "00_text2music has no result here" in (tmp_path / "README.md").read_text()


def test_the_rows_are_the_papers_whether_run_or_not(tmp_path):
    write_all(tmp_path / "all")
    Report("01_v_diffusion", "smoke", tmp_path / "none", device="cpu").done()
    full, empty = Results.read(tmp_path / "all", "smoke"), Results.read(tmp_path / "none", "smoke")
    for key in ("table1", "table2", "table3", "table4", "table5", "figure6", "claims"):
        assert [(row.item, row.paper) for row in SECTIONS[key](full)] == [
            (row.item, row.paper) for row in SECTIONS[key](empty)
        ]


def test_the_papers_rival_is_held_against_the_papers_size_and_never_against_the_small_model(tmp_path):
    write_all(tmp_path)
    ratio = "Riffusion's time over Moûsai's, per second of music"

    def rows(*others: dict) -> dict[str, tuple[str, str]]:
        path = tmp_path / "results" / "09_time_and_memory.json"
        result = json.loads(path.read_text())
        result["data"]["table3"] = {"rows": [*TABLE3["rows"], *others], "not_run": {"riffusion": "ask for it"}}
        path.write_text(json.dumps(result))
        return {row.item: (row.ours, row.verdict) for row in table3(Results.read(tmp_path, "smoke"))}

    timed = {"how": "per call x calls", "memory_gb": 5.0, "steps": 50, "threads": 2, "device": "cpu"}
    size = timed | {"system": "paper_size", "seconds": 600.0, "time_per_audio": 12.0}
    slow = timed | {"system": "riffusion", "seconds": 3000.0, "time_per_audio": 60.0}
    alone, both = rows(), rows(size, slow)
    assert alone.keys() == both.keys()
    assert alone[ratio] == alone["inference time, Riffusion"] == ("not run", "not run")
    assert both[ratio] == ("5 (50 steps against 50 steps)", "same direction")
    assert both["inference time, Moûsai at the paper's size"] == ("600 s", NOT_COMPARABLE)
    assert both["memory, Moûsai at the paper's size"] == ("5 GB", NOT_COMPARABLE)
    runs = {"n": 5, "seconds_quartiles": [500.0, 700.0], "audio_seconds": 50.0, "calls": {"tcld": 100}}
    assert rows(size | runs)["inference time, Moûsai at the paper's size"][0] == "600 [quartiles 500, 700] s, n 5"
    assert rows(size | runs)["time/audio, Moûsai at the paper's size"][0] == "12 [quartiles 10, 14], n 5"
    assert rows(size | runs)["memory, Moûsai at the paper's size"][0] == "5 GB, n 5"
    assert rows(size, slow | {"time_per_audio": 6.0})[ratio] == ("0.5 (50 steps against 50 steps)", "different")


def test_in_domain_scores_never_meet_the_papers_clap_numbers(tmp_path):
    write_all(tmp_path)
    rows = tables.table4(Results.read(tmp_path, "smoke"))
    laion = [row for row in rows if "LAION" in row.item]
    assert [row.verdict for row in laion] == [NOT_RUN] * 3
    assert laion[0].rule == "no LAION-CLAP checkpoint in the cache"
    judged = next(row for row in rows if "in-domain" in row.item)
    assert "0.13" not in judged.paper and "never compared" in judged.rule and judged.verdict == PROXY


def test_riffusions_rows_are_numbers_where_its_clips_were_classified(tmp_path):
    """In the paper its clips are mostly classified as Pop; and LAION's model may have scored both systems."""
    write_all(tmp_path)
    values = {"generated": 0.13, "riffusion": 0.5}
    laion = [{"row": row, "model": "LAION-CLAP", "value": value, "n": 40} for row, value in values.items()]
    report = Report("06_clap_score", "smoke", tmp_path, device="cpu")
    report.data("table4", scores(0.4, 0.1) + laion)
    report.done()
    pop, mfcc = np.zeros((4, 4), int), np.full((4, 4), 2)
    pop[:, GENRES.index("Pop")] = 8
    answers = {"in_domain": {"riffusion": pop}, "mfcc": {"riffusion": mfcc}, "people": {"riffusion": pop}}
    report = Report("07_genre_confusion", "smoke", tmp_path, device="cpu")
    report.data("figure5", {"genres": GENRES, "matrices": answers})
    report.done()
    results = Results.read(tmp_path, "smoke")
    said = {row.item: row for row in tables.figure5(results) + tables.table4(results)}
    assert said["Riffusion, classified by people"].verdict == DIRECTION  # the paper asked people
    assert said["Riffusion, classified by people"].ours == "100 % of 32 classified as Pop; chance 25 %"
    programs = ("the in-domain model", "MFCC statistics")
    assert [said[f"Riffusion, classified by {who}"].verdict for who in programs] == [PROXY] * 2
    assert said["Riffusion, classified by MFCC statistics"].ours.startswith("does not hold: ")
    for name, shown in (("Moûsai", "0.13"), ("Riffusion", "0.5")):  # other music, another checkpoint
        row = said[f"{name}, LAION-CLAP"]
        assert (row.ours, row.verdict) == (shown, NOT_COMPARABLE)
    assert said["Moûsai above Riffusion, LAION-CLAP"].verdict == DIFFERENT


def test_ratings_are_not_run_because_they_are_peoples(tmp_path):
    write_all(tmp_path)
    rows = tables.table5(Results.read(tmp_path, "smoke"))
    ratings = [row for row in rows if row.item.split(",")[0] in ("fidelity", "melody", "harmony", "clarity")]
    assert len(ratings) == 4 and all(row.verdict == NOT_RUN and "people's" in row.rule for row in ratings)
    quoted = [row for row in rows if row.verdict == QUOTED]
    assert len(quoted) == 1 and "melody Musika 3.21" in quoted[0].paper and "Moûsai" not in quoted[0].paper


def test_music_is_nearer_to_music_than_noise_is_through_each_embedding(tmp_path):
    write_all(tmp_path)
    near = [row for row in tables.table5(Results.read(tmp_path, "smoke")) if row.item.startswith("generated is near")]
    assert [row.verdict for row in near] == [PROXY] * 4 and "kernel, MFCC" in near[3].item
    assert all(row.ours.startswith("holds: ") for row in near)
    assert tables.nearer_than_noise("MFCC statistics", {}, "why").rule == "why"


def test_a_number_within_ten_percent_is_the_same_and_beyond_different():
    assert number("x", 49.2, "B", 49.2 * 1.099).verdict == SAME
    assert number("x", 49.2, "B", 49.2 * 1.101).verdict == DIFFERENT
    assert number("x", 49.2, "B", 49.2 * 0.899).verdict == DIFFERENT
    assert number("x", 49.2, "B", None, rule="why").verdict == NOT_RUN


def test_overlapping_intervals_are_no_direction():
    rows = {row["row"]: row for row in scores(0.4, 0.31)}
    assert tables.follows_prompt(rows, "").ours.startswith("does not hold: ")
    rows = {row["row"]: row for row in scores(0.4, 0.29)}
    assert tables.follows_prompt(rows, "").ours.startswith("holds: ")


def test_figure_5_shows_each_model_between_chance_and_real_music():
    models = {"ours": (2 * np.eye(4, dtype=int)).tolist(), "real": (3 * np.eye(4, dtype=int)).tolist()}
    measured = {"tcld.genre_accuracy.in_domain": {"low": 0.9, "high": 1.0}}
    assert tables.accuracies(models, "in_domain", measured) == "ours 1 [0.9, 1], n 8; real 1, n 12; chance 0.25"


def test_the_diagonal_must_win_every_row():
    counts = np.eye(4, dtype=int) * 5 + 1
    assert tables.on_diagonal("x", "claim", counts, "").verdict == DIRECTION
    counts[2, 3] = 6  # a tie
    assert tables.on_diagonal("x", "claim", counts, "").verdict == DIFFERENT
    assert tables.on_diagonal("x", "claim", counts, "1", people=False).ours == "does not hold: 1"


@pytest.mark.parametrize(
    ("profile_of", "verdicts"),
    [
        ([0.2, 0.2, 0.2, 0.2], [UNDECIDED, UNDECIDED, UNDECIDED]),  # flat
        ([0.3, 0.2, 0.2, 0.1], [DIFFERENT, DIFFERENT, DIRECTION]),  # begins loud
        ([0.185, 0.2, 0.2, 0.1], [UNDECIDED, UNDECIDED, DIRECTION]),  # rises within the intervals
    ],
)
def test_intro_body_and_ending_are_judged_by_differences(tmp_path, profile_of, verdicts):
    report = Report("08_long_term_amplitude", "smoke", tmp_path, device="cpu")
    report.data("figure6", amplitude(profile_of))
    report.done()
    assert [row.verdict for row in tables.figure6(Results.read(tmp_path, "smoke"))] == [*verdicts, NOT_RUN]


def test_a_number_that_is_not_finite_is_refused(tmp_path):
    report = Report("06_clap_score", "smoke", tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"'clap\.x'.*nan.*not_run"):
        report.metric("clap.x", float("nan"))
    with pytest.raises(ValueError, match="low is inf"):
        report.metric("clap.x", 0.1, low=float("inf"))


def test_audio_keeps_its_loudness_and_says_where_it_clips(tmp_path, capsys):
    import soundfile

    report = Report("06_clap_score", "smoke", tmp_path, device="cpu")
    wave = 0.25 * torch.sin(torch.arange(96_000) * 2 * torch.pi * 440 / 48_000).repeat(2, 1)
    report.audio(wave, "quiet", seconds=1)
    kept, rate = soundfile.read(tmp_path / "audio" / "06_quiet.ogg")
    assert rate == 48_000 and kept.shape == (48_000, 2)
    np.testing.assert_allclose(np.abs(kept).max(), 0.25, atol=0.02)
    assert capsys.readouterr().out == ""
    report.audio(wave * 8, "loud")
    assert "beyond 1 and are clipped" in capsys.readouterr().out


def test_figures_of_two_lessons_never_share_a_name_and_their_hashes_are_recorded(tmp_path):
    fig, ax = plt.subplots()
    ax.plot([0, 1], [0, 1])
    for notebook in ("04_dmae_training", "05_tcld_training"):
        report = Report(notebook, "smoke", tmp_path, device="cpu")
        report.figure(fig, "loss")
        report.done()
    plt.close(fig)
    result = json.loads((tmp_path / "results" / "05_tcld_training.json").read_text())
    path = tmp_path / "figures" / "05_loss.png"
    assert result["artefacts"] == {"figures/05_loss.png": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert (tmp_path / "figures" / "04_loss.png").exists()


def test_results_of_another_profile_are_refused(tmp_path):
    Report("01_v_diffusion", "cpu", tmp_path, device="cpu").done()
    with pytest.raises(ValueError, match=r"01_v_diffusion\.json: of profile 'cpu', not 'smoke'"):
        build(tmp_path, "smoke")


def test_results_of_another_version_are_refused_with_the_command_that_makes_them_again(tmp_path):
    write_all(tmp_path)
    path = tmp_path / "results" / "06_clap_score.json"
    result = json.loads(path.read_text())
    del result["format"]
    path.write_text(json.dumps(result))
    with pytest.raises(
        ValueError, match=r"06_clap_score\.json: .* another version .*: run `mousai reproduce --profile smoke`"
    ):
        build(tmp_path, "smoke")
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"06_clap_score\.json: no result of a notebook"):
        build(tmp_path, "smoke")


def test_a_page_says_nothing_that_was_not_given_to_its_template():
    with pytest.raises(UndefinedError, match="'profile' is undefined"):
        page.render("report.md", paper={})


def test_a_folder_without_results_names_the_command_that_makes_them(tmp_path):
    with pytest.raises(FileNotFoundError, match="mousai reproduce --profile smoke"):
        build(tmp_path, "smoke")


def verdicts(metrics: dict[str, float], reasons: dict[str, str] | None = None) -> dict[str, tuple[str, str]]:
    """metric (or what it is a ratio of) -> (verdict, ours) of every threshold."""
    flat = {name: {"value": value, "low": None, "high": None, "n": 9} for name, value in metrics.items()}
    rows = [(one, thresholds.row(one, flat, reasons or {})) for one in thresholds.THRESHOLDS]
    return {one.metric + ("/" if one.over else ""): (row.verdict, row.ours) for one, row in rows}


def test_a_threshold_is_reached_at_its_limit_and_missed_just_beyond():
    assert verdicts({"dmae.latent_gain": 1.3})["dmae.latent_gain"] == (REACHED, "1.3")
    assert verdicts({"dmae.latent_gain": 1.299})["dmae.latent_gain"][0] == NOT_REACHED
    assert verdicts({"level.clipped": 0.001})["level.clipped"][0] == NOT_REACHED
    for value, verdict in ((-3.0, REACHED), (-3.01, NOT_REACHED), (3.0, REACHED), (3.01, NOT_REACHED)):
        assert verdicts({"level.db": value})["level.db"][0] == verdict


def test_a_ratio_wants_both_numbers_and_one_above_zero():
    fd, pca = "dmae.fd.in_domain", "dmae.fd.in_domain.pca_griffin_lim"
    assert verdicts({fd: 0.2, pca: 0.4})[f"{fd}/"] == (REACHED, "0.2 / 0.4 = 0.5")
    assert verdicts({fd: 0.3, pca: 0.4})[f"{fd}/"][0] == NOT_REACHED
    assert verdicts({fd: 0.3, pca: 0.0})[f"{fd}/"] == verdicts({fd: 0.3})[f"{fd}/"] == (NOT_RUN, "not run")


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.9, 1.0, REACHED), (0.89, 0.97, UNDECIDED), (0.8, 0.89, NOT_REACHED)]
)
def test_the_whole_interval_decides_a_threshold(low, high, verdict):
    one = thresholds.Threshold("x", "a", "at least", 0.9)
    assert thresholds.decide(one, {"a": {"value": 0.9, "low": low, "high": high, "n": 9}}, {}).verdict == verdict


def test_a_size_is_of_the_end_that_lies_farther_from_zero():
    one = thresholds.Threshold("x", "a", "at most", 3, size=True)
    spans = {(-2.9, 2): REACHED, (-3.1, 2): UNDECIDED, (-5, -3.1): NOT_REACHED, (1, 3): REACHED}
    for (low, high), verdict in spans.items():
        assert thresholds.decide(one, {"a": {"value": low, "low": low, "high": high, "n": 9}}, {}).verdict == verdict


def test_a_ratio_has_the_widest_interval_of_its_two_numbers():
    one = thresholds.Threshold("x", "a", "at least", 0.8, "b")
    metrics = {"a": {"value": 4, "low": 3, "high": 5, "n": 9}, "b": {"value": 4, "low": 2, "high": 6, "n": 9}}
    found = thresholds.decide(one, metrics, {})
    assert (found.shown, found.verdict) == ("4 / 4 = 1 [0.5, 2.5]", UNDECIDED)
    unsure = {"a": metrics["a"], "b": metrics["b"] | {"low": -1}}
    assert thresholds.decide(one, unsure, {}).shown == "4 / 4 = 1 [0, inf]"


def test_every_threshold_has_its_reason_and_the_day_it_was_set():
    assert all(re.search(r"\w{4}.*; 20\d\d-\d\d-\d\d$", one.why) for one in thresholds.THRESHOLDS)


def test_every_threshold_stands_in_the_report_and_on_the_front_page_run_or_not(tmp_path):
    write_all(tmp_path)
    report = Report("07_genre_confusion", "smoke", tmp_path, device="cpu")
    report.metric("tcld.genre_accuracy.in_domain", 0.95, 0.9, 1.0, n=80)
    report.not_run("dmae.genre_kept", "nothing is classified correctly")
    report.done()
    build(tmp_path, "smoke")
    page = tmp_path / "front.md"
    page.write_text(f"head\n{BEGIN}\nyesterday\n{END}\ntail\n")
    front_page(tmp_path, "smoke", page)
    for text in ((tmp_path / "README.md").read_text(), page.read_text()):
        assert thresholds.TITLE in text and all(one.item in text for one in thresholds.THRESHOLDS)
        assert "0.95 [0.9, 1]" in text and "**reached**" in text and "yesterday" not in text
    assert "nothing is classified correctly" in (tmp_path / "tables" / "thresholds.md").read_text()
    assert (tmp_path / "tables" / "thresholds.csv").read_text().startswith("item,threshold,ours,verdict,")


def test_thresholds_are_not_counted_among_the_papers_verdicts(tmp_path):
    write_all(tmp_path)
    build(tmp_path, "smoke")
    results = Results.read(tmp_path, "smoke")
    tables_alone = {key: rows for key, rows in SECTIONS.items() if key not in ("claims", "thresholds")}
    missing = sum(row.verdict == NOT_RUN for rows in tables_alone.values() for row in rows(results))
    line = next(x for x in (tmp_path / "README.md").read_text().splitlines() if x.startswith("| not run"))
    assert [cell.strip() for cell in line.split("|")][2] == str(missing)
