"""Figures that notebooks share and that are too long for a cell: each returns its figure, or fills the given axes."""

from collections.abc import Mapping, Sequence
from math import log2, prod
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from mousai.config import UNetConfig
from mousai.evaluation.attention import depth_of
from mousai.report.figures import PALETTE
from mousai.shapes import to_stride
from mousai.spectrogram import log_mel

ITEMS = "R ResNet, M modulation, I inject (z), S self-attention, C cross-attention (text)"
GREY = "0.35"


def unet_shapes(config: UNetConfig, length: int) -> list[tuple[int, int]]:
    """(channels, steps) inside each depth, for a signal of `length` steps.

    Raises ValueError where the length is not a multiple of the U-Net's stride.
    """
    to_stride(length, config.stride, paper_exact=True)
    return [(width, length // prod(config.factors[: i + 1])) for i, width in enumerate(config.channels)]


def items_at(config: UNetConfig, depth: int) -> str:
    """The items at a depth, on the way down as on the way up: "2 × RMSC" is two groups of four (letters: `ITEMS`)."""
    inject = config.injects(depth)
    attention = "S" * config.attentions[depth] + "C" * config.cross_attentions[depth]
    return f"{config.items[depth]} × RM{'I' * inject}{attention}"


def draw_unet(ax: Axes, config: UNetConfig, length: int, title: str) -> None:
    """Draw the U-Net: from x_sigma down on the left, up to v_hat on the right; dashed lines are the skips, which add.

    A box names channels × steps and its items; its width grows with the logarithm of the steps. Green boxes have
    self-attention, orange ones take in z, blue ones neither.
    """
    rows = [((config.in_channels, length), ("x_sigma", "v_hat"), GREY)]
    for depth, shape in enumerate(unet_shapes(config, length)):
        items = items_at(config, depth)
        rows.append((shape, (items, items), PALETTE[2 if "S" in items else 1 if "I" in items else 0]))
    for row, ((channels, steps), names, color) in enumerate(rows):
        x = 1.1 + 0.35 * (len(rows) - row)
        wide = 1.1 + log2(steps) / log2(length)
        deepest = row + 1 == len(rows)
        for side, name in zip((-1, 1), names, strict=True):
            box(ax, side * x, -row, wide, f"{channels} × {steps}\n{name}", color)
        arrow(ax, (wide / 2 - x, -row), (x - wide / 2, -row), "-" if deepest else "--")
        if not deepest:
            down_and_up(ax, x, -row, config.factors[row])
    edge = 2.3 + 0.35 * len(rows)
    ax.set(title=title, xlim=(-edge, edge), ylim=(0.5 - len(rows), 0.5))
    ax.axis("off")


def box(ax: Axes, x: float, y: float, wide: float, said: str, color: str) -> None:
    """Draw a box around its centre (x, y) with two lines of text in it."""
    ax.add_patch(Rectangle((x - wide / 2, y - 0.32), wide, 0.64, facecolor=color, edgecolor=color, alpha=0.3))
    ax.text(x, y, said, ha="center", va="center", fontsize=8)


def down_and_up(ax: Axes, x: float, y: float, factor: int) -> None:
    """Draw the arrows to the row below, on the left, and back, on the right, with the factor of the time steps."""
    above, below = (x, y - 0.32), (x - 0.35, y - 0.68)
    arrow(ax, (-above[0], above[1]), (-below[0], below[1]))
    arrow(ax, below, above)
    for side, sign in ((-1, "÷"), (1, "×")):
        ax.text(side * (x + 0.15), y - 0.5, f"{sign}{factor}", ha="center", va="center", fontsize=8, color=GREY)


def arrow(ax: Axes, start: tuple[float, float], end: tuple[float, float], line: str = "-") -> None:
    """Draw a thin grey arrow."""
    ax.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": GREY, "ls": line, "shrinkA": 0, "shrinkB": 0})


def draw_runs(ax: Axes, runs: Sequence[dict], name: str) -> None:
    """Draw the runs of `mousai.checkpoint.read_runs` one after the other: mean loss, and its 10 to 90 % band.

    A run's curve holds means over equal parts of its steps; each is drawn at the middle of its part.
    """
    before = 0
    for number, run in enumerate(runs, 1):
        parts = len(run["loss_curve"])
        x = before + run["steps"] * (np.arange(parts) + 0.5) / parts
        label = f"{name}, run {number}: {run['steps']:,} steps"
        (line,) = ax.plot(x, run["loss_curve"], label=label, lw=1.5)
        ax.fill_between(x, run["loss_low"], run["loss_high"], color=line.get_color(), alpha=0.25, lw=0)
        before += run["steps"]


def draw_log_mels(waves: Mapping[str, Tensor], sample_rate: int = 48_000) -> Figure:
    """Log-mel spectrograms of waveforms [2, time] of equal length, side by side with the same colour scale."""
    seconds = next(iter(waves.values())).shape[-1] / sample_rate
    pictures = {title: log_mel(w[None], sample_rate)[0] for title, w in waves.items()}
    return draw_pictures(pictures, seconds, (0, 80), "mel band", (-3, 2))


def draw_pictures(
    pictures: Mapping[str, Tensor],
    seconds: float,
    rows: tuple[float, float],
    label: str,
    shades: tuple[float, float],
    unit: str = "log10 magnitude",
) -> Figure:
    """Pictures [row, time] side by side under their titles, with the same colour scale, labelled with `unit`.

    rows: values of the lowest and the highest row; label: their axis. shades: values at both ends of the colour scale.
    """
    fig, axes = plt.subplots(1, len(pictures), figsize=(11, 2.8), sharey=True, layout="constrained", squeeze=False)
    for ax, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        extent = (0, seconds, *rows)
        ax.imshow(picture, "magma", origin="lower", aspect="auto", vmin=shades[0], vmax=shades[1], extent=extent)
        ax.set(title=title, xlabel="time (s)")
        ax.grid(False)
    axes[0, 0].set_ylabel(label)
    fig.colorbar(axes[0, 0].images[0], ax=axes, label=unit, pad=0.01)
    return fig


def draw_changes(changes: Tensor) -> Figure:
    """The result of `channel_changes` [channel, mel band] as a picture: red is louder, blue is quieter."""
    limit = float(changes.abs().max())
    fig, ax = plt.subplots(figsize=(9, 4), layout="constrained")
    picture = ax.imshow(changes, "vlag", aspect="auto", vmin=-limit, vmax=limit, interpolation="nearest")
    fig.colorbar(picture, label="change (decades)")
    ax.set(xlabel="mel band (low to high)", ylabel="latent channel moved")
    ax.grid(False)
    return fig


def draw_attention(weights: Mapping[str, Tensor], tokens: Sequence[str], seconds: float) -> Figure:
    """The result of `attention_weights` for one clip of `seconds`; 1 is the weight of uniform attention.

    Above, the last self-attention of each depth: query time upwards, key time across, a mean over heads. Below, a row
    for each depth: the mean weight of each token in its last cross-attention.
    """
    over_time = {depth_of(name): even(part) for name, part in weights.items() if "self" in name}
    over_tokens = {name: part[..., : len(tokens)] for name, part in weights.items() if "cross" in name}
    words = {depth_of(name): even(part).mean(axis=0) for name, part in over_tokens.items()}
    mosaic: list[Any] = [[f"{depth}" for depth in sorted(over_time)], ["words"] * len(over_time)]
    fig, axes = plt.subplot_mosaic(mosaic, figsize=(11, 6), height_ratios=(3, 2), layout="constrained")
    extent = (0, seconds, 0, seconds)
    for depth, look in over_time.items():
        ax = axes[f"{depth}"]
        top = float(np.percentile(look, 99))
        fig.colorbar(ax.imshow(look, "magma", origin="lower", vmin=0, vmax=top, extent=extent), ax=ax, shrink=0.7)
        ax.set(title=f"depth {depth}, {len(look)} steps", xlabel="key time (s)", ylabel="query time (s)")
        ax.grid(False)
    rows = np.stack([words[depth] for depth in sorted(words)])
    ax = axes["words"]
    fig.colorbar(ax.imshow(rows, "magma", aspect="auto", vmin=0), ax=ax)
    ax.set(xticks=range(len(tokens)), yticks=range(len(rows)), yticklabels=sorted(words), ylabel="depth")
    ax.set_xticklabels(tokens, rotation=60, ha="right", rotation_mode="anchor")
    ax.grid(False)
    return fig


def even(weights: Tensor) -> np.ndarray:
    """[1, heads, queries, keys] -> mean over heads [queries, keys], times the number of keys: 1 is uniform."""
    return (weights[0].mean(dim=0) * weights.shape[-1]).cpu().numpy()
