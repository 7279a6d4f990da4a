"""The metrics: closed forms, hand-worked cases, and that nothing about them is random."""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.nets import reads
from numpy.testing import assert_allclose
from torch.nn import functional as F
from torch.testing import assert_close

from mousai.bench import efficiency
from mousai.data.embedded import load_records
from mousai.dmae import DMAE, READ_FLOOR
from mousai.encoder import log_magnitude
from mousai.evaluation import (
    clap,
    copying,
    distance,
    genre,
    judge,
    samples,
    statistics,
    structure,
    study,
)
from mousai.evaluation import griffin_lim as yardstick
from mousai.small.profiles import GENRES
from mousai.spectrogram import log_mel_l1, magnitude
from mousai.text import load_text_encoder


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((60, 5))


class Echo:
    """A listener whose vectors are known: sound -> (mean of left, mean of right), text -> its first two numbers."""

    name = "echo"

    def embed_audio(self, w):
        return w.mean(dim=-1)

    def embed_text(self, texts):
        return torch.tensor([[float(part) for part in text.split()] for text in texts])


def clip_set(waves: torch.Tensor, genres: list[str]) -> samples.ClipSet:
    prompts = [samples.Prompt(genre, i % 4 + 1, f"Tune {i}", "1 0") for i, genre in enumerate(genres)]
    return samples.ClipSet("test", prompts, lambda i: waves[i], {})


# statistics


def test_bootstrap_is_the_same_bits_on_a_second_run_and_holds_the_mean(rows):
    first, second = statistics.bootstrap(rows[:, 0], seed=3), statistics.bootstrap(rows[:, 0], seed=3)
    assert first == second
    assert first[1] < first[0] < first[2]
    assert_allclose(first[0], rows[:, 0].mean(), rtol=1e-12)


def test_bootstrap_interval_is_that_of_the_normal_law(rows):
    _, low, high = statistics.bootstrap(np.tile(rows[:, 0], 10))
    assert_allclose(high - low, 2 * 1.96 * rows[:, 0].std() / math.sqrt(600), rtol=0.1)


def test_bootstrap_of_whole_pieces_is_wider_where_chunks_of_a_piece_agree():
    values, titles = np.repeat(np.arange(10.0), 4), [f"tune {i // 4}" for i in range(40)]
    alone, grouped = statistics.bootstrap(values), statistics.bootstrap(values, groups=titles)
    assert grouped[2] - grouped[1] > 1.5 * (alone[2] - alone[1])


def test_bootstrap_of_nothing_says_so():
    with pytest.raises(ValueError, match="bootstrap of 0 values"):
        statistics.bootstrap([])


def test_jackknife_interval_of_a_mean_is_the_textbook_one(rows):
    shifted = rows[:, :1] + 5
    value, low, high = statistics.jackknife(lambda part: float(part.mean()), shifted, blocks=60)
    assert_allclose(high - value, 1.96 * shifted.std(ddof=1) / math.sqrt(60), rtol=1e-9)
    assert_allclose(value - low, high - value, rtol=1e-9)


# Frechet distance


def test_frechet_distance_of_two_gaussians_is_the_closed_form():
    # In one dimension it is (m1 - m2)^2 + (s1 - s2)^2; independent axes add.
    base = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # both standard deviations sqrt(4/3)
    std = math.sqrt(4 / 3)
    a, b = base * [2.0, 0.5] + [1.0, 0.0], base * [3.0, 0.25] + [0.0, -2.0]
    expected = 1 + 4 + std**2 * ((2 - 3) ** 2 + (0.5 - 0.25) ** 2)
    assert_allclose(distance.frechet_distance(a, b), expected, rtol=1e-12)


def test_frechet_distance_agrees_with_the_matrix_square_root(rows):
    from scipy.linalg import sqrtm

    mix = np.random.default_rng(1).standard_normal((5, 5))
    other = rows[::-1] @ mix + 0.3
    (mean_a, cov_a), (mean_b, cov_b) = distance.gaussian(rows), distance.gaussian(other)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(cov_a + cov_b - 2 * sqrtm(cov_a @ cov_b).real)
    assert_allclose(distance.frechet_distance(rows, other), expected, rtol=1e-9)


def test_frechet_distance_is_zero_for_equal_sets_in_any_order(rows):
    assert_allclose(distance.frechet_distance(rows, rows[::-1]), 0, atol=1e-12)


def test_frechet_distance_finds_a_planted_shift(rows):
    assert_allclose(distance.frechet_distance(rows, rows + np.array([3, 0, 0, 4, 0])), 25, rtol=1e-9)


