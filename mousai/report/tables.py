"""The rows of Tables 1, 2, 4 and 5, Figures 5 and 6 and the claims in the text: paper | ours | verdict.

Nothing is left out: what has no number of ours is a row that says "not run" and why. The scores of the
in-domain audio-text model are never compared with the paper's LAION-CLAP numbers; only the shape of a comparison is.
"""

from itertools import pairwise

import numpy as np

from mousai.report.results import Results, paper
from mousai.report.table3 import system
from mousai.report.verdicts import DIFFERENT, DIRECTION, SAME, Row, direction, figure, interval, not_run, number

OTHERS = "its code and weights are not part of this repository"
PEOPLE = "ratings are people's: nobody was asked"


def table1(results: Results) -> list[Row]:
    """Text2Music against the embedded data set."""
    said = paper()["table1"]
    ours = results.data("table1") or {}
    why = results.why_missing("table1")
    rule = "within 10 %; ours is a stand-in: Text2Music was never published" if ours else why
    items = {"pairs": ("text-music pairs", ""), "hours": ("hours", " h")}
    rows = [number(label, said[key]["value"], "A", ours.get(key), unit, rule) for key, (label, unit) in items.items()]
    rows += [
        number("sample rate", said["sample_rate"]["value"], "A", ours.get("sample_rate"), " Hz", rule),
        number("channels", said["channels"]["value"], "A", ours.get("channels"), "", rule),
        not_run("playlists", f"{said['playlists']['value']} of about 7,000 tracks [A]", "ours has no playlists"),
    ]
    return [*rows, genre_shares(said["genre_shares"], ours.get("genre_shares"), why)]


def genre_shares(said: dict, ours: dict[str, float] | None, why: str) -> Row:
    """Same: each share within one percentage point; same direction: the genres in the same order."""
    text = shares(said["value"]) + f" [{said['mark']}]"
    if ours is None:
        return not_run("genre shares", text, why)
    total = sum(ours.values())
    ours = {genre: share / total for genre, share in ours.items()}
    near = all(abs(ours.get(genre, 0) - share) <= 0.01 for genre, share in said["value"].items())
    common = [ours[genre] for genre in said["value"] if genre in ours]
    ordered = len(common) > 1 and all(a > b for a, b in pairwise(common))
    verdict = SAME if near else DIRECTION if ordered else DIFFERENT
    rule = "same: each within 1 point; same direction: same order. Ours are balanced on purpose"
    return Row("genre shares", text, shares(ours), verdict, rule)


def shares(values: dict[str, float]) -> str:
    """ "Pop 27.3 %, Electronic 19.4 %"."""
    return ", ".join(f"{genre} {100 * share:.1f} %" for genre, share in values.items())


def table2(results: Results) -> list[Row]:
    """Properties: the other systems' rows are the paper's alone; Moûsai's is set against the results."""
    said = paper()["table2"]
    *others, own = [", ".join(cell for cell in row[1:] if cell) for row in said["rows"]]
    names = [row[0] for row in said["rows"]]
    rows = [not_run(name, f"{text} [B]", OTHERS) for name, text in zip(names[:-1], others, strict=True)]
    data = results.data("table1")
    if data is None:
        return [*rows, not_run(names[-1], f"{own} [B]", results.why_missing("table1"))]
    rate = f"{data['sample_rate'] / 1000:g}k@{data['channels']}"
    ours = f"{rate}, text, {len(data['genre_shares'])} genres, {figure(data['hours'])} h"
    holds = rate == said["rows"][-1][1]
    return [
        *rows,
        direction(names[-1], f"{own} [B]", ours, holds, "rate and channels the same; less music, fewer genres"),
    ]


def table4(results: Results) -> list[Row]:
    """CLAP: the paper's numbers wait for LAION's checkpoint; the in-domain model answers the question behind them."""
    said = paper()["table4"]["clap"]
    stored = results.data("table4")
    scores = {(row["model"], row["row"]): row for row in stored or []}
    laion = {name: row for (model, name), row in scores.items() if "laion" in model.lower()}
    why = "within 10 %; the paper's checkpoint is unknown" if laion else results.why_missing("table4")
    if stored is not None and not laion:
        why = next((w for _, item, w in results.not_run() if "laion" in item), "no LAION-CLAP checkpoint here")
    rows = []
    for name, row in {"Moûsai": "generated", "Riffusion": "riffusion"}.items():
        value = laion.get(row, {}).get("value")
        reason = why if laion.get(row) or name == "Moûsai" else OTHERS
        rows.append(number(f"{name}, LAION-CLAP", said[name], "B", value, "", reason))
    in_domain = {name: row for (model, name), row in scores.items() if "laion" not in model.lower()}
    return [*rows, follows_prompt(in_domain, results.why_missing("table4"))]


