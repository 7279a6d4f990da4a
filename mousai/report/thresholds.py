"""The project's own thresholds: what is to be reached before the small model is called good. The paper has none.

Each is typed once, here; what stands beside it comes from the results alone. The value decides, the interval is shown.
"""

from dataclasses import dataclass
from operator import ge, le, lt

from mousai.report.results import Results
from mousai.report.verdicts import NOT_REACHED, NOT_RUN, REACHED, Row, figure, interval

TITLE = "The project's own thresholds"
COLUMNS = ["item", "threshold", "ours", "verdict", "metric or reason"]
SIGNS = {"at least": ge, "at most": le, "below": lt}


@dataclass(frozen=True)
class Threshold:
    """A metric, or its ratio to `over`, held against `limit`; `size` takes the sign away first."""

    item: str
    metric: str
    sign: str
    limit: float
    over: str = ""
    size: bool = False

    def __str__(self) -> str:
        return f"{'size ' if self.size else ''}{self.sign} {figure(self.limit)}"


FD, FD_PCA = "dmae.fd.in_domain", "dmae.fd.in_domain.pca_griffin_lim"
THRESHOLDS = (
    Threshold("stage 1 needs its latent: loss with another's, over its own", "dmae.latent_gain", "at least", 1.3),
    Threshold("stage 1, log-mel L1", "dmae.logmel_l1", "at most", 0.2),
    Threshold("stage 1, log-mel L1 over PCA's", "dmae.logmel_l1", "below", 1, "dmae.logmel_l1.pca_griffin_lim"),
    Threshold("stage 1, Fréchet distance over PCA's", FD, "at most", 0.5, FD_PCA),
    Threshold("stage 1 keeps the genre: accuracy over that on the originals", "dmae.genre_kept", "at least", 0.95),
    Threshold("genre as prompted, in-domain model", "tcld.genre_accuracy.in_domain", "at least", 0.9),
    Threshold("genre as prompted, MFCC classifier", "tcld.genre_accuracy.mfcc", "at least", 0.85),
    Threshold("CLAP score over real music's", "clap.in_domain.generated", "at least", 0.8, "clap.in_domain.real"),
    Threshold('segment as prompted ("1 of n", "n of n")', "tcld.segment_followed", "at least", 0.7),
    Threshold("loudness over the segments, correlation with real music", "structure.correlation", "at least", 0.8),
    Threshold("new: distance to the training music over real music's", "copying.ratio", "at least", 0.8),
    Threshold("level beside real music, dB", "level.db", "at most", 3, size=True),
    Threshold("share of clipped samples", "level.clipped", "below", 0.001),
    Threshold("stage 2, paper's size, float32: authors' time over ours", "bench.tcld.exact_ratio", "at least", 1.5),
    Threshold("stage 1, paper's size, float32: authors' time over ours", "bench.dmae.exact_ratio", "at least", 1.2),
    Threshold("stage 2, whatever is faster: authors' time over ours", "bench.tcld.fast_ratio", "at least", 2.5),
    Threshold("stage 1, whatever is faster: authors' time over ours", "bench.dmae.fast_ratio", "at least", 2),
    Threshold("DDIM 100's time over ours, at equal quality", "bench.prompt_to_wave.equal_quality_ratio", "at least", 8),
    Threshold("prompt to waveform, inverse real-time factor", "bench.inverse_rtf", "at least", 3),
    Threshold("paper's size, float32: share of the machine's peak", "bench.peak_share", "at least", 0.5),
    Threshold("memory of ten minutes over that of one", "bench.memory_10min_over_1min", "at most", 1.2),
)


def rows(results: Results) -> list[Row]:
    """One row a threshold: item | threshold | ours | reached, not reached or not run | metric and n, or the reason."""
    metrics = results.metrics()
    reasons = {item: why for _, item, why in results.not_run()}
    return [row(threshold, metrics, reasons) for threshold in THRESHOLDS]


def row(threshold: Threshold, metrics: dict[str, dict], reasons: dict[str, str]) -> Row:
    """The verdict on one threshold. A ratio to what is not above 0 says nothing, so it is not run."""
    item = threshold.item
    said = str(threshold)
    names = [name for name in (threshold.metric, threshold.over) if name]
    missing = next((name for name in names if name not in metrics), None)
    if missing:
        return Row(item, said, "not run", NOT_RUN, reasons.get(missing, f"no result here holds {missing}"))
    mine = metrics[threshold.metric]
    below = metrics[threshold.over]["value"] if threshold.over else 1
    if below <= 0:
        return Row(item, said, "not run", NOT_RUN, f"{threshold.over} is {figure(below)}: no ratio")
    value = mine["value"] / below
    reached = SIGNS[threshold.sign](abs(value) if threshold.size else value, threshold.limit)
    shown = interval(mine["value"], mine["low"], mine["high"])
    if threshold.over:
        shown = f"{figure(mine['value'])} / {figure(below)} = {figure(value)}"
    return Row(item, said, shown, REACHED if reached else NOT_REACHED, f"{' / '.join(names)}, n = {mine['n']}")
