"""The listening test: a blind page, its key apart, answers checked and counted, and a click-through in Chromium."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest
import soundfile
import torch
from helpers.browser import PROGRAM, Page
from helpers.listeners import GOOD, MODELS, RATE, by_hand, key_of, made_up, run, told, write_answers
from numpy.testing import assert_allclose

from mousai.config import GENRES
from mousai.listening import page as listening

# The clips.


def test_levels_are_the_same_and_all_give_way_to_the_one_with_the_highest_peak():
    rng = np.random.default_rng(0)
    waves = [size * rng.standard_normal((2, 4800)).astype(np.float32) for size in (0.01, 0.3)]
    assert_allclose([np.sqrt((w**2).mean()) for w in listening.levelled(waves)], 0.1, rtol=1e-5)
    click = np.full((2, 4800), 1e-3, np.float32)
    click[:, 100] = 1.0  # RMS sqrt((1 + 4799e-6) / 4800) = 0.014468: at RMS 0.1 its peak would stand at 6.9
    level = 0.9 * math.sqrt((1 + 4799e-6) / 4800)
    out = listening.levelled([*waves, click])
    assert_allclose([np.sqrt((w**2).mean()) for w in out], level, rtol=1e-4)
    assert_allclose(np.abs(out[2]).max(), 0.9, rtol=1e-4)


def test_a_clip_is_the_middle_ten_seconds_faded_at_both_ends():
    w = torch.arange(12 * RATE, dtype=torch.float32).repeat(2, 1) + 1
    cut = listening.excerpt(w, RATE)
    assert cut.shape == (2, 10 * RATE)
    assert_allclose(cut[:, 5 * RATE], w[:, 6 * RATE])
    assert cut[0, 0] == cut[0, -1] == 0
    assert_allclose(cut[0, 1200], 0.5 * w[0, RATE + 1200], rtol=1e-4)  # half way up after 25 ms
    assert listening.excerpt(w[:, :1000], RATE).shape == (2, 1000)


@pytest.mark.parametrize("w", [torch.zeros(2, 100), torch.full((2, 100), torch.nan)])
def test_silence_has_no_level(w):
    with pytest.raises(ValueError, match="silent or not finite"):
        listening.excerpt(w)


def test_every_model_has_as_many_clips_of_every_genre_and_no_tune_twice_where_there_are_others():
    sets = {model: made_up(model) for model in MODELS}
    same = [clip.title for clip in listening.choose({"a": sets["ours"], "b": sets["ours"]}, 1, 0)]
    assert len(set(same)) == 8  # the second draw takes the tunes that the first left
    chosen = listening.choose(sets, 1, 0)
    pairs = [(clip.model, clip.genre) for clip in chosen]
    assert pairs == [(model, genre) for model in MODELS for genre in GENRES]
    assert len(listening.choose(sets, 9, 0)) == 24  # all there are
    assert [c.title for c in listening.choose(sets, 1, 1)] != [c.title for c in chosen]


def test_what_is_in_the_page_is_played_at_one_level(held):
    sounds = told((held / "listen.html").read_text())["clips"].values()
    waves = [soundfile.read(io.BytesIO(base64.b64decode(sound)))[0] for sound in sounds]
    rms = [float(np.sqrt((w**2).sum() / (2 * 38_400))) for w in waves]  # MP3 adds silence around the clip
    assert len(waves) == 12
    assert_allclose(rms, rms[0], rtol=0.02)
    assert max(np.abs(w).max() for w in waves) < 1


# Blind.


def test_the_page_tells_neither_model_nor_genre_nor_tune_of_a_clip(held):
    page, key = (held / "listen.html").read_text(), key_of(held)
    data = told(page)
    assert set(data) == {"study", "genres", "ratings", "clips"}
    for sound in data["clips"].values():
        page = page.replace(sound, "")
    words = set(re.findall(r"[a-z0-9_]+", page.lower()))
    assert not words & {*MODELS, "generated", "baseline", "mousai", "prompt", "smoke"}
    for clip in key["clips"].values():
        assert clip["title"] not in page and clip["prompt"] not in page
    for genre in GENRES:
        assert page.count(genre) == 1  # in the list to choose from
    assert not any(b"Tune" in base64.b64decode(sound) for sound in data["clips"].values())


def test_clips_stand_in_an_order_that_says_nothing_and_another_seed_gives_other_names(held):
    names = list(told((held / "listen.html").read_text())["clips"])
    assert names == sorted(names) and all(re.fullmatch("[0-9a-f]{12}", name) for name in names)
    chosen = listening.choose({model: made_up(model) for model in MODELS}, 1, 5)
    again, other = (listening.study(chosen, "smoke", seed)[1] for seed in (5, 6))
    assert list(again["clips"]) == names and not set(other["clips"]) & set(names)
    assert again["study"] != other["study"]


def test_the_page_needs_no_network(held):
    page = (held / "listen.html").read_text()
    assert "default-src 'none'" in page
    assert not re.search(r"https?:|//[a-z]+\.|src=|href=\"", page)


def test_the_study_is_known_by_its_key(held):
    key = key_of(held)
    assert listening.digest(key) == key["study"] == told((held / "listen.html").read_text())["study"]
    one = next(iter(key["clips"].values()))
    one["genre"] = GENRES[GENRES.index(one["genre"]) - 1]
    assert listening.digest(key) != key["study"]


def test_two_clips_that_sound_the_same_are_refused():
    chosen = listening.choose({"ours": made_up("ours")}, 1, 0)
    with pytest.raises(ValueError, match=r"ours, 'Electronic.*sounds exactly as another clip"):
        listening.study([*chosen, chosen[0]], "smoke", 0)
    with pytest.raises(ValueError, match="no clip to listen to"):
        listening.study([], "smoke", 0)


# The answers.


REFUSED = {
    "damaged": ("{", "not readable as JSON: ask its listener to save once more"),
    "not text": (b"\xff\xfe\x00", "not readable as JSON"),
    "a list": ("[]", "no answers of a listening test"),
    "no listener": ({"listener": ""}, "no answers of a listening test"),
    "another study": ({"study": "0" * 12}, "of study '000000000000', not '"),
    "nothing": ({"answers": {}}, "holds no answer"),
    "unknown clip": ({"answers": {"ffff": GOOD}}, "clip 'ffff': not in this study"),
    "unknown genre": (GOOD | {"genre": "Jazz"}, "genre 'Jazz' is not one of Electronic, Hip Hop, Metal, Pop"),
    "no genre": ({"fidelity": 3}, "genre None is not one of"),
    "rating 0": (GOOD | {"fidelity": 0}, "fidelity is 0, not a whole number from 1 to 5"),
    "rating 6": (GOOD | {"clarity": 6}, "clarity is 6, not"),
    "half": (GOOD | {"melody": 2.5}, "melody is 2.5, not"),
    "true": (GOOD | {"harmony": True}, "harmony is True, not"),
    "words": (GOOD | {"harmony": "5"}, "harmony is '5', not"),
    "missing": ({name: value for name, value in GOOD.items() if name != "melody"}, "melody is None, not"),
}


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_a_bad_file_is_one_line_and_nothing_is_written(held, tmp_path, capsys, content, said):
    good, clip = by_hand(held)[0], next(iter(key_of(held)["clips"]))
    if isinstance(content, dict):
        fields = content if content.keys() & {"study", "answers", "listener"} else {"answers": {clip: content}}
        bad = write_answers(held, "cc", {clip: GOOD}, **fields)
    else:
        bad = held / "answers-cc.json"
        bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert run("--collect", good, bad, "--out", held, "--report", tmp_path / "report") == 2
    error = capsys.readouterr().err
    assert said in error and str(bad) in error and error.count("\n") == 1
    assert not (tmp_path / "report").exists()


def test_one_listener_twice_is_refused(held, tmp_path, capsys):
    first, _ = by_hand(held)
    assert run("--collect", first, first, "--out", held, "--report", tmp_path / "report") == 2
    assert "listener aa is in" in capsys.readouterr().err


# In a browser.


@pytest.fixture
def page(held, tmp_path):
    if PROGRAM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    chromium = Page(tmp_path)
    yield chromium
    chromium.close()


HEARD = "!document.getElementById('genre').disabled"
TITLE = "document.getElementById('title').textContent"


def current(page) -> str:
    return page.get("order[state.at]")


def option(name: str, value: object) -> str:
    return f"document.querySelector('input[name={name}][value=\"{value}\"]').parentElement"


def chosen(page) -> list:
    return page.get("QUESTIONS.map((n) => document.querySelector(`input[name=${n}]:checked`)?.value ?? '')")


@pytest.mark.system
def test_a_listener_clicks_through_and_the_answers_become_rows(held, tmp_path, page):
    key, url = key_of(held), (held / "listen.html").as_uri()
    page.open(url)
    assert "12 short clips" in page.get("document.body.innerText.replace(/\\s+/g, ' ')")
    assert "kept in this browser" in page.get("document.querySelector('.kept').textContent")
    page.click("document.getElementById('begin')")
    page.until(f"{TITLE} === 'Clip 1 of 12'")

    # By keyboard; nothing can be said of a clip before it was played.
    page.press("1", "5", "Enter")
    assert chosen(page) == [""] * 5 and page.get(TITLE) == "Clip 1 of 12"
    page.press(" ")
    page.until(HEARD)
    page.until("audio.ended")
    page.press("5")  # there is no fifth genre
    page.press("3", "4", "2", "5", "1")
    assert chosen(page) == ["Metal", "4", "2", "5", "1"]
    page.press("Backspace", "Backspace", "3", "3", "1")
    assert chosen(page) == ["Metal", "4", "2", "3", "3"]
    expected = {current(page): ["Metal", 4, 2, 3, 3]}
    page.press("Enter")
    page.until(f"{TITLE} === 'Clip 2 of 12'")

    # By mouse.
    page.click("document.getElementById('play')")
    page.until(HEARD)
    for name, value in zip(("genre", *listening.RATINGS), ("Hip Hop", 5, 4, 3, 2), strict=True):
        page.click(option(name, value))
    expected[current(page)] = ["Hip Hop", 5, 4, 3, 2]
    assert chosen(page) == ["Hip Hop", "5", "4", "3", "2"]
    page.get(f"{option('clarity', 2)}.firstChild.focus()")
    page.press("ArrowLeft")  # within a group of radio buttons it is theirs, and rates lower
    assert chosen(page)[-1] == "1"
    page.click(option("clarity", 3))
    expected[current(page)][-1] = 3
    page.until("document.activeElement.id === 'title'")
    page.press("ArrowLeft")  # after a click it is the page's again
    assert page.get(TITLE) == "Clip 1 of 12" and chosen(page) == ["Metal", "4", "2", "3", "3"]
    page.press("Enter", "Enter")
    assert page.get(TITLE) == "Clip 3 of 12"
    page.click("document.getElementById('back')")
    assert page.get(TITLE) == "Clip 2 of 12"
    page.click("document.getElementById('next')")

    # A reload midway: the same clip, the same order, what was chosen.
    page.press(" ")
    page.until(HEARD)
    page.press("2", "5")
    before = page.get("[state.listener, order, state.at]")
    page.reload()
    assert page.get("[state.listener, order, state.at]") == before
    assert page.get(TITLE) == "Clip 3 of 12" and chosen(page) == ["Hip Hop", "5", "", "", ""]
    page.press("1", "1", "1")
    expected[current(page)] = ["Hip Hop", 5, 1, 1, 1]

    # Stopping early is possible: the three that are answered.
    listener = before[0]
    page.click("document.getElementById('part')")
    saved = tmp_path / "downloads" / f"answers-{listener}.json"
    page.wait(lambda: saved.is_file() and saved.stat().st_size)
    assert "3 of 12 clips" in page.get("document.getElementById('say').textContent")
    assert len(json.loads(saved.read_text())["answers"]) == 3
    saved.unlink()

    # The rest: everything as asked.
    page.press("Enter")
    for i in range(4, 13):
        page.until(f"{TITLE} === 'Clip {i} of 12'")
        page.press(" ")
        page.until(HEARD)
        genre = key["clips"][current(page)]["genre"]
        page.press(str(GENRES.index(genre) + 1), "1", "2", "3", "4")
        expected[current(page)] = [genre, 1, 2, 3, 4]
        page.press("Enter")
    page.until("!document.getElementById('end').hidden")
    page.press("Enter")  # the button to save has the focus
    page.wait(lambda: saved.is_file() and saved.stat().st_size)
    content = json.loads(saved.read_text())
    names = ("genre", *listening.RATINGS)
    assert content["answers"] == {clip: dict(zip(names, said, strict=True)) for clip, said in expected.items()}
    assert not page.errors and all(request.startswith(("file:", "blob:", "data:")) for request in page.requests)

    assert run("--collect", saved, "--out", held, "--report", tmp_path / "report") == 0
    result = json.loads((tmp_path / "report" / "results" / "listening.json").read_text())
    for model in MODELS:
        own = [clip for clip in expected if key["clips"][clip]["model"] == model]
        name = "" if model == "ours" else f".{model}"
        right = sum(expected[clip][0] == key["clips"][clip]["genre"] for clip in own)
        assert result["metrics"][f"genre_accuracy{name}.people"]["value"] == right / 4
        mean = sum(expected[clip][1] for clip in own) / 4
        assert result["metrics"][f"ratings.fidelity{name}"]["value"] == mean


@pytest.mark.system
def test_another_listener_hears_another_order(held, page):
    page.open((held / "listen.html").as_uri())
    first = page.get("[state.listener, ...order]")
    page.get("localStorage.clear()")
    page.reload()
    other = page.get("[state.listener, ...order]")
    assert first[0] != other[0] and first[1:] != other[1:] and sorted(first[1:]) == sorted(other[1:])
    assert sorted(first[1:]) == sorted(key_of(held)["clips"])


@pytest.mark.system
def test_without_storage_the_page_works_and_says_that_progress_is_not_kept(held, page):
    block = (
        "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError'); } })"
    )
    page.call("Page.addScriptToEvaluateOnNewDocument", source=block)
    page.open((held / "listen.html").as_uri())
    assert "does not keep progress" in page.get("document.querySelector('.kept').textContent")
    page.press("Enter", " ")
    page.until(HEARD)
    page.press("1", "1", "1", "1", "1", "Enter")
    assert page.get(TITLE) == "Clip 2 of 12" and not page.errors
