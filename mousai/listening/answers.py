"""The listening test around its page: write page and key; then check the answers and write the listeners' results."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np

from mousai.config import Profile
from mousai.data.dataset import workspace
from mousai.evaluation.baselines import systems
from mousai.evaluation.genre import Matrix, accuracy, confusion, hits, kappa
from mousai.evaluation.statistics import bootstrap
from mousai.files import write_text
from mousai.listening import page as listening
from mousai.listening.page import RATINGS, Answer, genres_of
from mousai.report.record import Report, plain, write_json
from mousai.report.results import PEOPLE
from mousai.report.standalone import report_folder
from mousai.small.profiles import get_profile

OTHER = "holds another study, and without its key no answer to it can be read: choose another --out"


def hold(profile: Profile, out: Path, per_genre: int = 3, seed: int = 0, device: str = "") -> str:
    """Write out/listen.html, for the listeners, and out/key.json, which they must not see; return a line that says so.

    Raises ValueError where `out` holds the key of another study, or a clip cannot be used.
    """
    report = Report(PEOPLE, profile, out, seed, device)
    sets = systems(replace(report.work, profile=profile))  # the notebooks' clips; `seed` only draws among them
    clips = listening.choose(sets, per_genre, seed, profile.sample_rate)
    page, key = listening.study(clips, profile.name, seed, profile.sample_rate)
    if (out / "key.json").exists() and read_key(out)["study"] != key["study"]:
        raise ValueError(f"{out} {OTHER}")
    contexts = {model: clips.context for model, clips in sets.items()}
    write_json(plain(key | {"contexts": contexts, "provenance": report.provenance()}), out / "key.json")
    write_text(page, out / "listen.html")
    models = [clip.model for clip in clips]
    counts = ", ".join(f"{model} {models.count(model)}" for model in sets)
    size = (out / "listen.html").stat().st_size / 1e6
    return f"{out / 'listen.html'}: {len(clips)} clips ({counts}), {size:.1f} MB: give people this file, not key.json"


def read_key(folder: Path) -> dict:
    """The key of the study in that folder. Raises FileNotFoundError where it is missing, ValueError where changed."""
    path = folder / "key.json"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: give the page's folder as --out")
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        whole = listening.digest(key) == key["study"] and {"contexts", "provenance"} <= key.keys()
    except (ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise ValueError(f"{path} is damaged or was changed: fetch it again from where the page was made")
    return key


def collect(files: list[Path], folder: Path, out: Path | None = None) -> str:
    """Check every file of answers, then write out/results/listening.json; return a line that counts listeners and
    clips.

    folder: the study's. out: the report's folder, by default that of the study's profile. Raises ValueError at the
    first file that does not fit the study; nothing is written then.
    """
    key = read_key(folder)
    answers = listening.answers(files, key)
    place = out or report_folder(workspace(get_profile(key["profile"]), os.environ))
    path = place / "results" / f"{PEOPLE}.json"
    write_json(plain(results(answers, key, place).content() | {"provenance": key["provenance"]}), path)
    listeners = [answer.listener for answer in answers]
    each = ", ".join(f"{name} {listeners.count(name)}" for name in dict.fromkeys(listeners))
    drawn = f"`mousai report --profile {key['profile']}` draws them"
    return f"{path}: clips answered, of {len(key['clips'])}, by listener: {each}; {drawn}"


def results(answers: list[Answer], key: dict, out: Path) -> Report:
    """The report of genre choices, ratings and agreement, in the form that a notebook writes."""
    report = Report(PEOPLE, key["profile"], out, key["seed"])
    by_model = {model: [a for a in answers if key["clips"][a.clip]["model"] == model] for model in models(key)}
    matrices = {model: genres(report, model, own, key) for model, own in by_model.items() if own}
    for model in matrices:
        ratings(report, model, by_model[model], key)
    for model in [model for model in by_model if model not in matrices]:
        report.not_run(f"genre_accuracy{suffix(model)}.people", f"no clip of {model} was answered")
    agreement(report, answers, genres_of(key))
    kappas, shares = ({model: f(C) for model, C in matrices.items()} for f in (kappa, accuracy))
    people = {"matrices": {"people": matrices}, "kappa": {"people": kappas}, "accuracy": {"people": shares}}
    report.data("figure5", {"genres": genres_of(key)} | people)
    return report


def models(key: dict) -> list[str]:
    """The models (systems) of the study, ours and real music first, as for the other classifiers of Figure 5."""
    found = {clip["model"] for clip in key["clips"].values()}
    return [model for model in ("ours", "real") if model in found] + sorted(found - {"ours", "real"})


def suffix(model: str) -> str:
    """The model's part of a metric's name: "" for ours, as in the names that notebooks 07 and 10 list as not run."""
    return "" if model == "ours" else f".{model}"


def facts(own: list[Answer], key: dict, field: str) -> list[str]:
    """The key's `field`, such as "genre" or "title", for the clip of each answer."""
    return [key["clips"][answer.clip][field] for answer in own]


def context(model: str, own: list[Answer], key: dict) -> dict:
    """The context of a model's metrics: how its clips were made, and how many listeners and clips there were."""
    listeners = {answer.listener for answer in own}
    clips = {answer.clip for answer in own}
    counts = {"listeners": len(listeners), "clips": len(clips), "study": key["study"]}
    return key["contexts"].get(model, {}) | counts


def mean(values: Sequence[float] | np.ndarray, own: list[Answer], key: dict) -> dict:
    """{value, low, high, n} of a mean over answers; all answers about one tune are resampled together.

    Low and high are None where there is only one tune.
    """
    titles = facts(own, key, "title")
    value, low, high = bootstrap(values, key["seed"], titles)
    spread = {"low": low, "high": high} if len(set(titles)) > 1 else {"low": None, "high": None}
    return {"value": value, **spread, "n": len(own)}


def genres(report: Report, model: str, own: list[Answer], key: dict) -> Matrix:
    """Report the share of answers that name the prompted genre; return the confusion matrix."""
    asked = facts(own, key, "genre")
    chosen = [answer.genre for answer in own]
    name = f"genre_accuracy{suffix(model)}.people"
    made = context(model, own, key)
    known = genres_of(key)
    report.metric(name, **mean(hits(asked, chosen), own, key), chance=1 / len(known), **made)
    return confusion(asked, chosen, known)


def ratings(report: Report, model: str, own: list[Answer], key: dict) -> None:
    """Report the mean of each of the four ratings of one model."""
    for rating in RATINGS:
        name = f"ratings.{rating}{suffix(model)}"
        made = context(model, own, key)
        report.metric(name, **mean([answer.ratings[rating] for answer in own], own, key), scale="1 to 5", **made)


def agreement(report: Report, answers: list[Answer], known: list[str]) -> None:
    """Report the listeners' agreement: Cohen's kappa of the genres that two of them chose for the clips that both
    heard, averaged over all pairs.
    """
    name = "genre.listener_agreement.people"
    by_listener = {}
    for answer in answers:
        by_listener.setdefault(answer.listener, {})[answer.clip] = answer.genre
    shared = [(a, b, sorted(a.keys() & b.keys())) for a, b in combinations(by_listener.values(), 2)]
    pairs = [
        (confusion([a[c] for c in clips], [b[c] for c in clips], known), len(clips)) for a, b, clips in shared if clips
    ]
    if not pairs:
        return report.not_run(name, "no two listeners heard the same clip")
    value = float(np.mean([kappa(matrix) for matrix, _ in pairs]))
    n = sum(count for _, count in pairs)
    report.metric(name, value, n=n, pairs=len(pairs), statistic="Cohen's kappa, mean over pairs of listeners")
