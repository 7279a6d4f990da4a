"""Do the paper's claims hold? For each: how it is tested here, without which part, the outcome, and how sure that is.

A claim holds where each of its conditions holds with the whole 95 % interval; it fails where one condition fails.
Outcomes come from the results alone. The paper's words and their certainty marks are in paper.json.
"""

from dataclasses import dataclass

from mousai.report.results import Results, paper
from mousai.report.thresholds import FORMS, NETWORK, SPACES, Threshold, counted, decide
from mousai.report.verdicts import NOT_REACHED, NOT_RUN, UNDECIDED, Row

HOLDS, FAILS, NOT_TESTED = "holds", "fails", "not tested"  # the other outcome is UNDECIDED
COLUMNS = ["claim", "tested here by", "without the part it credits", "outcome", "how sure"]
NONE, LOW, MEDIUM, HIGH = "none", "low", "medium", "high"
CONFIDENCE = {
    LOW: "a stand-in for what is claimed, no interval, or fewer than ten tunes, or three training runs, behind it",
    MEDIUM: "an interval over at least ten tunes, or three training runs, of a small model trained once",
    HIGH: "the same, of the paper's size (profile `a100`)",
}
ENOUGH = {"tunes": 10, "training runs": 3}
NOTHING_CREDITED = "no part is credited"


@dataclass(frozen=True)
class Claim:
    """One claim of the paper.

    name: its key in paper.json. test: how it is tested here. without: the row without the part that the claim credits.
    stand_in: the conditions are weaker than the claim's words. needs: why it can't be tested. full_size: only the
    `a100` profile can test it, and `needs` says why.
    """

    name: str
    test: str
    without: str
    conditions: tuple[Threshold, ...] = ()
    stand_in: bool = False
    needs: str = ""
    full_size: bool = False


@dataclass(frozen=True)
class Outcome:
    """The outcome of a claim, its confidence, and in `how_sure` the numbers or the reason behind them."""

    outcome: str
    confidence: str
    how_sure: str


RATIO, LESS = "dmae.network_ratio", "dmae.kd_minus"
ALONE = FORMS["diffusion alone"]  # claims are judged on it, because the paper has no refinement after it
# fmt: off
CLAIMS = (
    Claim("compression",
          "unseen music through stage 1 without refinement; with the network the loss must be at least 1 % lower, and "
          "the kernel distance to the originals lower with its whole interval, in both embeddings; nobody listened",
          "the U-Net's answer replaced by 0: `.no_network_alone`",
          (*(Threshold(f"{NETWORK} {level}", f"{RATIO}.{level}", "below", 0.99) for level in (0.3, 0.5, 0.7)),
           *(Threshold(f"kernel distance ({space}) minus that without the network", f"{LESS}_no_network{ALONE}{ending}",
                       "below", 0) for space, ending in SPACES.items())),
          stand_in=True),
    Claim("phase", "a small stage 1 whose encoder, loss and signal are ours: whether its diffusion, without "
          "refinement, is nearer to the originals than a method without diffusion; kernel distance in two embeddings",
          "Griffin-Lim from the same latents: `.griffin_lim_z`",
          tuple(Threshold(f"kernel distance ({space}) minus Griffin-Lim's", f"{LESS}_griffin_lim_z{ALONE}{ending}",
                          "below", 0) for space, ending in SPACES.items()), stand_in=True),
    Claim("text_genre", "two classifiers that were fitted on real music name the genre of generated clips",
          "guidance 0, so that the text has no influence: `genre_accuracy.unconditional`",
          (Threshold("in-domain model, accuracy gained", "tcld.genre_gain.in_domain", "above", 0),
           Threshold("MFCC, accuracy gained", "tcld.genre_gain.mfcc", "above", 0))),
    Claim("self_attention", "how far the end of a clip fits its beginning; small networks trained alike, if they learn",
          "no self-attention: `structure.ends_agree.no_attention`",
          (Threshold("agreement gained", "structure.ends_agree.gain", "above", 0),), stand_in=True),
    Claim("ends", 'the level rises within clips prompted as "1 of n" and falls within "n of n"; chance is 0.5',
          "the tags permuted: `tcld.segment_followed.shuffled`",
          (Threshold("as prompted", "tcld.segment_followed", "above", 0.5),)),
    Claim("ten_steps", "nothing here", NOTHING_CREDITED,
          needs="listenable and clean are people's judgements, and none were collected"),
    Claim("riffusion", "time for the same amount of music on one machine, both at the paper's size; the steps of both "
          "are assumed", NOTHING_CREDITED,
          (Threshold("Riffusion's time over Moûsai's", "efficiency.riffusion.time_per_audio", "above", 1,
                     "efficiency.paper_size.time_per_audio"),), stand_in=True),
    Claim("real_time", "seconds of music a second of work, in the profile `a100`", NOTHING_CREDITED,
          (Threshold("inverse real-time factor", "bench.inverse_rtf", "at least", 1),), full_size=True,
          needs="a small model on a CPU says nothing about the paper's; the paper's own Table 3 gives 1.14 s a second"),
    Claim("less_compression", "PCA with 64 numbers a latent step in place of 32, played by Griffin-Lim: no network; "
          "that the model gets slower, as the paper adds, is not tested", "32 numbers: `compression.64x`",
          (Threshold("log-mel L1 minus that of 64x", "compression.32x_minus_64x.logmel_l1", "below", 0),
           Threshold("chroma minus that of 64x", "compression.32x_minus_64x.chroma", "above", 0)), stand_in=True),
    Claim("drums_and_bass",
          "reconstructions as shipped, refined: on a scale from another piece (0) to the original (1), where onsets "
          "and the level below 250 Hz stand against chroma; the three measures are not strictly comparable",
          NOTHING_CREDITED,
          (Threshold("onsets minus chroma", "drums_and_bass.onset_minus_chroma", "above", 0),
           Threshold("bass minus chroma", "drums_and_bass.bass_minus_chroma", "above", 0)), stand_in=True),
)
# fmt: on


