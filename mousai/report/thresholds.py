"""The project's own bars: what has to be reached before we call the small model good. Not the paper's, which has none.

Each is typed once, here; what stands beside it comes from the results alone. The value decides, the interval is shown.
"""

from dataclasses import dataclass
from operator import ge, le, lt

from mousai.report.results import Results
from mousai.report.verdicts import NOT_REACHED, NOT_RUN, REACHED, Row, figure, interval

TITLE = "The project's own bars"
COLUMNS = ["item", "bar", "ours", "verdict", "metric or reason"]
SIGNS = {"at least": ge, "at most": le, "below": lt}


@dataclass(frozen=True)
class Bar:
    """A metric, or its ratio to `over`, held against `limit`; `size` takes the sign away first."""

    item: str
    metric: str
    sign: str
    limit: float
    over: str = ""
    size: bool = False

    def __str__(self) -> str:
        return f"{'size ' if self.size else ''}{self.sign} {figure(self.limit)}"


BARS = (
    Bar("stage 1 needs its latent: loss with another's, over its own", "dmae.latent_gain", "at least", 1.3),
    Bar("stage 1, log-mel L1", "dmae.logmel_l1", "at most", 0.2),
    Bar("stage 1, log-mel L1 over PCA's", "dmae.logmel_l1", "below", 1, "dmae.logmel_l1.pca_griffin_lim"),
    Bar("stage 1, Fréchet distance over PCA's", "dmae.fd.judge", "at most", 0.5, "dmae.fd.judge.pca_griffin_lim"),
    Bar("stage 1 keeps the genre: judge's accuracy over that on the originals", "dmae.genre_kept", "at least", 0.95),
    Bar("genre as asked, heard by judge", "tcld.genre_accuracy.judge", "at least", 0.9),
    Bar("genre as asked, heard by mfcc", "tcld.genre_accuracy.mfcc", "at least", 0.85),
    Bar("CLAP over real music's", "clap.in_domain.generated", "at least", 0.8, "clap.in_domain.real"),
    Bar('beginning or ending as asked ("1 of n", "n of n")', "tcld.key_or_tempo", "at least", 0.7),
    Bar("loudness over the segments, correlation with real music", "structure.correlation", "at least", 0.8),
    Bar("new: distance to the training music over real music's", "copying.ratio", "at least", 0.8),
    Bar("level beside real music, dB", "level.db", "at most", 3, size=True),
    Bar("share of clipped samples", "level.clipped", "below", 0.001),
    Bar("stage 2, paper's size, float32: the authors' time over ours", "bench.tcld.exact_ratio", "at least", 1.5),
    Bar("stage 1, paper's size, float32: the authors' time over ours", "bench.dmae.exact_ratio", "at least", 1.2),
    Bar("stage 2, whatever is faster here: the authors' time over ours", "bench.tcld.fast_ratio", "at least", 2.5),
    Bar("stage 1, whatever is faster here: the authors' time over ours", "bench.dmae.fast_ratio", "at least", 2),
    Bar("DDIM 100's time over ours, at equal quality", "bench.prompt_to_wave.equal_quality_ratio", "at least", 8),
    Bar("prompt to waveform, x real time", "bench.x_real_time", "at least", 3),
    Bar("paper's size, float32: share of the machine's peak", "bench.peak_share", "at least", 0.5),
    Bar("memory of ten minutes over that of one", "bench.memory_10min_over_1min", "at most", 1.2),
)


def bars(results: Results) -> list[Row]:
    """One row a bar: item | bar | ours | reached, not reached or not run | metric and n, or the reason."""
    metrics, reasons = results.metrics(), {item: why for _, item, why in results.not_run()}
    return [row(bar, metrics, reasons) for bar in BARS]


def row(bar: Bar, metrics: dict[str, dict], reasons: dict[str, str]) -> Row:
    """The verdict on one bar. A ratio to what is not above 0 says nothing, so it is not run."""
    names = [name for name in (bar.metric, bar.over) if name]
    missing = next((name for name in names if name not in metrics), None)
    if missing:
        why = reasons.get(missing, f"no result here holds {missing}")
        return Row(bar.item, str(bar), "not run", NOT_RUN, why)
    mine, below = metrics[bar.metric], metrics[bar.over]["value"] if bar.over else 1
    if below <= 0:
        return Row(bar.item, str(bar), "not run", NOT_RUN, f"{bar.over} is {figure(below)}: no ratio")
    value, what = mine["value"] / below, " / ".join(names)
    reached = SIGNS[bar.sign](abs(value) if bar.size else value, bar.limit)
    shown = f"{figure(mine['value'])} / {figure(below)} = {figure(value)}" if bar.over else text(mine)
    return Row(bar.item, str(bar), shown, REACHED if reached else NOT_REACHED, f"{what}, n = {mine['n']}")


def text(metric: dict) -> str:
    """Value and interval of one metric."""
    return interval(metric["value"], metric["low"], metric["high"])