def test_frechet_distance_is_real_and_finite_with_fewer_rows_than_dimensions():
    few = np.random.default_rng(2).standard_normal((2, 6, 40))
    assert 0 < distance.frechet_distance(few[0], few[1]) < 1000


def test_frechet_distance_of_one_row_says_what_it_needs():
    with pytest.raises(ValueError, match="at least 2 rows"):
        distance.frechet_distance(np.zeros((1, 3)), np.zeros((4, 3)))


# genre


def test_kappa_by_hand():
    # Cohen's own kind of example: agreement 0.7; by chance (25*30 + 25*20)/50^2 = 0.5; kappa 0.4.
    matrix = np.array([[20, 5], [10, 15]])
    assert_allclose([genre.accuracy(matrix), genre.kappa(matrix)], [0.7, 0.4], rtol=1e-12)


def test_kappa_is_one_on_the_diagonal_and_zero_where_every_choice_is_the_same():
    assert genre.kappa(np.diag([3, 4, 5, 6])) == 1
    assert_allclose(genre.kappa(genre.confusion(list(GENRES) * 5, ["Pop"] * 20)), 0, atol=1e-12)


def test_confusion_counts_rows_as_true_and_columns_as_chosen():
    matrix = genre.confusion(["Metal", "Metal", "Pop"], ["Pop", "Metal", "Pop"])
    assert matrix[GENRES.index("Metal"), GENRES.index("Pop")] == 1
    assert matrix.sum() == 3 and matrix[GENRES.index("Pop")].tolist() == [0, 0, 0, 1]


def test_confusion_refuses_an_unknown_genre():
    with pytest.raises(ValueError, match="unknown genre 'Jazz'"):
        genre.confusion(["Jazz"], ["Pop"])


def test_mfcc_features_do_not_depend_on_the_channels_order():
    w = 0.1 * torch.randn(2, 24_000, generator=torch.Generator().manual_seed(0))
    assert_allclose(genre.mfcc_features(w), genre.mfcc_features(w.flip(0)), rtol=1e-6)
    assert genre.mfcc_features(w).shape == (40,)


# CLAP score


def test_clap_score_is_the_product_with_each_clips_own_text():
    waves = torch.tensor([[1.0, 0.0], [0.6, 0.8]])[..., None].expand(2, 2, 8)
    assert_allclose(clap.clap_score(Echo(), waves, ["1 0", "0 1"]), [1.0, 0.8], rtol=1e-6)
    with pytest.raises(ValueError, match="one text a sound"):
        clap.clap_score(Echo(), waves, ["1 0"])


def test_score_row_is_the_mean_over_clips_in_any_order():
    waves = torch.arange(8.0)[:, None, None].expand(8, 2, 4)
    forward, backward = clip_set(waves, ["Pop"] * 8), clip_set(waves.flip(0), ["Pop"] * 8)
    row = clap.score_row(Echo(), forward, "real")
    assert_allclose([row["value"], clap.score_row(Echo(), backward, "real")["value"]], 3.5)
    assert row["low"] < 3.5 < row["high"] and row["n"] == 8 and row["judge"] == "echo"


def test_windows_cover_a_clip_from_end_to_end_without_chance():
    w = torch.arange(25.0).expand(2, 25)
    assert [part[0].tolist()[::9] for part in judge.windows(w, 10)] == [[0, 9], [8, 17], [15, 24]]
    assert judge.windows(w, 30).shape == (1, 2, 25) and judge.windows(w, 25).shape == (1, 2, 25)


def test_missing_laion_weights_give_one_line_that_says_what_to_fetch(tmp_path, monkeypatch):
    monkeypatch.setattr(clap, "try_to_load_from_cache", lambda repo, file: None)
    with pytest.raises(FileNotFoundError) as error:
        clap.LaionClap()
    message = str(error.value)
    assert "\n" not in message
    assert all(word in message for word in ("hf download lukewys/laion_clap", "roberta-base", "HF_HOME"))


@pytest.mark.system
def test_laions_own_code_scores_with_a_checkpoint_and_tokenizers_from_the_cache(tmp_path):
    """Random weights and a text tower of two layers; everything else is the package's own, in a fresh process."""
    script = Path(__file__).parents[1] / "helpers" / "laion_for_real.py"
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["missing"] == [True, None] and said["loaded"]
    assert said["shapes"] == [[2, 512], [1, 512]]
    assert_allclose(said["norms"], 1.0, rtol=1e-5)
    assert said["same"] and all(-1 <= score <= 1 for score in said["scores"]) and len(set(said["scores"])) == 2
    named = "LAION-CLAP music_audioset_epoch_15_esc_90.14"
    assert said["context"]["judge"] == f"REHEARSAL, random weights in place of {named}"


