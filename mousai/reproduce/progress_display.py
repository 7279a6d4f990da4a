"""What a run shows while it works: in a terminal one table that is drawn again and again, in a log plain lines."""

import sys

from rich.console import Console
from rich.live import Live
from rich.table import Table

from mousai.reproduce.kernel_monitor import Pulse

COLUMNS = ("notebook", "status", "cell", "elapsed", "left", "memory")


class Board:
    """A row a lesson. `usual`: seconds that each took last time, or 0 where nobody knows."""

    def __init__(self, usual: dict[str, float], terminal: bool | None = None):
        self.usual, self.rows = usual, {name: ["waiting", "", "", clock(usual[name]), ""] for name in usual}
        terminal = sys.stdout.isatty() if terminal is None else terminal
        self.live = Live(console=Console(), get_renderable=self.table, refresh_per_second=1) if terminal else None

    def __enter__(self) -> "Board":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def starts(self, name: str) -> None:
        """The lesson's turn has come."""
        self.rows[name][0] = "running"
        self.line(f"{name} starts")

    def beats(self, name: str, pulse: Pulse) -> None:
        """It lives: where it is, how long it may still take, what memory it holds."""
        left = self.usual[name] - pulse.seconds
        self.rows[name][1:] = [f"{pulse.cell} of {pulse.cells}", clock(pulse.seconds), clock(left), gb(pulse.memory_gb)]
        more = f", about {left:.0f} s left" if left > 0 else ""
        place = f"cell {pulse.cell} of {pulse.cells}, {pulse.seconds:.0f} s"
        self.line(f"  {name}: {place}{more}, {gb(pulse.memory_gb)}")

    def ends(self, name: str, status: str, seconds: float | None, why: str) -> None:
        """How it ended; `why` is for those that did not end well."""
        row = self.rows[name]
        row[0], row[2], row[3] = status, "" if seconds is None else clock(seconds), ""
        took = "" if seconds is None else f" {seconds:.0f} s"
        self.line(f"{name} {status}{took}" + (f": {why}" if why else ""), always=bool(why))

    def line(self, text: str, always: bool = False) -> None:
        """A line of the log; in a terminal, above the table, only what the table does not say."""
        if self.live is None:
            print(text, flush=True)
        elif always:
            self.live.console.print(text, markup=False, highlight=False)

    def table(self) -> Table:
        """As it stands now; the last line counts what is left in all."""
        left = sum(self.usual[name] for name, row in self.rows.items() if row[0] == "waiting")
        table = Table(*COLUMNS, box=None, caption=f"{clock(left)} of waiting lessons" if left else None)
        for name, row in self.rows.items():
            table.add_row(name, *row)
        return table


def clock(seconds: float) -> str:
    """ "7:05", or "" for nothing."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}" if seconds > 0 else ""


def gb(memory: float) -> str:
    return f"{memory:.1f} GB"