def follows_prompt(scores: dict[str, dict], why: str) -> Row:
    """The claim behind the table: music is nearer to its own prompt than to another's, intervals apart."""
    item = "music follows its prompt (in-domain model)"
    said = "yes: above the baseline [B]; no number to compare"
    if not {"generated", "shuffled"} <= scores.keys():
        return not_run(item, said, why)
    mine, floor = scores["generated"], scores["shuffled"]
    known = [row for row in (mine.get("low"), floor.get("high")) if row is not None]
    holds = known[0] > known[1] if len(known) == 2 else mine["value"] > floor["value"]
    names = ("generated", "shuffled", "unconditional", "noise", "silence", "riffusion", "reconstruction", "real")
    parts = [with_n(name, scores[name]) for name in names if name in scores]
    rule = "generated above shuffled prompts, intervals apart; never compared with the paper's LAION-CLAP numbers"
    return direction(item, said, "; ".join(parts), holds, rule)


def with_n(name: str, row: dict) -> str:
    """ "real 0.447 [0.396, 0.497], n 120"."""
    return f"{name} {interval(row['value'], row.get('low'), row.get('high'))}, n {row['n']}"


def table5(results: Results) -> list[Row]:
    """Fréchet distance and ratings."""
    said = paper()["table5"]
    stored = results.data("table5")
    why = "VGGish has no weights here; our distance is on another scale" if stored else results.why_missing("table5")
    rows = [
        not_run(f"FAD, {name}", f"{value:g} [B]", why if name == "Moûsai" else OTHERS)
        for name, value in said["fad"].items()
    ]
    for key, embedding in (("fd", "in-domain embedding"), ("fd_mfcc", "MFCC statistics")):
        rows.append(nearer_than_noise(embedding, (stored or {}).get(key, {}), results.why_missing("table5")))
    metrics = results.metrics()
    for rating, values in said["ratings"].items():
        for name, value in values.items():
            if name == "Moûsai":
                rows.append(rated(rating, value, metrics.get(f"ratings.{rating}")))
            else:
                rows.append(not_run(f"{rating}, {name}", f"{value:.2f} [B]", f"{PEOPLE}; {OTHERS}"))
    return rows


def rated(rating: str, paper: float, ours: dict | None) -> Row:
    """People's mean of one rating, where people were asked: the same only where its whole interval is.

    A middling 3 lies within 10 % of most of the paper's ratings; an interval of few answers does not.
    """
    item = f"{rating}, Moûsai"
    said = f"{paper:.2f} [B]"
    if ours is None:
        return not_run(item, said, PEOPLE)
    ends = [number(item, paper, "B", end).verdict for end in (ours["low"], ours["high"])]
    asked = f"{ours['n']} ratings, of {ours['clips']} clips by {ours['listeners']} listeners"
    shown = interval(ours["value"], ours["low"], ours["high"])
    verdict = SAME if ends == [SAME, SAME] else DIFFERENT
    return Row(item, said, shown, verdict, f"same: the whole interval within 10 %; {asked}; other music, other people")


def nearer_than_noise(embedding: str, distances: dict[str, dict], why: str) -> Row:
    """The claim behind FAD: generated music is nearer to real music than the baselines are; ours is white noise."""
    item = f"generated is near real music ({embedding})"
    said = "nearest of the three systems [B]"
    if not {"generated", "noise"} <= distances.keys():
        return not_run(item, said, why)
    ours = "; ".join(with_n(name, row) for name, row in distances.items())
    rule = "generated nearer to real music than white noise is; another scale, never compared with the paper's FAD"
    return direction(item, said, ours, distances["generated"]["high"] < distances["noise"]["low"], rule)


def figure5(results: Results) -> list[Row]:
    """Genre confusion: does each row's largest cell lie on the diagonal?"""
    said = paper()["figure5"]
    stored = results.data("figure5")
    claim = f"{said['diagonal']['value']} [B]"
    if stored is None:
        whole = not_run("Moûsai", claim, results.why_missing("figure5"))
        return [whole, not_run("Riffusion", f"{said['riffusion']['value']} [B]", OTHERS)]
    rows = []
    for classifier, models in stored["matrices"].items():
        if "ours" in models:
            item = f"Moûsai, classified by {classifier}"
            shares = accuracies(models, classifier, results.metrics())
            rows.append(on_diagonal(item, claim, np.asarray(models["ours"]), shares))
    if "ours" not in stored["matrices"].get("people", {}):
        rows.append(not_run("Moûsai, classified by people", claim, "nobody was asked; the classifiers are programs"))
    return rows + classified_as_pop(stored, f"{said['riffusion']['value']} [B]")