# the judge


def no_words(texts: list[str]) -> torch.Tensor:
    return torch.ones(len(texts), 64, 384)


def test_judge_embeds_a_long_clip_as_the_mean_of_its_windows():
    torch.manual_seed(0)
    listener = judge.Judge(judge.JudgeNet().eval(), no_words, "", {})
    w = 0.1 * torch.randn(1, 2, judge.WINDOW + 48_000)
    parts = torch.cat([listener.embed_audio(w[..., : judge.WINDOW]), listener.embed_audio(w[..., -judge.WINDOW :])])
    torch.testing.assert_close(listener.embed_audio(w)[0], parts.mean(dim=0), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(parts.norm(dim=1), torch.ones(2))


def test_judge_loss_is_lowest_where_every_sound_lies_at_its_own_text():
    net = judge.JudgeNet()
    net.audio = lambda mels: torch.eye(4)[:, :4]  # type: ignore[method-assign]
    net.text = lambda states: torch.eye(4)[:, :4]  # type: ignore[method-assign]
    mels, states, generator = torch.zeros(4, 80, 16), torch.zeros(4, 384), torch.Generator()
    right = net(mels, states, torch.eye(4).bool(), generator)
    wrong = net(mels, states, torch.eye(4).roll(1, 0).bool(), generator)
    torch.testing.assert_close(right, torch.log(torch.tensor(1 + 3 * math.exp(-10))), atol=1e-5, rtol=0)
    assert wrong > right + 9


def test_short_texts_are_true_of_every_sound_they_describe(tiny, tiny_data):
    pairs = judge.Pairs(tiny, no_words)
    _, states, true = pairs(0)
    assert true.shape == (8, 8) and true.diagonal().all() and len(states) == 8
    assert all(torch.equal(a, b) for a, b in zip(pairs(5), pairs(5), strict=True))
    genre_column = true[:, true.sum(dim=0) == 4]  # a genre's name is true of the four chunks of its one piece
    assert genre_column.shape[1] > 0 and (genre_column.sum(dim=0) == 4).all()


# the clips


def test_prompts_ask_for_every_genre_and_segment_equally_and_only_for_test_tunes(tiny, tiny_data):
    prompts = samples.evaluation_prompts(tiny, per_genre=8)
    assert [sum(p.genre == name for p in prompts) for name in GENRES] == [8] * 4
    assert [sum(p.k == k for p in prompts) for k in range(1, 5)] == [8] * 4
    assert {p.title for p in prompts} == {"Tune 3"}
    assert prompts[0].text == "Tune 3, Nobody, Nothing, Electronic, 1883, 1 of 4"


def test_shuffled_prompts_keep_the_sounds_and_leave_none_its_own_text():
    clips = clip_set(torch.arange(6.0)[:, None, None].expand(6, 2, 4), ["Pop"] * 6)
    other = samples.shuffled(clips)
    assert all(torch.equal(clips[i], other[i]) for i in range(6))
    assert all(a.title != b.title for a, b in zip(clips.prompts, other.prompts, strict=True))
    assert {p.title for p in other.prompts} == {p.title for p in clips.prompts}


def test_noise_and_silence_are_what_they_say(tiny, tiny_data):
    noise = samples.noise_set(tiny)[0]
    assert torch.equal(noise, samples.noise_set(tiny)[0]) and not torch.equal(noise, samples.noise_set(tiny)[1])
    assert_allclose(noise.square().mean().sqrt(), 0.1, rtol=0.01)
    assert samples.silence_set(tiny)[0].abs().max() == 0


def test_an_interrupted_run_makes_only_what_is_missing(tiny, tiny_data):
    prompts, made = samples.evaluation_prompts(tiny, per_genre=2), []

    def make(indices):
        made.append(indices[0])
        if len(made) == 2:
            raise KeyboardInterrupt
        return torch.full((len(indices), 2, 4), float(indices[0]))

    with pytest.raises(KeyboardInterrupt):
        samples.cached(tiny, "test", prompts, make, {})
    clips = samples.cached(tiny, "test", prompts, make, {})
    assert made == [0, 4, 4] and float(clips[5][0, 0]) == 4
    samples.cached(tiny, "test", prompts, make, {"guidance": 1})
    assert made == [0, 4, 4, 0, 4]


def test_real_halves_share_no_piece(tiny, tiny_data):
    four = [replace(r, id=str(i), title=f"T{i}") for i, r in enumerate(samples.held_out_pieces(tiny) * 4)]
    held_out, samples.held_out_pieces = samples.held_out_pieces, lambda profile: four
    try:
        real, reference = samples.real_halves(tiny, 8)
    finally:
        samples.held_out_pieces = held_out
    assert len(real) == 8 and len(reference) == 8
    assert not {p.title for p in real.prompts} & {p.title for p in reference.prompts}


# long-term structure


def test_amplitude_of_a_sine_is_its_closed_form():
    wave = torch.sin(2 * math.pi * torch.arange(48_000) / 480).expand(2, -1)
    assert_allclose(structure.amplitude(0.5 * wave), (0.5 / math.sqrt(2), 1 / math.pi), rtol=1e-3)


def test_segments_find_a_planted_fade_and_its_spread():
    ks = np.tile([1, 2, 3, 4], 25)
    values = np.array([0.1, 0.3, 0.3, 0.1])[ks - 1] + 0.01 * np.random.default_rng(0).standard_normal(100)
    table = structure.segments(values, ks.tolist(), 4)
    assert_allclose(table["mean"], [0.1, 0.3, 0.3, 0.1], atol=0.006)
    assert_allclose(table["std"], [0.01] * 4, rtol=0.5)
    with pytest.raises(ValueError, match='no clip is segment "5 of 5"'):
        structure.segments(values, ks.tolist(), 5)


def test_shape_correlation_sees_form_and_not_level():
    ks = np.tile([1.0, 2, 3, 4], 10)
    real = np.c_[ks, np.array([0.1, 0.3, 0.2, 0.1])[ks.astype(int) - 1]]
    louder, flat = real * [1, 3] + [0, 0.5], real * [1, 0]
    assert_allclose(structure.shape_correlation(louder, real, 4), (1, 1, 1), rtol=1e-9)
    assert structure.shape_correlation(flat, real, 4)[0] == 0
    assert structure.correlation(np.array([1.0, 2, 3, 4]), np.array([4.0, 3, 2, 1])) == pytest.approx(-1)


# efficiency


def test_the_cold_call_is_not_timed(monkeypatch):
    clock, costs = [0.0], [9.0, *(1.0 for _ in range(efficiency.TIMED))]

    def call() -> torch.Tensor:
        clock[0] += costs.pop(0)
        return torch.tensor(len(costs))

    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: clock[0])
    result, seconds = efficiency.timed_calls(call)
    assert (result.item(), seconds) == (0, (1.0, 1.0, 1.0))


