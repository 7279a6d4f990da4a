"""The verdicts on our numbers and the paper's, and the rules that give them, in code and in words."""

from dataclasses import dataclass
from math import isclose

SAME, DIRECTION, DIFFERENT = "same", "same direction", "different"
NOT_COMPARABLE, PROXY, QUOTED, NOT_RUN = "not comparable", "proxy only", "quoted", "not run"
REACHED, NOT_REACHED, UNDECIDED = "reached", "not reached", "undecided"  # of a threshold of our own

RULES = {
    SAME: "the same quantity, measured the same way, within 10 % of the paper's number",
    DIRECTION: "the paper's own comparison or shape was measured here and holds; sizes are not compared",
    DIFFERENT: "either of these was measured, and does not hold",
    UNDECIDED: "either of these was measured, but the 95 % interval of its difference contains 0",
    NOT_COMPARABLE: "a number of another machine, model or data set: printed next to the paper's, it proves nothing",
    PROXY: "a related question was measured, because the paper's own needs people or systems that are not here",
    QUOTED: "the paper's number about another system; nothing here can measure it",
    NOT_RUN: "there is no number of ours; the reason is given",
}
TOLERANCE = 0.1


@dataclass(frozen=True)
class Row:
    """One line of a table: what, the paper's number, ours, the verdict, and its rule or reason."""

    item: str
    paper: str
    ours: str
    verdict: str
    rule: str


def not_run(item: str, paper: str, why: str) -> Row:
    """A line without a number of ours, because it was not measured; `why` is never empty."""
    return Row(item, paper, "not run", NOT_RUN, why)


def quoted(item: str, paper: str, why: str) -> Row:
    """A line that this repository can never fill; `why` is never empty."""
    return Row(item, paper, "", QUOTED, why)


def number(item: str, paper: float, mark: str, ours: float | None, unit: str = "", rule: str = "within 10 %") -> Row:
    """Two measurements of one quantity: "same" where ours is within 10 % of the paper's, else "different".

    mark: how certain the paper's number is ([A], [B] and so on, as in `mousai.config`). Where `ours` is None, the line
    is "not run", and `rule` is the reason.
    """
    said = f"{figure(paper)}{unit} [{mark}]"
    if ours is None:
        return not_run(item, said, rule)
    verdict = SAME if isclose(ours, paper, rel_tol=0, abs_tol=TOLERANCE * abs(paper)) else DIFFERENT
    return Row(item, said, f"{figure(ours)}{unit}", verdict, rule)


def direction(item: str, paper: str, ours: str, holds: bool, rule: str) -> Row:
    """The paper's own comparison or shape: "same direction" where it holds in our numbers, else "different"."""
    return Row(item, paper, ours, DIRECTION if holds else DIFFERENT, rule)


def proxy(item: str, paper: str, ours: str, holds: bool, rule: str) -> Row:
    """A related question, measured in place of the paper's; whether its rule holds is said in words."""
    return Row(item, paper, f"{'holds' if holds else 'does not hold'}: {ours}", PROXY, rule)


def figure(value: float) -> str:
    """A number for people: three significant digits below 1,000, above it a whole number with commas."""
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"


def interval(value: float, low: float | None, high: float | None) -> str:
    """ "0.61 [0.58, 0.64]", or the value alone where no interval was measured."""
    return figure(value) if low is None or high is None else f"{figure(value)} [{figure(low)}, {figure(high)}]"
