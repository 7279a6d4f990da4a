"""Which clips are measured, with which prompts."""

from collections import Counter
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from helpers.clips import clip_set
from numpy.testing import assert_allclose

from mousai.config import GENRES
from mousai.data.records import read_manifest, write_manifest
from mousai.evaluation import real, samples, segment_tags


def test_prompts_ask_for_every_genre_and_segment_equally_and_only_for_test_tunes(with_genres):
    prompts = samples.evaluation_prompts(with_genres, per_genre=8)
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


def test_clips_are_paired_by_prompt():
    real = clip_set(torch.zeros(6, 2, 4), ["Pop"] * 6)
    ours = samples.ClipSet("ours", [real.prompts[4], real.prompts[1], real.prompts[4]._replace(k=9)] * 2, real.load, {})
    assert samples.pairs_of_prompts(ours, real) == ([0, 1, 3, 4], [1, 4])


def test_noise_and_silence_are_what_they_say(work):
    noise = samples.noise_set(work)[0]
    assert torch.equal(noise, samples.noise_set(work)[0]) and not torch.equal(noise, samples.noise_set(work)[1])
    assert_allclose(noise.square().mean().sqrt(), 0.1, rtol=0.01)
    assert samples.silence_set(work)[0].abs().max() == 0


def test_an_interrupted_run_makes_only_what_is_missing(work):
    prompts, made = samples.evaluation_prompts(work, per_genre=4), []

    def make(indices):
        made.append(indices[0])
        if len(made) == 2:
            raise KeyboardInterrupt
        return torch.full((len(indices), 2, 4), float(indices[0]))

    with pytest.raises(KeyboardInterrupt):
        samples.cached(work, "test", prompts, make, {})
    clips = samples.cached(work, "test", prompts, make, {})
    assert made == [0, 4, 4] and float(clips[5][0, 0]) == 4
    samples.cached(work, "test", prompts, make, {"guidance": 1})
    assert made == [0, 4, 4, 0, 4]


def test_real_halves_share_no_piece(work, monkeypatch):
    four = [replace(r, id=str(i), title=f"T{i}") for i, r in enumerate(real.held_out_pieces(work) * 4)]
    monkeypatch.setattr(real, "held_out_pieces", lambda work: four)
    first, reference = real.real_halves(work, 8)
    assert len(first) == 8 and len(reference) == 8
    assert not {p.title for p in first.prompts} & {p.title for p in reference.prompts}


def with_seeds(work, seeds: int):
    profile = replace(work.profile, evaluation=replace(work.profile.evaluation, seeds=seeds))
    return replace(work, profile=profile)


def test_every_prompt_is_asked_once_a_seed_and_beside_its_own_clip(work, monkeypatch):
    calls = []

    class Sine:
        def optimized_for_cpu(self):
            return self

        def sampling(self, guidance):
            return guidance

        def stream(self, texts, seconds, seeds, sampling):
            calls.append((seeds, texts))
            yield torch.tensor(seeds).float()[:, None, None].expand(-1, 2, 8)

    monkeypatch.setattr(samples, "model_context", lambda *_: {})
    monkeypatch.setattr(samples.Mousai, "load", lambda *_: Sine())
    clips, once = samples.generated_set(with_seeds(work, 3)), samples.evaluation_prompts(work)
    assert list(clips.prompts) == once * 3 and len(samples.noise_set(with_seeds(work, 3))) == 3 * len(once)
    assert [text for _, texts in calls for text in texts] == [prompt.text for prompt in clips.prompts]
    seeds = [seed for batch, _ in calls for seed in batch]
    assert seeds == [float(clips[i][0, 0]) for i in range(len(clips))] and len(set(seeds)) == len(clips)


