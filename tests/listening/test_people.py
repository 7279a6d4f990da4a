"""People's answers: counted as by hand, never without their key, and in the report where they were given."""

import json
from dataclasses import replace

import numpy as np
import pytest
from helpers.listeners import GOOD, by_hand, key_of, made_up, run, told, write_answers
from numpy.testing import assert_allclose

from mousai.config import GENRES
from mousai.data.records import read_manifest, write_manifest
from mousai.listening import answers as people
from mousai.listening import page as listening
from mousai.report import tables
from mousai.report.build import build
from mousai.report.record import Report
from mousai.report.results import Results
from mousai.report.verdicts import DIFFERENT, NOT_RUN, QUOTED, SAME
from mousai.small.profiles import SMOKE


def test_listen_says_what_it_wrote_and_never_overwrites_the_key_of_another_study(held, capsys):
    assert run("--profile", "smoke", "--per-genre", "1", "--seed", "5", "--out", held) == 0  # the same once more
    size = (held / "listen.html").stat().st_size / 1e6
    said = (
        f"listen.html: 12 clips (ours 4, real 4, unconditional 4), {size:.1f} MB: give people this file, not key.json"
    )
    assert said in capsys.readouterr().out
    before = key_of(held)
    assert run("--profile", "smoke", "--per-genre", "1", "--seed", "6", "--out", held) == 2
    assert "holds another study" in capsys.readouterr().err
    assert key_of(held) == before and sorted(p.name for p in held.iterdir()) == ["key.json", "listen.html"]


def test_answers_are_counted_as_by_hand(held, tmp_path, capsys):
    out = tmp_path / "report"
    assert run("--collect", *by_hand(held), "--out", held, "--report", out) == 0
    said = capsys.readouterr().out
    assert "listening.json: clips answered, of 12, by listener: aa 8, bb 4" in said
    result = json.loads((out / "results" / "listening.json").read_text())
    metrics, figure5 = result["metrics"], result["data"]["figure5"]
    assert figure5["matrices"]["people"]["ours"] == [[2, 0, 0, 0], [1, 1, 0, 0], [0, 0, 2, 0], [0, 0, 1, 1]]
    assert figure5["matrices"]["people"]["real"] == np.eye(4).tolist()
    assert (metrics["genre_accuracy.people"]["value"], metrics["genre_accuracy.people"]["n"]) == (0.75, 8)
    assert metrics["genre_accuracy.real.people"]["value"] == 1
    fidelity = metrics["ratings.fidelity"]
    assert (fidelity["value"], fidelity["n"], fidelity["clips"], fidelity["listeners"]) == (3.75, 8, 4, 2)
    assert 3 <= fidelity["low"] < 3.75 < fidelity["high"] <= 4.5  # the means of clips are 3, 3.5, 4, 4.5
    assert [metrics[f"ratings.{name}"]["value"] for name in ("melody", "harmony", "clarity")] == [3, 1, 4]
    assert metrics["ratings.clarity.real"]["value"] == 2
    # Of the four clips both heard they agree on two; by chance on (1*2 + 2*1) / 16: kappa = (1/2 - 1/4) / (3/4).
    kappa = metrics["genre.listener_agreement.people"]
    assert_allclose(kappa["value"], 1 / 3, rtol=1e-12)
    assert (kappa["n"], kappa["pairs"]) == (4, 1)
    assert result["not_run"] == {"genre_accuracy.unconditional.people": "no clip of unconditional was answered"}
    assert metrics["genre_accuracy.people"]["tcld_sha256"] == "of ours"
    assert result["provenance"] == key_of(held)["provenance"]


def test_all_answers_about_one_tune_are_drawn_together(held):
    key, answers = key_of(held), listening.answers(by_hand(held), key_of(held))
    for clip in key["clips"].values():
        clip["title"] = "first" if clip["genre"] in ("Electronic", "Metal") else "second"
    metrics = people.results(answers, key, held).metrics
    # Two tunes: a resample is twice the first (one time in four), twice the second, or both. Fidelity of the first is
    # (1 + 3 + 5 + 5) / 4, of the second (2 + 4 + 5 + 5) / 4; all choices are right in the first, half in the second.
    limits = {"ratings.fidelity": (3.5, 4), "genre_accuracy.people": (0.5, 1)}
    assert {name: (metrics[name]["low"], metrics[name]["high"]) for name in limits} == limits
    for clip in key["clips"].values():
        clip["title"] = "the only one"
    metric = people.results(answers, key, held).metrics["ratings.fidelity"]
    assert (metric["value"], metric["low"], metric["high"]) == (3.75, None, None)


def test_a_rating_is_the_same_only_where_its_whole_interval_is():
    def verdict(low, high):
        ours = {"value": 3.17, "low": low, "high": high, "n": 40, "clips": 10, "listeners": 4}
        return tables.rated("fidelity", 3.17, ours).verdict

    assert verdict(2.86, 3.48) == SAME  # the paper's 3.17 with 0.317 on either side
    assert verdict(2.85, 3.48) == verdict(2.86, 3.49) == verdict(None, None) == DIFFERENT


