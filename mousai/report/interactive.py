"""Sliders for a reader in Jupyter; a batch run shows the figure for one of the values."""

from collections.abc import Callable, Sequence

import matplotlib.pyplot as plt
from IPython.display import display
from ipywidgets import SelectionSlider, interactive
from matplotlib.figure import Figure

from mousai.report.record import Report


def slider(
    report: Report, name: str, draw: Callable[[float], Figure], values: Sequence[float], shown: float, label: str
) -> interactive | None:
    """A slider that shows `draw(value)` for the chosen one of `values`, at first `shown`; the last expression of a
    cell.

    The figure of `shown` is saved as figures/<name>.png. A batch run shows only that figure and returns None, because a
    widget in an executed copy does nothing. Raises ValueError where `shown` is none of the values.
    """
    if shown not in values:
        raise ValueError(f"slider {name!r}: {shown:g} is not among its values: begin with one of them")

    def redraw(value: float) -> None:
        fig = draw(value)
        if value == shown:
            report.figure(fig, name)
        display(fig)  # ipywidgets looks for matplotlib's inline backend under an older name
        plt.close(fig)

    if not report.live:
        return redraw(shown)
    choose = SelectionSlider(
        options=[(f"{value:g}", value) for value in values], value=shown, description=label, continuous_update=False
    )
    return interactive(redraw, value=choose)
