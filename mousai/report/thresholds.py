"""The project's own thresholds, which must be reached before the small model is called good. The paper has none.

Each limit stands here, with its reason and the day it was set; the numbers compared with it come from the results.
Where there is a 95 % interval, the whole interval decides: where the limit lies inside it, the verdict is undecided.
"""

from dataclasses import dataclass
from math import inf
from operator import ge, gt, le, lt

from mousai.report.results import Results
from mousai.report.verdicts import NOT_REACHED, NOT_RUN, REACHED, UNDECIDED, Row, figure, interval

TITLE = "The project's own thresholds"
COLUMNS = ["item", "threshold", "ours", "verdict", "metric or reason; why this limit, and when it was set"]
SIGNS = {"at least": ge, "at most": le, "below": lt, "above": gt}
FIRST, BENCH, SECOND = "2026-11-25", "2026-11-28", "2026-11-30"  # the days on which limits were set


@dataclass(frozen=True)
class Threshold:
    """A limit on a metric, or on its ratio to the metric `over`.

    item: what it is about, in words. metric, over: ids. sign: one of `SIGNS`. size: compare the absolute value. why:
    the reason for the limit.
    """

    item: str
    metric: str
    sign: str
    limit: float
    over: str = ""
    size: bool = False
    why: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {figure(self.limit)}{' either way' if self.size else ''}"


@dataclass(frozen=True)
class Decision:
    """A verdict, the numbers it rests on, and the metrics' ids with n, or the reason where nothing was measured."""

    verdict: str
    shown: str
    rule: str


FORMS = {"as shipped": "", "diffusion alone": ".alone"}  # stage 1 with and without refinement -> ending of its metrics
SPACES = {"in-domain": "", "musicnn": ".musicnn"}  # embeddings -> ending of kernel distances, after that of the form
FD, PCA = "dmae.fd.in_domain", "pca_griffin_lim"
NETWORK = "whitened loss with the network over the loss without it, sigma"
REMOVED = f"a part is credited only with what is worse without it; {SECOND}"
OURS = f"a decoder no nearer than Griffin-Lim is not needed; the rows above say what its network adds; {SECOND}"
A_GIVEN = f"a network that adds less than a seventh has not been trained enough; {SECOND}"
OLD = f"the first edition's target; {FIRST}"
SPEED = f"what a change of the code must be worth to be kept; {BENCH}"
PARITY = f"at most the authors' time, end to end, not in the parts that look best; {SECOND}"

# fmt: off
THRESHOLDS = (
    Threshold(f"stage 1: {NETWORK} 0.3", "dmae.network_ratio.0.3", "at most", 0.85, why=A_GIVEN),
    Threshold(f"stage 1: {NETWORK} 0.5", "dmae.network_ratio.0.5", "at most", 0.85, why=A_GIVEN),
    Threshold(f"stage 1: {NETWORK} 0.7", "dmae.network_ratio.0.7", "at most", 0.85, why=A_GIVEN),
    *(Threshold(f"stage 1, {form}: kernel distance to the originals ({space}), minus that {rival}",
                f"dmae.kd_minus_{name}{suffix}{ending}", "below", 0, why=why)
      for rival, name, why in (("without its network", "no_network", REMOVED),
                               ("of Griffin-Lim from z", "griffin_lim_z", OURS))
      for form, suffix in FORMS.items() for space, ending in SPACES.items()),
    Threshold("stage 1 needs its latent: log-mel L1 when sampled with another clip's latent, over that with its own",
              "dmae.latent_gain", "at least", 1.3, why=OLD),
    *(limit for form, suffix in FORMS.items() for limit in (
        Threshold(f"stage 1, {form}: log-mel L1", f"dmae.logmel_l1{suffix}", "at most", 0.145,
                  why=f"Griffin-Lim from the same latent is near it; {SECOND}"),
        Threshold(f"stage 1, {form}: log-mel L1 over PCA's", f"dmae.logmel_l1{suffix}", "below", 1,
                  f"dmae.logmel_l1.{PCA}", why=f"as many numbers without any network; {FIRST}"),
        Threshold(f"stage 1, {form}: long-term spectrum error, dB", f"dmae.ltas_db{suffix}", "at most", 1,
                  why=f"an equalizer would be heard beyond it; {SECOND}"),
        Threshold(f"stage 1, {form}: level, dB", f"dmae.level_db{suffix}", "at most", 1, size=True,
                  why=f"about the smallest difference that is heard; {SECOND}"),
        Threshold(f"stage 1, {form}: chroma similarity", f"dmae.chroma{suffix}", "at least", 0.88,
                  why=f"half way from the version before (0.84) to true magnitudes as measured then (0.925); {SECOND}"),
        Threshold(f"stage 1, {form}: onset correlation", f"dmae.onset{suffix}", "at least", 0.95,
                  why=f"Griffin-Lim from the same latent is near it; {SECOND}"),
        Threshold(f"stage 1, {form}: spectral contrast error, dB", f"dmae.contrast_db{suffix}", "at most", 2.5,
                  why=f"about half of the version before (4.5); {SECOND}"))),
    Threshold("stage 1, Fréchet distance over PCA's", FD, "at most", 0.5, f"{FD}.{PCA}", why=OLD),
    Threshold("stage 1 keeps the genre: accuracy over that on the originals", "dmae.genre_kept", "at least", 0.95,
              why=OLD),
    Threshold("genre as prompted, in-domain model", "tcld.genre_accuracy.in_domain", "at least", 0.9, why=OLD),
    Threshold("genre as prompted, MFCC classifier", "tcld.genre_accuracy.mfcc", "at least", 0.85, why=OLD),
    Threshold("text score of generated clips, over that of the real segments with the same captions",
              "text_score.in_domain.generated_over_real", "at least", 0.8, why=OLD),
    Threshold('segment as prompted ("1 of n", "n of n")', "tcld.segment_followed", "at least", 0.7,
              why=f"chance is 0.5; {FIRST}"),
    Threshold("RMS level over the segments, correlation with real music", "structure.correlation", "at least", 0.8,
              why=OLD),
    Threshold("share of planted copies of training music that are found", "novelty.detection_rate", "at least", 0.8,
              why=f"a test of copying that misses one copy in five proves little; {SECOND}"),
    Threshold("novelty: distance to the training music, over that of real music", "copying.ratio", "at least", 0.8,
              why=OLD),
    Threshold("level relative to real music, dB", "level.db", "at most", 3, size=True, why=OLD),
    *(Threshold(f"level of segment {k} relative to real music, dB", f"level.segment_db.{k}", "at most", 3, size=True,
                why=f"a right mean can hide an intro that is too quiet; {SECOND}") for k in range(1, 5)),
    Threshold("share of clipped samples", "level.clipped", "below", 0.001, why=OLD),
    Threshold("prompt to waveform, float32: authors' time over ours", "bench.prompt_to_wave.exact_ratio", "at least", 1,
              why=PARITY),
    Threshold("prompt to waveform, in the faster precision: authors' time over ours", "bench.prompt_to_wave.fast_ratio",
              "at least", 1, why=PARITY),
    Threshold("a training step: authors' time over ours", "bench.train_step.ratio", "at least", 1, why=PARITY),
    Threshold("stage 2, paper's size, float32: authors' time over ours", "bench.tcld.exact_ratio", "at least", 1.5,
              why=SPEED),
    Threshold("stage 1, paper's size, float32: authors' time over ours", "bench.dmae.exact_ratio", "at least", 1.2,
              why=SPEED),
    Threshold("stage 2, in the faster precision: authors' time over ours", "bench.tcld.fast_ratio", "at least", 2.5,
              why=SPEED),
    Threshold("stage 1, in the faster precision: authors' time over ours", "bench.dmae.fast_ratio", "at least", 2,
              why=SPEED),
    Threshold("DDIM's time over ours, where quality is equivalent", "solver.equivalence.seconds_ratio", "at least", 8,
              why=SPEED),
    Threshold("prompt to waveform, inverse real-time factor", "bench.inverse_rtf", "at least", 3, why=SPEED),
    Threshold("paper's size, float32: share of the machine's peak", "bench.peak_share", "at least", 0.5, why=SPEED),
    Threshold("memory of ten minutes over that of one", "bench.memory_10min_over_1min", "at most", 1.2, why=SPEED),
)
# fmt: on


