"""The rows of Tables 1, 2, 4 and 5 and Figures 5 and 6: paper | ours | verdict.

What could be measured and was not is a row that says "not run" and why; what never can be here is quoted, in one line
a table. The scores of the in-domain audio-text model are never compared with the paper's LAION-CLAP numbers.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np

from mousai.report.results import Results, paper
from mousai.report.verdicts import (
    DIFFERENT,
    DIRECTION,
    NOT_COMPARABLE,
    NOT_RUN,
    SAME,
    UNDECIDED,
    Row,
    direction,
    figure,
    interval,
    not_run,
    number,
    proxy,
    quoted,
)

OTHERS = "Riffusion's weights are not part of this repository"
NAMES = {"in_domain": "the in-domain model", "mfcc": "MFCC statistics", "griffin_lim_from_z": "Griffin-Lim from z"}
NOT_HERE = "VGGish's weights and the paper's listeners are not here"
PEOPLE = "ratings are people's: none were collected"


def table1(results: Results) -> list[Row]:
    """Text2Music against the embedded data set: another set, so that its size is no measurement of the paper's."""
    said = paper()["table1"]
    ours = results.data("table1") or {}
    why = results.why_missing("table1")
    setting = "a setting, no finding" if ours else why
    rows = []
    for key, label, unit in (("pairs", "text-music pairs", ""), ("hours", "hours", " h")):
        row = number(label, said[key]["value"], "A", ours.get(key), unit, why)
        rows.append(not_comparable(row, "another data set: Text2Music was never published, ours is a stand-in"))
    rows += [
        number("sample rate", said["sample_rate"]["value"], "A", ours.get("sample_rate"), " Hz", setting),
        number("channels", said["channels"]["value"], "A", ours.get("channels"), "", setting),
        quoted("playlists", f"{said['playlists']['value']} of about 7,000 tracks [A]", "ours has no playlists"),
    ]
    return [*rows, genre_shares(said["genre_shares"], ours.get("genre_shares"), why)]


def not_comparable(row: Row, rule: str) -> Row:
    """The same row, its number next to the paper's without a comparison; one that was not run stays so."""
    return row if row.verdict == NOT_RUN else replace(row, verdict=NOT_COMPARABLE, rule=rule)


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
    """Properties: the other systems' are a table of the literature; of Moûsai's, what our files show."""
    said = paper()["table2"]
    *others, own = said["rows"]
    text = "; ".join(", ".join(cell for cell in row if cell) for row in others)
    data = results.data("table1")
    item = f"{own[0]}, rate and channels"
    mine = not_run(item, f"{own[1]} [B]", results.why_missing("table1"))
    if data:
        ours = f"{data['sample_rate'] / 1000:g}k@{data['channels']}"
        mine = Row(item, f"{own[1]} [B]", ours, SAME if ours == own[1] else DIFFERENT, "a setting, no finding")
    return [quoted("the other systems", f"{text} [B]", "a table of the literature"), mine]


def table4(results: Results) -> list[Row]:
    """CLAP: the paper's numbers wait for LAION's checkpoint; the in-domain model answers the question behind them."""
    said = paper()["table4"]["clap"]
    stored = results.data("table4")
    scores = {(row["model"], row["row"]): row for row in stored or []}
    laion = {name: row for (model, name), row in scores.items() if "laion" in model.lower()}
    why = results.why_missing("table4")
    if stored is not None:
        why = results.reasons().get("clap.laion.generated", "no LAION-CLAP checkpoint here")
    theirs = results.reasons().get("text_score.in_domain.riffusion", OTHERS)
    rows = []
    for name, row in {"Moûsai": "generated", "Riffusion": "riffusion"}.items():
        value = laion.get(row, {}).get("value")
        reason = why if name == "Moûsai" or not laion else theirs
        scored = number(f"{name}, LAION-CLAP", said[name], "B", value, "", reason)
        rows.append(not_comparable(scored, "other music and prompts, and the paper's checkpoint is unknown"))
    compared = "Moûsai above Riffusion, LAION-CLAP"
    claim = f"{said['Moûsai']:g} against {said['Riffusion']:g} [B]"
    if {"generated", "riffusion"} <= laion.keys():
        above, below = laion["generated"], laion["riffusion"]
        ours = f"{with_n('Moûsai', above)}; {with_n('Riffusion', below)}"
        rows.append(direction(compared, claim, ours, apart(above, below), "intervals apart"))
    else:
        rows.append(not_run(compared, claim, why if not laion else theirs))
    in_domain = {name: row for (model, name), row in scores.items() if "laion" not in model.lower()}
    return [*rows, follows_prompt(in_domain, results.why_missing("table4"))]