def test_efficiency_row_names_both_ratios_and_counts_its_runs():
    shared = dict(memory_gb=1.5, steps=[1, 1], guidance=1.0, sampler="ddim", precision="float32", calls={}, threads=2)
    shared["device"] = "cpu"
    runs = [{"seconds": s, "audio_seconds": 40.0, **shared} for s in (30.0, 10.0, 20.0)]
    row = efficiency.efficiency_row(runs)
    assert (row["seconds"], row["seconds_quartiles"], row["n"]) == (20.0, [15.0, 25.0], 3)
    assert (row["time_per_audio"], row["x_real_time"]) == (0.5, 2.0)
    json.dumps(row)


def test_timed_runs_stop_where_one_more_would_pass_the_budget(tiny, monkeypatch):
    clock = iter([0.0, 10.0, 20.0, 30.0])
    monkeypatch.setattr(efficiency, "fresh_run", lambda *_: {"seconds": 1.0})
    monkeypatch.setattr(efficiency.time, "perf_counter", lambda: next(clock))
    profile = replace(tiny, evaluation=replace(tiny.evaluation, repeats=9))
    assert len(efficiency.timed_runs(profile, 1.0, budget=35.0)) == 3


def test_stopwatch_counts_calls_of_the_network_as_it_is():
    layer = torch.nn.Linear(2, 2)
    watch = efficiency.Stopwatch(layer)
    for _ in range(3):
        layer(torch.zeros(1, 2))
    assert watch.calls == 3 and watch.seconds > 0


def test_stopwatch_counts_windows_that_are_called_together():
    layer = torch.nn.Linear(2, 2)
    watch = efficiency.Stopwatch(layer, each=2)
    layer(torch.zeros(6, 2))
    assert watch.calls == 3


