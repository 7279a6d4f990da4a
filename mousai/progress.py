"""Progress bars: on a terminal a live bar, in a log a line every ten seconds."""

import sys
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def progress_bar(
    items: Iterable | None = None,
    name: str | None = None,
    total: int | None = None,
    initial: int = 0,
    unit: str = "it",
    show: bool = True,
) -> Any:
    """A tqdm bar over `items`, or without them one that the caller updates; silent unless `show`."""
    interval = 0.1 if sys.stderr.isatty() else 10
    return tqdm(items, name, total, initial=initial, unit=unit, mininterval=interval, disable=not show)