def apart(above: dict, below: dict) -> bool:
    """Whether the one lies above the other, their intervals apart where there are any."""
    low = above["value"] if above.get("low") is None else above["low"]
    high = below["value"] if below.get("high") is None else below["high"]
    return bool(low > high)


def follows_prompt(scores: dict[str, dict], why: str) -> Row:
    """The question behind the table: music is nearer to its own prompt than to another's, intervals apart."""
    item = "music follows its prompt (in-domain model)"
    said = "above Riffusion [B]; no number to compare"
    if not {"generated", "shuffled"} <= scores.keys():
        return not_run(item, said, why)
    names = ("generated", "shuffled", "unconditional", "noise", "silence", "riffusion", "reconstruction", "real")
    parts = [with_n(name, scores[name]) for name in names if name in scores]
    rule = "generated above shuffled prompts, intervals apart; never compared with the paper's LAION-CLAP numbers"
    return proxy(item, said, "; ".join(parts), apart(scores["generated"], scores["shuffled"]), rule)


def with_n(name: str, row: dict) -> str:
    """ "real 0.447 [0.396, 0.497], n 120, 30 tunes"."""
    units = f", {row['units']} tunes" if "units" in row else ""
    return f"{name} {interval(row['value'], row.get('low'), row.get('high'))}, n {row['n']}{units}"


def table5(results: Results) -> list[Row]:
    """Distances and ratings. The other systems' numbers stand in one line."""
    said = paper()["table5"]
    stored = results.data("table5")
    why = "VGGish has no weights here; our distances are on another scale" if stored else results.why_missing("table5")
    rows = [not_run("FAD, Moûsai", f"{said['fad']['Moûsai']:g} [B]", why)]
    spaces = {"in_domain": "in-domain embedding", "mfcc": "MFCC statistics"}
    optional = {"laion": "LAION-CLAP", "musicnn": "musicnn"}
    spaces |= {space: name for space, name in optional.items() if f"fd_{space}" in (stored or {})}
    for space, embedding in spaces.items():
        for measure, distance in (("fd", "Fréchet"), ("kd", "kernel")):
            by_set = (stored or {}).get(f"{measure}_{space}", {})
            rows.append(nearer_than_noise(f"{distance}, {embedding}", by_set, results.why_missing("table5")))
    metrics = results.metrics()
    measures = {"FAD": said["fad"]} | said["ratings"]
    rows += [rated(name, values["Moûsai"], metrics.get(f"ratings.{name}")) for name, values in said["ratings"].items()]
    others = [f"{name} {system} {value:g}" for name, by in measures.items() for system, value in by.items()]
    text = ", ".join(part for part in others if "Moûsai" not in part)
    return [*rows, quoted("Riffusion and Musika", f"{text} [B]", NOT_HERE)]


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


def nearer_than_noise(measure: str, distances: dict[str, dict], why: str) -> Row:
    """A question related to FAD's: is generated music nearer to real music than white noise is?"""
    item = f"generated is nearer to real music than white noise is ({measure})"
    said = "nearest of the three systems [B]"
    if not {"generated", "noise"} <= distances.keys():
        return not_run(item, said, why)
    ours = "; ".join(with_n(name, row) for name, row in distances.items())
    rule = "noise above generated, intervals apart; another scale, never compared with the paper's FAD"
    return proxy(item, said, ours, apart(distances["noise"], distances["generated"]), rule)


def figure5(results: Results) -> list[Row]:
    """Genre confusion: does each row's largest cell lie on the diagonal alone?"""
    said = paper()["figure5"]
    stored = results.data("figure5")
    claim = f"{said['diagonal']['value']} [B]"
    if stored is None:
        why = results.why_missing("figure5")
        return [not_run("Moûsai", claim, why), not_run("Riffusion", f"{said['riffusion']['value']} [B]", why)]
    rows = []
    for classifier, models in stored["matrices"].items():
        if "ours" in models:
            item = f"Moûsai, classified by {NAMES.get(classifier, classifier)}"
            shares = accuracies(models, classifier, results.metrics())
            rows.append(on_diagonal(item, claim, np.asarray(models["ours"]), shares, classifier == "people"))
    if "ours" not in stored["matrices"].get("people", {}):
        rows.append(
            not_run("Moûsai, classified by people", claim, "no person classified; the classifiers are programs")
        )
    absent = results.reasons().get("genre_accuracy.riffusion", OTHERS)
    return rows + classified_as_pop(stored, f"{said['riffusion']['value']} [B]", absent)