def test_peak_memory_is_this_process_in_gigabytes():
    assert 0.1 < efficiency.peak_memory_gb() < 60


def test_every_clip_is_scored_with_its_own_prompt():
    waves = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])[..., None].expand(3, 2, 8)
    prompts = [samples.Prompt("Pop", 1, f"Tune {i}", text) for i, text in enumerate(("1 0", "0 1", "0.6 0.8"))]
    clips = samples.ClipSet("test", prompts, lambda i: waves[i], {})
    assert_allclose(clap.scores(Echo(), clips), [1.0, 0.8, 0.8], rtol=1e-6)


def test_judge_loss_is_the_same_with_sounds_and_texts_exchanged():
    net, (a, b) = judge.JudgeNet(), F.normalize(torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(0)), dim=2)
    true = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]).bool()
    losses = []
    for sounds, texts, pairs in ((a, b, true), (b, a, true.T)):
        net.audio, net.text = (lambda _, v=sounds: v), (lambda _, v=texts: v)  # type: ignore[method-assign]
        losses.append(net(torch.zeros(4, 80, 16), torch.zeros(4, 384), pairs, torch.Generator().manual_seed(0)))
    assert_close(*losses)


def test_a_texts_states_are_the_mean_over_its_own_tokens():
    encoder = load_text_encoder(judge.TEXT)
    alone, *_ = judge.text_states(encoder, ["Pop", "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"])
    words = len(encoder.tokenizer("Pop")["input_ids"])
    assert_close(alone, encoder(["Pop"])[0, :words].mean(dim=0), atol=1e-5, rtol=1e-5)
    assert words == 3


# two sets at once


def test_two_sets_are_resampled_by_tune_together_and_a_constant_ratio_has_no_width():
    real = np.arange(1.0, 9.0)[:, None]
    ratio = lambda a, b: float(a.mean() / b.mean())  # noqa: E731
    assert_allclose(statistics.bootstrap_pair(2 * real, real, ratio, groups=[*"abcdefgh"] * 2), (2, 2, 2), rtol=1e-12)
    _, low, high = statistics.bootstrap_pair(2 * real, real, ratio)
    assert low < 1.7 < 2.3 < high


def test_resamples_without_a_value_are_passed_over():
    value, low, high = statistics.bootstrap([0.0, 0.0, 1.0], statistic=lambda x: 1.0 if x.any() else float("nan"))
    assert (value, low, high) == (1, 1, 1)


def test_genre_kept_is_the_share_after_over_the_share_before():
    assert_allclose(genre.kept(np.array([[1.0], [0], [1], [0]]), np.array([[1.0], [1], [1], [1]])), 0.5)
    assert math.isnan(genre.kept(np.ones((2, 1)), np.zeros((2, 1))))


# seeds


def with_seeds(profile, seeds: int):
    return replace(profile, evaluation=replace(profile.evaluation, seeds=seeds))


def test_every_prompt_is_asked_once_a_seed_and_beside_its_own_clip(tiny, tiny_data, monkeypatch):
    calls = []

    class Sine:
        def generate(self, texts, seconds, seed, guidance):
            calls.append((seed, texts))
            return torch.full((len(texts), 2, 8), float(seed))

    monkeypatch.setattr(samples, "model_context", lambda *_: {})
    monkeypatch.setattr(samples.Mousai, "load", lambda *_: Sine())
    clips, once = samples.generated_set(with_seeds(tiny, 3)), samples.evaluation_prompts(tiny)
    assert list(clips.prompts) == once * 3 and len(samples.noise_set(with_seeds(tiny, 3))) == 3 * len(once)
    assert float(clips[len(clips) - 1][0, 0]) == calls[0][0] + len(clips) - samples.BATCH == calls[-1][0]
    assert [text for _, texts in calls for text in texts] == [prompt.text for prompt in clips.prompts]
    assert len({seed for seed, _ in calls}) == len(calls)


def test_clips_are_made_anew_where_weights_or_what_is_done_after_sampling_changed(tiny, tmp_path, monkeypatch):
    path = tmp_path / "dmae.safetensors"
    monkeypatch.setattr(samples, "weights_path", lambda *_: path)
    with pytest.raises(FileNotFoundError, match="mousai train dmae"):
        samples.model_context(tiny, "cpu", ("dmae",))
    path.write_bytes(b"one")
    changed = [{"polish": 9}, {"phase_share": 0.9}, {"magnitude_contrast": 9.0}]
    others = [replace(tiny, dmae=replace(tiny.dmae, **change)) for change in changed]
    contexts = [samples.model_context(profile, "cpu", ("dmae",)) for profile in (tiny, *others)]
    path.write_bytes(b"two")
    contexts.append(samples.model_context(tiny, "cpu", ("dmae",)))
    assert all(a != b for a, b in combinations(contexts, 2))


