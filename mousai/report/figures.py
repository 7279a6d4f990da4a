"""Draw Figures 5 and 6 from the results; the same numbers give the same bytes."""

from pathlib import Path

import numpy as np
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mousai.files import atomic_write
from mousai.report.tables import NAMES

PALETTE = ("#0173b2", "#de8f05", "#029e73", "#d55e00")  # the first of seaborn's "colorblind"
SHOWN = NAMES | {"ours": "generated", "unconditional": "without text"}


def save(fig: Figure, path: Path) -> None:
    """Write a PNG, complete or not at all, without date and version in it."""
    with atomic_write(path) as temporary:
        fig.savefig(temporary, format="png", dpi=110, bbox_inches="tight", metadata={"Software": None})


def figure5(data: dict, path: Path) -> None:
    """Draw a matrix of counts for each classifier (down) and system (across): rows true or prompted genre."""
    matrices = data["matrices"]
    systems = list(dict.fromkeys(system for models in matrices.values() for system in models))
    fig = Figure(figsize=(2.9 * len(systems), 3.2 * len(matrices)), layout="constrained")
    grid = fig.subplots(len(matrices), len(systems), sharex=True, sharey=True, squeeze=False)
    for axes, (classifier, models) in zip(grid, matrices.items(), strict=True):
        for ax, system in zip(axes, systems, strict=True):
            if system not in models:
                ax.axis("off")
                continue
            counts = np.asarray(models[system])
            by = f"classified by {SHOWN.get(classifier, classifier)}"
            confusion(ax, counts, data["genres"], f"{SHOWN.get(system, system)}, n = {counts.sum()}\n{by}")
    fig.supxlabel("genre chosen", fontsize=10)
    fig.supylabel("genre, true or prompted", fontsize=10)
    save(fig, path)


def confusion(ax: Axes, counts: np.ndarray, genres: list[str], title: str) -> None:
    """Draw one matrix: the colour is the share of the row, the number is the count."""
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    seaborn.heatmap(share, annot=counts, fmt="g", vmin=0, vmax=1, cmap="viridis", cbar=False, square=True, ax=ax)
    ax.set_xticklabels(genres, rotation=45)
    ax.set_yticklabels(genres, rotation=0)
    ax.set_title(title, fontsize=10)


def figure6(data: dict, path: Path) -> None:
    """Draw amplitude and variation of each segment with 95 % intervals, generated and real, one panel a measure."""
    measures = data["measures"]
    titles = {"amplitude": "mean over clips", "variation": "standard deviation over clips"}
    fig = Figure(figsize=(4.6 * len(measures), 3.4), layout="constrained")
    for place, (measure, kinds) in enumerate(measures.items()):
        ax = fig.add_subplot(1, len(measures), place + 1)
        for index, (kind, values) in enumerate(kinds.items()):
            segments(ax, data["segments"], values, kind, index)
        ax.set(
            title=titles[measure],
            xlabel=f"segment k of {len(data['segments'])}",
            ylabel="RMS amplitude (full scale 1)",
            ylim=(0, None),
        )
        ax.set_xticks(data["segments"])
        ax.legend(frameon=False)
    save(fig, path)


def segments(ax: Axes, places: list[int], values: dict, kind: str, index: int) -> None:
    """Draw one line of Figure 6 with its 95 % intervals over tunes; `index` sets its colour and a small shift."""
    value, low, high = (np.asarray(values[key], float) for key in ("value", "low", "high"))
    x = np.asarray(places) + 0.1 * (index - 0.5)
    ax.errorbar(x, value, [value - low, high - value], marker="o", capsize=3, color=PALETTE[index], label=kind)