def test_clips_are_made_anew_where_weights_or_what_is_done_after_sampling_changed(work, tmp_path, monkeypatch):
    path = tmp_path / "dmae.safetensors"
    monkeypatch.setattr(samples, "weights_path", lambda *_: path)
    with pytest.raises(FileNotFoundError, match="mousai train dmae"):
        samples.model_context(work, ("dmae",))
    path.write_bytes(b"one")
    changed = [{"refinement_steps": 9}, {"phase_share": 0.9}, {"magnitude_contrast": 9.0}]
    profiles = [replace(work.profile, dmae=replace(work.profile.dmae, **change)) for change in changed]
    others = [replace(work, profile=profile) for profile in profiles]
    contexts = [samples.model_context(one, ("dmae",)) for one in (work, *others)]
    path.write_bytes(b"two")
    contexts.append(samples.model_context(work, ("dmae",)))
    assert all(a != b for a, b in combinations(contexts, 2))


def test_shuffled_prompts_leave_none_its_own_text_with_several_seeds_too():
    clips = clip_set(torch.arange(6.0)[:, None, None].expand(6, 2, 4), ["Pop"] * 6)
    twice = replace(clips, prompts=list(clips.prompts) * 2)
    for seed in range(20):
        other = samples.shuffled(twice, seed).prompts
        assert all(a.title != b.title for a, b in zip(twice.prompts, other, strict=True))
        assert other[:6] == other[6:]


def test_clips_taken_in_turn_come_from_as_many_pieces_as_there_are_and_every_segment_has_its_turn(
    with_genres, monkeypatch
):
    work = with_genres
    record = work.data.records("test")[0]
    pieces = [replace(record, title=f"Tune {i}", genre=GENRES[i % 4]) for i in range(8)]
    few, every = (real.interleaved(work, pieces, n) for n in (8, 99))
    assert few.titles == [piece.title for piece in pieces] and len({(p.genre, p.k) for p in few.prompts}) == 8
    assert Counter(p.k for p in few.prompts) == {k: 2 for k in range(1, 5)}
    assert len(every) == len(set(every.prompts)) == 32 and every.first(8).prompts == few.prompts
    monkeypatch.setattr(real, "held_out_pieces", lambda work: pieces)
    originals, others = real.original_set(work), real.other_set(work)
    assert len(originals) == len(others) == work.profile.evaluation.reconstructed_chunks
    assert not set(originals.titles) & set(others.titles)


# Own music


def changed(work, **fields) -> None:
    """The made-up data set with other fields in every record."""
    path = work.root / "manifest.jsonl"
    write_manifest([replace(record, **fields) for record in read_manifest(path)], path)


def test_genres_and_segments_come_from_the_data(work):
    changed(work, genre="Classical", chunks=3)
    assert work.data.genres == ("Classical",)
    prompts = samples.evaluation_prompts(work, per_genre=6)
    assert {prompt.genre for prompt in prompts} == {"Classical"}
    assert Counter(prompt.k for prompt in prompts) == {1: 2, 2: 2, 3: 2}
    assert prompts[0].text.endswith("of 3")


def test_a_set_without_genres_has_prompts_without_one(work):
    changed(work, genre="")
    assert work.data.genres == ()
    assert {prompt.text.count(",") for prompt in samples.evaluation_prompts(work, per_genre=2)} == {4}
    assert len(real.original_set(work)) > 0


def test_without_a_test_split_nothing_is_evaluated_and_one_line_says_so(work):
    changed(work, split="train")
    for make in (samples.evaluation_prompts, real.real_set, real.original_set, samples.noise_set):
        with pytest.raises(ValueError, match="so nothing can be evaluated: import more music, three pieces at least"):
            make(work)


def test_what_is_computed_from_a_data_set_is_not_kept_for_another_in_its_place(work):
    first = segment_tags.train_slopes(work)
    changed(work, title="Another", chunks=2)
    again = segment_tags.train_slopes(replace(work))
    assert not np.array_equal(first, again) and again[:, 0].max() == 2


def test_clips_of_some_genres_keep_their_sounds():
    clips = clip_set(torch.arange(4.0)[:, None, None].expand(4, 2, 4), ["Pop", "Jazz", "Pop", "Metal"])
    some = clips.of_genres(["Metal", "Jazz"])
    assert some.genres == ["Jazz", "Metal"] and [float(some[i][0, 0]) for i in range(2)] == [1, 3]