def outcome(claim: Claim, results: Results) -> Outcome:
    """The outcome of one claim by the results: holds, fails, undecided or not tested."""
    if claim.needs and not (claim.full_size and results.profile == "a100"):
        return Outcome(NOT_TESTED, NONE, claim.needs)
    metrics = results.metrics()
    found = {one: decide(one, metrics, results.reasons()) for one in claim.conditions}
    absent = next((decision for decision in found.values() if decision.verdict == NOT_RUN), None)
    if absent:
        return Outcome(NOT_TESTED, NONE, absent.rule)
    verdicts = {decision.verdict for decision in found.values()}
    said = FAILS if NOT_REACHED in verdicts else UNDECIDED if UNDECIDED in verdicts else HOLDS
    parts = [f"{one.item}: {decision.shown} ({one}; {counted(metrics[one.metric])})" for one, decision in found.items()]
    return Outcome(said, confidence(claim, metrics, results.profile), "; ".join(parts))


def confidence(claim: Claim, metrics: dict[str, dict], profile: str) -> str:
    """The confidence in a tested claim, by the rules of `CONFIDENCE`."""
    for condition in claim.conditions:
        metric = metrics[condition.metric]
        enough = metric.get("units", 0) >= ENOUGH[metric.get("units_of", "tunes")]
        if claim.stand_in or metric["low"] is None or not enough:
            return LOW
    return HIGH if profile == "a100" else MEDIUM


def outcomes(results: Results) -> dict[str, Outcome]:
    """Claim's name -> its outcome, in the order of `CLAIMS`."""
    return {claim.name: outcome(claim, results) for claim in CLAIMS}


def rows(results: Results) -> list[Row]:
    """One row a claim: its words | the test | the row without the part it credits | outcome | how sure."""
    said = paper()["claims"]
    rows = []
    for claim in CLAIMS:
        found = outcome(claim, results)
        words = f"{said[claim.name]['value']} [{said[claim.name]['mark']}]"
        sure = found.how_sure if found.confidence == NONE else f"{found.confidence}: {found.how_sure}"
        rows.append(Row(words, claim.test, claim.without, found.outcome, sure))
    return rows


def summary(results: Results) -> dict[str, dict]:
    """ "claims.<name>" -> outcome and confidence, for summary.json."""
    return {
        f"claims.{name}": {"outcome": found.outcome, "confidence": found.confidence}
        for name, found in outcomes(results).items()
    }