def classified_as_pop(stored: dict, claim: str, absent: str) -> list[Row]:
    """Riffusion's clips, by each classifier that was given them: is Pop chosen for more than half? absent: why not."""
    rows = []
    pop = stored["genres"].index("Pop") if "Pop" in stored["genres"] else None
    for classifier, models in stored["matrices"].items():
        if "riffusion" in models and pop is not None:
            counts = np.asarray(models["riffusion"])
            share = counts[:, pop].sum() / max(counts.sum(), 1)
            item = f"Riffusion, classified by {NAMES.get(classifier, classifier)}"
            ours = f"{100 * share:.0f} % of {int(counts.sum())} classified as Pop; chance {100 / len(counts):.0f} %"
            verdict = direction if classifier == "people" else proxy
            rows.append(verdict(item, claim, ours, bool(share > 0.5), "Pop chosen for more than half"))
    return rows or [not_run("Riffusion", claim, absent)]


def on_diagonal(item: str, claim: str, counts: np.ndarray, ours: str, people: bool = True) -> Row:
    """Each prompted genre most often classified as itself, ties not counted. The paper asked people."""
    others = np.where(np.eye(len(counts), dtype=bool), -1, counts)
    holds = bool((np.diag(counts) > others.max(axis=1)).all())
    verdict = direction if people else proxy
    return verdict(item, claim, ours, holds, "in every row the cell on the diagonal is larger than each other")


def accuracies(models: dict[str, list], classifier: str, measured: dict[str, dict]) -> str:
    """The share on the diagonal for every model's clips, chance as the floor, real music as the ceiling."""
    parts = []
    for model, matrix in models.items():
        counts = np.asarray(matrix)
        name = "tcld.genre_accuracy" if model == "ours" else f"genre_accuracy.{model}"
        metric = measured.get(f"{name}.{classifier}", {})
        ends = {key: metric[key] for key in ("low", "high", "units") if key in metric}
        share = np.trace(counts) / max(counts.sum(), 1)
        parts.append(with_n(NAMES.get(model, model.replace("_", " ")), {"value": share, "n": int(counts.sum())} | ends))
    chance = 1 / len(next(iter(models.values())))
    return "; ".join([*parts, f"chance {figure(chance)}"])


def figure6(results: Results) -> list[Row]:
    """Amplitude over "1 of 4" .. "4 of 4": rises, stands, falls."""
    said = paper()["figure6"]
    stored = results.data("figure6")
    keys = ("intro", "body", "ending")
    claims = {key: f"{said[key]['value']} [{said[key]['mark']}]" for key in keys}
    varies = variation(results.metrics(), results.why_missing("figure6"))
    if stored is None:
        return [*(not_run(key, claim, results.why_missing("figure6")) for key, claim in claims.items()), varies]
    by_model = stored["measures"]["amplitude"]
    ours = "mean RMS amplitude: " + "; ".join(
        f"{model} {over_segments(values)}, n {stored['n'][model]}, {stored['units'][model]} tunes"
        for model, values in by_model.items()
    )
    rules = {
        "intro": "segment 2 minus segment 1 above 0",
        "body": "the quieter of segments 2 and 3 minus the louder end above 0",
        "ending": "segment 3 minus segment 4 above 0",
    }
    rows = [shape(key, claims[key], ours, stored["differences"][key], rules[key]) for key in keys]
    return [*rows, varies]


def shape(item: str, claim: str, ours: str, difference: dict[str, float], rule: str) -> Row:
    """One part of the figure's shape: the whole interval of the difference decides, undecided where it holds 0."""
    numbers = (difference["value"], difference["low"], difference["high"])
    rule = f"{rule}: {interval(*numbers)}"
    if numbers[1] <= 0 <= numbers[2]:
        return Row(item, claim, ours, UNDECIDED, rule)
    return direction(item, claim, ours, numbers[1] > 0, rule)


def variation(metrics: dict[str, dict], why: str) -> Row:
    """The other half of the figure: how much clips of one segment differ in amplitude, over what real ones do."""
    item, said = "variation", "shown beside the mean [A]; values unknown [?]"
    ratios = [metrics.get(f"structure.variation_ratio.{k}") for k in range(1, 5)]
    measured = [ratio for ratio in ratios if ratio]
    if not measured:
        return not_run(item, said, why)
    ours = "over real music's: " + ", ".join(interval(one["value"], one["low"], one["high"]) for one in measured)
    holds = all(one["low"] > 0.5 and one["high"] < 2 for one in measured)
    return proxy(item, said, ours, holds, "each segment's standard deviation within half and twice that of real music")


def over_segments(line: dict[str, list[float]]) -> str:
    """ "0.0353 [0.0296, 0.0418], 0.169 [0.158, 0.181], ..": one mean a segment."""
    return ", ".join(interval(*values) for values in zip(line["value"], line["low"], line["high"], strict=True))