def test_shuffled_prompts_leave_none_its_own_text_with_several_seeds_too():
    clips = clip_set(torch.arange(6.0)[:, None, None].expand(6, 2, 4), ["Pop"] * 6)
    twice = replace(clips, prompts=list(clips.prompts) * 2)
    for seed in range(20):
        other = samples.shuffled(twice, seed).prompts
        assert all(a.title != b.title for a, b in zip(twice.prompts, other, strict=True))
        assert other[:6] == other[6:]


def test_clips_taken_in_turn_come_from_as_many_pieces_as_there_are_and_every_segment_has_its_turn(
    tiny, tiny_data, monkeypatch
):
    record = load_records(tiny, "test")[0]
    pieces = [replace(record, title=f"Tune {i}", genre=GENRES[i % 4]) for i in range(8)]
    few, every = (samples.in_turn(tiny, pieces, n) for n in (8, 99))
    assert few.titles == [piece.title for piece in pieces] and len({(p.genre, p.k) for p in few.prompts}) == 8
    assert Counter(p.k for p in few.prompts) == {k: 2 for k in range(1, 5)}
    assert len(every) == len(set(every.prompts)) == 32 and every.first(8).prompts == few.prompts
    monkeypatch.setattr(samples, "held_out_pieces", lambda profile: pieces)
    originals, others = samples.original_set(tiny), samples.other_set(tiny)
    assert len(originals) == len(others) == tiny.evaluation.reconstructions
    assert not set(originals.titles) & set(others.titles)


def test_ends_agree_where_the_end_of_a_clip_repeats_its_beginning_and_not_where_it_is_anothers():
    start = torch.randn(200, 6, 10, generator=torch.Generator().manual_seed(0))
    middle = torch.zeros(200, 6, 20)
    same, other = torch.cat([start, middle, start], 2), torch.cat([start, middle, start.roll(1, 0)], 2)
    turned = torch.cat([start, middle, 3 - 2 * start], 2)  # knows it, as its opposite: a correlation, not a distance
    agree = [structure.ends_agree(structure.ends(z)) for z in (same, turned, other, torch.ones(200, 6, 40))]
    assert_allclose(agree[:2], [1, -1], atol=1e-9)
    assert abs(agree[2]) < 0.1 and agree[3] == 0
    assert structure.ends(same).shape == (200, 12)


def test_the_two_nets_of_the_attention_study_differ_in_self_attention_alone(tiny):
    nets = study.with_and_without_attention(tiny)
    (mine, without), tcld = (nets[name].tcld for name in ("attention", "no_attention")), tiny.tcld
    assert mine == replace(tcld, mask_share=1.0, unet=replace(tcld.unet, channels=(8, 8, 8)))
    assert without == replace(mine, unet=replace(mine.unet, attentions=(0, 0, 0))) != mine


# stage 1 without diffusion


def test_the_yardsticks_clips_are_the_same_chunks_as_the_reconstructions(tiny, tiny_data, monkeypatch):
    monkeypatch.setattr(samples, "model_context", lambda *_: {})
    monkeypatch.setattr(samples, "load_dmae", lambda profile, _: DMAE(profile.dmae).eval())
    sets = [make(tiny) for make in (samples.reconstruction_set, samples.pca_set, samples.griffin_lim_set)]
    original = samples.original_set(tiny)
    for clips in sets:
        assert list(clips.prompts) == list(original.prompts) and clips[0].shape == original[0].shape
        assert torch.isfinite(clips[0]).all()
    assert len({clips.name for clips in sets}) == 3


def test_griffin_lim_from_a_perfect_reader_sounds_like_the_original(tiny, monkeypatch):
    dmae = DMAE(replace(tiny.dmae, magnitude_contrast=1.0)).eval()
    time = torch.arange(2**14) / 48_000
    w = 0.1 * torch.sin(2 * math.pi * 440 * time).expand(1, 2, -1).contiguous()
    told = log_magnitude(magnitude(w, tiny.dmae.n_fft, tiny.dmae.hop), READ_FLOOR)
    reads(dmae, told, monkeypatch)
    made = yardstick.reader_griffin_lim(dmae, w)
    assert made.shape == w.shape and log_mel_l1(made, w).item() < 0.15 < log_mel_l1(torch.zeros_like(w), w).item()
    dmae.config = replace(dmae.config, magnitude_contrast=2.0)
    assert (yardstick.reader_griffin_lim(dmae, w) - made).std() > 1e-3 * made.std()