def classified_as_pop(stored: dict, claim: str) -> list[Row]:
    """Riffusion's clips, by each classifier that was given them: is Pop chosen for more than half?"""
    rows = []
    pop = stored["genres"].index("Pop") if "Pop" in stored["genres"] else None
    for classifier, models in stored["matrices"].items():
        if "riffusion" in models and pop is not None:
            counts = np.asarray(models["riffusion"])
            share = counts[:, pop].sum() / max(counts.sum(), 1)
            item = f"Riffusion, classified by {classifier}"
            ours = f"{100 * share:.0f} % of {int(counts.sum())} classified as Pop; chance {100 / len(counts):.0f} %"
            rows.append(direction(item, claim, ours, bool(share > 0.5), "Pop chosen for more than half"))
    return rows or [not_run("Riffusion", claim, OTHERS)]


def on_diagonal(item: str, claim: str, counts: np.ndarray, ours: str) -> Row:
    """Each prompted genre most often classified as itself, ties not counted."""
    others = np.where(np.eye(len(counts), dtype=bool), -1, counts)
    holds = bool((np.diag(counts) > others.max(axis=1)).all())
    return direction(item, claim, ours, holds, "in every row the diagonal is the largest cell")


def accuracies(models: dict[str, list], classifier: str, measured: dict[str, dict]) -> str:
    """The share on the diagonal for every model's clips, chance as the floor, real music as the ceiling."""
    parts = []
    for model, matrix in models.items():
        counts = np.asarray(matrix)
        name = "tcld.genre_accuracy" if model == "ours" else f"genre_accuracy.{model}"
        ends = {key: measured.get(f"{name}.{classifier}", {}).get(key) for key in ("low", "high")}
        share = np.trace(counts) / max(counts.sum(), 1)
        parts.append(with_n(model.replace("_", " "), {"value": share, "n": int(counts.sum())} | ends))
    chance = 1 / len(next(iter(models.values())))
    return "; ".join([*parts, f"chance {figure(chance)}"])


def figure6(results: Results) -> list[Row]:
    """Amplitude over "1 of 4" .. "4 of 4": rises, stands, falls."""
    said = paper()["figure6"]
    stored = results.data("figure6")
    keys = ("intro", "body", "ending")
    claims = {key: f"{said[key]['value']} [{said[key]['mark']}]" for key in keys}
    if stored is None:
        return [not_run(key, claim, results.why_missing("figure6")) for key, claim in claims.items()]
    name = "rms" if "rms" in stored["measures"] else next(iter(stored["measures"]))
    line = stored["measures"][name]["generated"]
    ours = f"mean {name}: " + "; ".join(
        f"{model} {over_segments(values)}, n {stored['n'][model]}" for model, values in stored["measures"][name].items()
    )
    low, high = line["low"], line["high"]
    tests = {
        "intro": (high[0] < low[1], "segment 1 below segment 2, intervals apart"),
        "body": (min(low[1:3]) > max(high[0], high[3]), "segments 2 and 3 above both ends, intervals apart"),
        "ending": (high[3] < low[2], "segment 4 below segment 3, intervals apart"),
    }
    return [direction(key, claims[key], ours, *tests[key]) for key in keys]


def over_segments(line: dict[str, list[float]]) -> str:
    """ "0.0353 [0.0296, 0.0418], 0.169 [0.158, 0.181], ..": one mean a segment."""
    return ", ".join(interval(*values) for values in zip(line["mean"], line["low"], line["high"], strict=True))


def claims(results: Results) -> list[Row]:
    """What the text says besides its tables."""
    said = paper()["claims"]
    text = {key: f"{claim['value']} [{claim['mark']}]" for key, claim in said.items() if key != "title"}
    rows = [real_time(text.pop("real_time"), results), self_attention(text.pop("self_attention"), results)]
    return rows + [not_run(key.replace("_", " "), claim, "no experiment on it yet") for key, claim in text.items()]


def real_time(claim: str, results: Results) -> Row:
    """At least one second of music a second."""
    ours = system(results.data("table3"), "ours")
    if not ours:
        return not_run("real time", claim, results.why_missing("table3"))
    speed = ours["inverse_rtf"]
    shown = f"inverse real-time factor {figure(speed)}"
    return direction("real time", claim, shown, speed >= 1, "seconds of music a second of work: 1 or more")


def self_attention(claim: str, results: Results) -> Row:
    """Ends of a clip agree more with self-attention than without, the intervals apart."""
    stored = results.data("attention")
    if stored is None:
        return not_run("self attention", claim, results.why_missing("attention"))
    rows = {row["name"]: row for row in stored["rows"]}
    mine = rows["attention"]
    without = rows["no_attention"]
    parts = [
        f"{name.replace('_', ' ')} {interval(row['value'], row['low'], row['high'])}" for name, row in rows.items()
    ]
    rule = f"agreement of a clip's ends; two thin nets, {stored['steps']} steps each: intervals apart"
    return direction("self attention", claim, "; ".join(parts), mine["low"] > without["high"], rule)