def rows(results: Results) -> list[Row]:
    """One row for each threshold: item | threshold | ours | verdict | metric and n, or the reason; why this limit."""
    metrics = results.metrics()
    reasons = results.reasons()
    return [row(threshold, metrics, reasons) for threshold in THRESHOLDS]


def row(threshold: Threshold, metrics: dict[str, dict], reasons: dict[str, str]) -> Row:
    """The row of one threshold."""
    found = decide(threshold, metrics, reasons)
    return Row(threshold.item, str(threshold), found.shown, found.verdict, f"{found.rule}; {threshold.why}")


def decide(threshold: Threshold, metrics: dict[str, dict], reasons: dict[str, str]) -> Decision:
    """Reached, or not, where the whole interval is on one side of the limit, else undecided.

    Without an interval the value decides. A ratio's interval is the widest that the two intervals allow; where the
    divisor is not above 0, the threshold counts as not run. reasons: metric -> why it was not measured.
    """
    names = [name for name in (threshold.metric, threshold.over) if name]
    missing = next((name for name in names if name not in metrics), None)
    if missing:
        return Decision(NOT_RUN, "not run", reasons.get(missing, f"no result here holds {missing}"))
    mine = metrics[threshold.metric]
    value, low, high = (mine[key] for key in ("value", "low", "high"))
    shown = interval(value, low, high)
    if threshold.over:
        below = metrics[threshold.over]
        if below["value"] <= 0:
            return Decision(NOT_RUN, "not run", f"{threshold.over} is {figure(below['value'])}: no ratio")
        numbers = f"{figure(value)} / {figure(below['value'])}"
        value = value / below["value"]
        if None in (low, high, below["low"], below["high"]):
            low = high = None
        else:
            low, high = widest((low, high), (below["low"], below["high"]))
        shown = f"{numbers} = {interval(value, low, high)}"
    ends = [value] if low is None or high is None else [low, high]
    if threshold.size:
        ends = [abs(end) for end in ends] + ([0.0] if min(ends) < 0 < max(ends) else [])
    held = {SIGNS[threshold.sign](end, threshold.limit) for end in ends}
    verdict = UNDECIDED if len(held) == 2 else REACHED if held == {True} else NOT_REACHED
    return Decision(verdict, shown, f"{' / '.join(names)}, {counted(mine)}")


def widest(above: tuple[float, float], below: tuple[float, float]) -> tuple[float, float]:
    """The widest interval of a quotient of two numbers, from both intervals; infinite where the divisor may be 0."""
    if below[0] <= 0:
        return min(0.0, above[0] / below[1]), inf
    ends = [a / b for a in above for b in below]
    return min(ends), max(ends)


def counted(metric: dict) -> str:
    """ "n = 160, 40 tunes": how many items, and how many independent units among them where these were counted."""
    return f"n = {metric['n']}" + (
        f", {metric['units']} {metric.get('units_of', 'tunes')}" if "units" in metric else ""
    )