def test_a_dmae_without_a_reader_has_nothing_to_start_griffin_lim_from(tiny):
    silent = replace(tiny, dmae=replace(tiny.dmae, envelope_bands=None, readout_weight=0.0))
    with pytest.raises(ValueError, match="no reader"):
        samples.griffin_lim_set(silent)


class Level:
    """A judge that hears two numbers: the level of each channel."""

    name, sha256 = "level", "0" * 64

    def embed_audio(self, w):
        return w.square().mean(dim=-1).sqrt()

    def embed_clips(self, clips):
        return torch.cat([self.embed_audio(clips[i][None]) for i in range(len(clips))]).numpy()


def test_all_rows_of_a_distance_have_equally_many_clips_and_a_louder_set_is_farther():
    waves = 0.1 * torch.randn(12, 2, 400, generator=torch.Generator().manual_seed(0))
    reference, short, louder = (clip_set(x, ["Pop"] * len(x)) for x in (waves[6:], waves[:5], 3 * waves))
    rows = distance.distances(Level(), {"real": short, "louder": louder}, reference)  # type: ignore[arg-type]
    assert [row["n"] for row in rows.values()] == [5, 5]
    assert rows["louder"]["value"] > 0.05 > 100 * rows["real"]["value"]


def test_the_embedding_of_formulas_counts_in_units_of_the_references_spread():
    waves = 0.1 * torch.randn(6, 2, 9600, generator=torch.Generator().manual_seed(0))
    waves = waves * torch.linspace(0.5, 1, 6)[:, None, None]
    reference = clip_set(waves, ["Pop"] * 6)
    space = genre.MfccSpace(reference)
    assert_allclose(space.embed_clips(reference).std(axis=0), 1, rtol=1e-5)
    rows = distance.distances(space, {"real": reference, "louder": clip_set(3 * waves, ["Pop"] * 6)}, reference)
    assert rows["real"]["value"] < 1e-4 < 1 < rows["louder"]["value"]


# copies


def test_a_copy_is_at_distance_zero_and_another_direction_is_not():
    train = np.array([[1.0, 0, 0], [0, 1, 0]])
    assert_allclose(copying.nearest(np.array([[3.0, 0, 0], [1, 1, 0], [0, 0, 2]]), train), [0, 1 - 0.5**0.5, 1])


def test_copying_ratio_is_that_of_the_medians():
    real, titles = np.array([0.2, 0.4, 0.4, 0.9]), [f"tune {i}" for i in range(8)]
    assert copying.copying_ratio(np.zeros(4), real, titles) == (0, 0, 0)
    value, low, high = copying.copying_ratio(np.array([0.1, 0.2, 0.2, 5]), real, titles)
    assert_allclose(value, 0.5) and low < 0.5 < high


def test_training_clips_are_embedded_once_and_a_planted_one_is_found(tiny, tiny_data, monkeypatch):
    listener = judge.Judge(judge.JudgeNet().eval(), no_words, "0" * 64, {})
    rows, seconds = copying.train_embeddings(tiny, listener)
    monkeypatch.setattr(judge.Judge, "embed_audio", lambda *_: pytest.fail("embedded again"))
    again, same = copying.train_embeddings(tiny, listener)
    assert len(rows) == tiny.data.chunks * len(load_records(tiny, "train")) and seconds == same > 0
    assert_allclose(again, rows)
    assert_allclose(copying.nearest(rows[3:4], rows), 0, atol=1e-6)


# level, clipping, beginnings and endings


def test_twice_the_amplitude_is_six_decibels_and_silence_is_finite():
    rms = np.array([0.1, 0.2, 0.3])
    assert_allclose(structure.level_db(2 * rms, rms), 20 * math.log10(2), rtol=1e-4)
    assert structure.level_db(rms, rms) == 0 and -121 < structure.level_db(0 * rms, rms) < -90


def test_clipped_counts_only_what_lies_beyond_full_scale():
    assert structure.clipped(torch.tensor([[0.5, 1.0, -1.0, 1.5], [0, -1.01, 0, 0]])) == 0.25