def test_one_listener_agrees_with_nobody(held):
    report = people.results(listening.answers(by_hand(held)[:1], key_of(held)), key_of(held), held)
    assert report.missing["genre.listener_agreement.people"] == "no two listeners heard the same clip"


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "is not there: give the page's folder"), ("{}", "damaged"), ("[1]", "damaged"), ("", "dam")],
)
def test_without_its_key_nothing_is_read(held, tmp_path, capsys, text, said):
    file = by_hand(held)[0]
    (held / "key.json").unlink() if text is None else (held / "key.json").write_text(text)
    assert run("--collect", file, "--out", held, "--report", tmp_path / "report") == 2
    assert said in capsys.readouterr().err and not (tmp_path / "report").exists()


def test_a_key_that_was_changed_is_refused(held, tmp_path, capsys):
    file, key = by_hand(held)[0], key_of(held)
    next(iter(key["clips"].values()))["model"] = "real"
    next(reversed(key["clips"].values()))["model"] = "real"
    (held / "key.json").write_text(json.dumps(key))
    assert run("--collect", file, "--out", held, "--report", tmp_path / "report") == 2
    assert "was changed" in capsys.readouterr().err


def test_without_a_test_split_it_is_one_line_before_anything_is_made(tiny, tiny_data, tmp_path):
    path = tiny_data / "manifest.jsonl"
    write_manifest([replace(record, split="train") for record in read_manifest(path)], path)
    with pytest.raises(ValueError, match="no piece is in the test split, so nothing can be evaluated: import more"):
        people.hold(tiny, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_people_choose_among_the_genres_of_the_music(tmp_path, monkeypatch):
    names = dict(zip(GENRES, ("Nocturne", "Nocturne", "Étude", "Étude"), strict=True))
    sets = {model: made_up(model) for model in ("ours", "real")}
    for model, clips in sets.items():
        prompts = [prompt._replace(genre=names[prompt.genre]) for prompt in clips.prompts]
        sets[model] = replace(clips, prompts=prompts)
    monkeypatch.setattr(people, "systems", lambda work: sets)
    people.hold(SMOKE, tmp_path, per_genre=1)
    key = key_of(tmp_path)
    assert told((tmp_path / "listen.html").read_text())["genres"] == ["Nocturne", "Étude"]
    said = {clip: GOOD | {"genre": about["genre"]} for clip, about in key["clips"].items()}
    people.collect([write_answers(tmp_path, "aa", said)], tmp_path, tmp_path / "report")
    result = json.loads((tmp_path / "report" / "results" / "listening.json").read_text())
    assert result["data"]["figure5"]["genres"] == ["Nocturne", "Étude"]
    assert result["data"]["figure5"]["matrices"]["people"]["ours"] == [[1, 0], [0, 1]]
    accuracy = result["metrics"]["genre_accuracy.people"]
    assert (accuracy["value"], accuracy["chance"]) == (1, 0.5)


# The report.


def test_people_stand_in_figure_5_and_table_5_where_they_were_asked_and_nowhere_else(held, tmp_path):
    out = tmp_path / "report"
    programs = Report("07_genre_confusion", "smoke", out, device="cpu")
    programs.data("figure5", {"genres": GENRES, "matrices": {"in_domain": {"ours": np.eye(4, dtype=int)}}, "kappa": {}})
    programs.not_run("genre_accuracy.people", "no listening test was held")
    programs.done()
    before = Results.read(out, "smoke")
    assert {row.verdict for row in tables.table5(before)} == {NOT_RUN, QUOTED}
    build(out, "smoke")
    absent = (out / "README.md").read_text()
    people.collect(by_hand(held), held, out)
    build(out, "smoke")
    page, results = (out / "README.md").read_text(), Results.read(out, "smoke")
    rows = {row.item: row for row in tables.figure5(results) + tables.table5(results)}
    assert list(rows)[:3] == ["Moûsai, classified by the in-domain model", "Moûsai, classified by people", "Riffusion"]
    heard = rows["Moûsai, classified by people"]
    assert heard.ours == "ours 0.75, n 8; real 1 [1, 1], n 4; chance 0.25"
    assert heard.verdict == DIFFERENT  # Hip Hop and Pop are ties
    assert rows["melody, Moûsai"].ours == "3 [3, 3]" and rows["melody, Moûsai"].verdict == SAME  # 3.15 in the paper
    assert rows["fidelity, Moûsai"].ours.startswith("3.75 [") and rows["fidelity, Moûsai"].verdict == DIFFERENT
    assert "8 ratings, of 4 clips by 2 listeners" in rows["fidelity, Moûsai"].rule
    assert rows["Riffusion and Musika"].verdict == QUOTED
    assert "no listening test was held" in absent and "no listening test was held" not in page
    assert "notebooks/listening.ipynb" not in page and "`ratings.melody.real`" in page
    (out / "results" / "listening.json").unlink()
    build(out, "smoke")
    assert (out / "README.md").read_text() == absent