def fade(first: float, last: float) -> torch.Tensor:
    noise = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    return 0.1 * noise * torch.logspace(math.log10(first), math.log10(last), 16_000)


def test_slope_measures_a_planted_fade_in_powers_of_ten():
    assert structure.slope(fade(0.3, 3)) == pytest.approx(1, abs=0.05)
    assert structure.slope(fade(3, 0.3)) == pytest.approx(-1, abs=0.05)
    assert structure.slope(torch.zeros(2, 16_000)) == pytest.approx(0, abs=1e-12)
    assert structure.slope(torch.cat([torch.zeros(2, 16_000), fade(1, 1)], dim=1)) > 2


def test_beginnings_rise_and_endings_fall_whatever_the_threshold_is_near():
    rows = np.array([[1, 0.9], [1, 0.5], [2, -5], [3, 5], [4, -0.5], [4, -0.7]])
    threshold = structure.tag_threshold(rows, 4)
    assert threshold == 0 and structure.tag_share(rows, 4, threshold) == 1
    assert structure.tag_share(rows * [1, -1], 4, threshold) == 0
    row = structure.tag_followed(rows, [*"abcdef"], 4, threshold)
    assert (row["value"], row["n"]) == (1, 4)


def test_one_answer_for_all_is_chance_however_many_of_each_tag_there_are():
    rows = np.array([[1, 1.0]] * 9 + [[4, 1.0]] * 3)
    assert structure.tag_share(rows, 4, 0.0) == 0.5 and math.isnan(structure.tag_share(rows[:9], 4, 0.0))


def test_dealt_tags_are_at_chance():
    rows = np.c_[np.tile([1.0, 4.0], 20), np.tile([0.5, -0.5], 20)]
    dealt = structure.tag_dealt(rows, 4, 0.0)
    assert dealt["value"] == pytest.approx(0.5, abs=0.02) and dealt["low"] < 0.5 < dealt["high"] < 0.75


def test_slopes_of_the_train_split_are_of_its_first_and_last_chunks(tiny, tiny_data):
    rows = structure.train_slopes(tiny)
    assert rows[:, 0].tolist() == [1, tiny.data.chunks] * len(load_records(tiny, "train"))
    assert np.abs(rows[:, 1]).max() < 0.1 and np.array_equal(rows, structure.train_slopes(tiny))


def test_shape_correlation_draws_whole_tunes():
    ks = np.tile([1.0, 2, 3, 4], 10)
    level = np.array([0.1, 0.3, 0.2, 0.1])[ks.astype(int) - 1] + 0.1 * np.random.default_rng(0).standard_normal(40)
    real = np.c_[ks, level]
    same = structure.shape_correlation(real, real, 4, groups=[f"tune {i // 4}" for i in range(40)] * 2)
    assert_allclose(same, (1, 1, 1), rtol=1e-9)


def test_side_over_mid_is_0_in_mono_and_1_where_channels_have_nothing_in_common():
    w = torch.randn(4, 2, 2**14, generator=torch.Generator().manual_seed(0))
    assert structure.side_over_mid(w[:, :1].expand(4, 2, -1)) == 0
    assert structure.side_over_mid(w) == pytest.approx(1, abs=0.05)
    assert structure.side_over_mid(torch.tensor([[[3.0], [1.0]], [[0.0], [0.0]]])) == pytest.approx(4 / 16)


def test_the_polish_ladder_adds_one_field_a_row_and_leaves_the_model_as_it_was(tiny):
    after = {"phase_share": 0.5, "magnitude_contrast": 1.5, "polish": 1}
    config = replace(tiny.dmae, **after)
    model, w = DMAE(config).eval(), 0.1 * torch.randn(5, 2, 2**14, generator=torch.Generator().manual_seed(0))
    rows = study.polish_ladder(model, w, w)
    assert model.config == config
    names = ["phase_share", "magnitude_contrast"]
    assert list(rows) == ["as sampled", "polished", *(f"and {name}" for name in names), "original"]
    same = {"log-mel L1": 0, "level (dB)": 0, "side over mid": structure.side_over_mid(w)}
    assert rows["as sampled"] == rows["original"] == pytest.approx(same)
    assert rows["and phase_share"]["side over mid"] < rows["polished"]["side over mid"] - 0.2
    made = study.repolished(model, w, w)
    assert rows["and magnitude_contrast"]["log-mel L1"] == log_mel_l1(made, w).mean().item()
    model.config = replace(config, polish=0)
    assert list(study.polish_ladder(model, w, w)) == ["as sampled", "original"]
