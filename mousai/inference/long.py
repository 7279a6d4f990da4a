"""Sampling of both stages at any length: up to one window in a single pass, beyond that in blended windows (ours).

GroupNorm's statistics run over time, so windows have the length that the network was trained on (`window_size`). They
overlap by a quarter. Stage 1 gives w in parts, in constant memory. Stage 2 keeps its whole signal, because an hour of z
is 22 MB.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from mousai.diffusion import Net, gaussian_like, guidance, noise_levels
from mousai.dmae import DMAE
from mousai.inference.acceleration import at_levels, text_conditioning
from mousai.inference.precision import autocast
from mousai.inference.samplers import Guidance, get_sampler, rescaled, sample
from mousai.inference.windows import Replacement, Span, Windows, blended, in_windows, noise_in_chunks, sample_in_chunks
from mousai.progress import progress_bar
from mousai.shapes import Embedding, Latent, Level, Part, Wave, to_stride
from mousai.small.dmae import Condition, SmallDMAE
from mousai.tcld import TCLD

SAMPLES_TOGETHER = 2**18  # of all windows in one evaluation of stage 1; four crops of a small network
WHOLE = 2**22  # samples of a window of the paper's stage 1; larger than its crop, because overlaps are computed twice
STEPS_TOGETHER = 5 * 2**9  # latent steps in one evaluation of stage 2: all windows of 43.7 s in `cpu`
Generators = torch.Generator | Sequence[torch.Generator]  # one for all, or one for each item
Negative = Float[Tensor, "1 tokens embedding_features"]  # a text to guide away from, the same for all items


UNGUIDED = Guidance(1.0)
NOTHING_KNOWN = Replacement(lambda a, b: torch.empty(0))


@dataclass(frozen=True)
class Run:
    """How one stage is sampled. `precision` as in `precision.chosen`; `progress` names a bar; `guidance`: stage 2.

    `refinement_steps`: of a small stage 1, after sampling; None leaves it to the model's configuration.
    """

    steps: int
    sampler: str = "ddim"
    precision: str = "float32"
    progress: str | None = None
    guidance: Guidance = UNGUIDED
    refinement_steps: int | None = None


def to_signal(dmae: DMAE, w: Wave, z: Latent) -> Wave:
    """What stage 1 diffuses for a crop w with latent z: in the paper w itself."""
    return dmae.to_signal(w, z) if isinstance(dmae, SmallDMAE) else w


def emphasised(dmae: DMAE, w: Wave) -> Wave:
    """w as a small stage 1 diffuses it, before whitening: pre-emphasised and scaled; in the paper w itself."""
    return dmae.emphasised(w) if isinstance(dmae, SmallDMAE) else w


def to_wave(dmae: DMAE, x: Wave, before: Part | None = None) -> Wave:
    """The inverse of `emphasised`; a later part of a waveform needs the part `before` it."""
    return dmae.to_wave(x, before) if isinstance(dmae, SmallDMAE) else x


def decode(
    dmae: DMAE,
    z: Latent,
    run: Run,
    generator: Generators,
    length: int | None = None,
    replacement: Replacement | None = None,
) -> Wave:
    """z [batch, 32, n] -> w [batch, 2, length or n * 1024]: all parts of `stream`, concatenated."""
    with autocast(run.precision, z.device):  # around all parts, so that weights are cast once
        return torch.cat([*stream(dmae, z, run, generator, length, replacement)], dim=-1)


def stream(
    dmae: DMAE,
    z: Latent,
    run: Run,
    generator: Generators,
    length: int | None = None,
    replacement: Replacement | None = None,
) -> Iterator[Part]:
    """z [batch, 32, n] -> parts of w [batch, 2, length or n * 1024], left to right; few windows are in memory at once.

    `replacement`: the known samples, if any, as `emphasised` makes them. Raises ValueError as `DMAE.decode`, for an
    unknown sampler, or for refinement without a magnitude head.
    """
    get_sampler(run.sampler)
    small = dmae if isinstance(dmae, SmallDMAE) else None
    if run.refinement_steps and small is None:
        raise ValueError(f"{run.refinement_steps} steps of refinement: the paper's stage 1 has none: ask for 0")
    z, length = dmae.padded(z, length)
    waves = diffused(dmae, z, run, generator, replacement)
    return first_samples(small.refine(waves, z, run.refinement_steps) if small else waves, length)


def first_samples(parts: Iterator[Part], length: int) -> Iterator[Part]:
    """The parts, cut after `length` samples in all."""
    for part in parts:
        if length > 0:
            yield part[..., :length]
        length -= part.shape[-1]


def window_size(dmae: DMAE) -> int:
    """Samples of a window of stage 1: the crop of a small one; in the paper 87 s, as the authors decode in one pass."""
    return dmae.config.crop if isinstance(dmae, SmallDMAE) else max(dmae.config.crop, WHOLE)


def diffused(dmae: DMAE, z: Latent, run: Run, generator: Generators, replacement: Replacement | None) -> Iterator[Part]:
    """Stage 1's diffusion without refinement: parts of w, each as soon as all windows over it are done."""
    stride = dmae.config.latent_stride
    length = z.shape[-1] * stride
    size = window_size(dmae)
    windows = Windows(size, 3 * size // 4, max(1, SAMPLES_TOGETHER // (len(z) * size)))
    with torch.no_grad(), autocast(run.precision, z.device):
        model = at_levels(dmae, noise_levels(run.steps, (replacement or NOTHING_KNOWN).start).to(z))

    @lru_cache(run.steps + windows.together + 2)  # no more windows are in progress at once
    def condition(a: int, b: int) -> Condition | None:
        with torch.no_grad():
            return model.condition(z[..., a // stride : b // stride]) if isinstance(model, SmallDMAE) else None

    def predict(x: Wave, sigma: Level, spans: Sequence[Span]) -> Wave:
        with torch.no_grad(), autocast(run.precision, z.device):
            parts = torch.cat([z[..., a // stride : b // stride] for a, b in spans])
            conditions = [found for found in (condition(*span) for span in spans) if found is not None]
            if isinstance(model, SmallDMAE) and conditions:
                return model.net(x, sigma, parts, Condition.join(conditions))
            return model.net(x, sigma, parts)

    known = replacement or NOTHING_KNOWN
    if isinstance(model, SmallDMAE):
        given = known
        known = replace(known, x_0=lambda a, b: model.whitened(given.x_0(a, b).expand(len(z), -1, -1), condition(a, b)))
    drawn = noise_in_chunks((len(z), 2, length), generator)
    noise = known.begin(lambda a, b: drawn(a, b).to(z))

    def begin(a: int, b: int):
        return get_sampler(run.sampler)(noise(a, b), run.steps, known.start)

    w = None
    total = len(windows.starts(length)) * run.steps
    with progress_bar(None, run.progress, total, show=run.progress is not None) as bar:
        parts = sample_in_chunks(known.replacing(predict), begin, length, windows, bar)
        if isinstance(model, SmallDMAE) and model.head is not None:
            parts = in_windows(parts, lambda x, span: model.coloured(x, condition(*span)), length, windows)
        for x_0 in parts:
            w = to_wave(dmae, x_0, w)
            yield w


@torch.no_grad()
def sample_latents(
    tcld: TCLD,
    embedding: Embedding | Sequence[Embedding],
    length: int,
    run: Run,
    generator: Generators,
    negative: Negative | None = None,
    replacement: Replacement | None = None,
) -> Latent:
    """Embeddings [n, 64, features] -> z [n, 32, length]; windows are blended where z is longer than one.

    `embedding`: one for all windows, or a list for the segments "1 of n" to "n of n", of which `part_of_window` chooses
    each window's. `negative`: as in `guided`. `replacement`: the known part of z / latent_std, up to the next multiple
    of the stride. With `paper_exact.lengths`, raises ValueError where the length is not such a multiple.
    """
    config = tcld.config.unet
    padded = to_stride(length, config.stride, config.paper_exact.lengths)
    parts = [embedding] if isinstance(embedding, Tensor) else embedding
    known = replacement or NOTHING_KNOWN
    eps = noise_like(parts[0].new_empty(len(parts[0]), config.in_channels, padded), generator)
    together = max(1, STEPS_TOGETHER // (len(eps) * tcld.window))
    windows = Windows(tcld.window, 3 * tcld.window // 4, together)
    starts = windows.starts(padded)
    with autocast(run.precision, eps.device):  # around all steps, so that weights are cast once
        model = at_levels(tcld, noise_levels(run.steps, known.start).to(eps))

        @lru_cache(2)  # groups of windows with equal segments share it; for five windows it takes 18 MB
        def net_of(numbers: tuple[int, ...]) -> Net:
            return guided(model, torch.cat([parts[number] for number in numbers]), run.guidance, negative)

        def predict(x: Latent, sigma: Level, spans: Sequence[Span]) -> Latent:
            numbers = tuple(part_of_window(starts.index(a), len(starts), len(parts)) for a, _ in spans)
            return net_of(numbers)(x, sigma)

        net = blended(known.replacing(predict), padded, windows)
        x = known.begin(lambda a, b: eps[..., a:b])(0, padded)
        x_0 = sample(net, get_sampler(run.sampler)(x, run.steps, known.start), run.progress)
    return (tcld.latent_std * x_0)[..., :length]


def noise_like(x: Latent, generator: Generators) -> Latent:
    """Standard normal noise of x's shape, drawn by one generator, or by one per item."""
    if isinstance(generator, torch.Generator):
        return gaussian_like(x, generator)
    return torch.cat([gaussian_like(item, own) for item, own in zip(x.split(1), generator, strict=True)])


def guided(tcld: TCLD, embedding: Embedding, how: Guidance, negative: Negative | None = None) -> Net:
    """(x, sigma) -> guided v_hat: `TCLD.velocity` for one text, with the other settings of `Guidance`.

    `negative` [1, 64, features]: a text to guide away from, in place of the null embedding (common practice).
    """
    if how.scale == 1:
        return conditioned(tcld, embedding)
    null = (tcld.null_embedding if negative is None else negative).expand_as(embedding)
    both = branches(tcld, null, embedding)
    alone = None if (how.low, how.high) == (0, 1) else conditioned(tcld, embedding)

    def net(x: Latent, sigma: Level) -> Latent:
        if alone is not None and not how.low <= sigma[0] <= how.high:
            return alone(x, sigma)
        v_uncond, v_cond = both(x, sigma)
        v_hat = guidance(v_uncond, v_cond, how.scale)
        return rescaled(v_hat, v_cond, how.rescale, how.per_channel) if how.rescale else v_hat

    return net


def branches(tcld: TCLD, null: Embedding, embedding: Embedding) -> Callable[[Latent, Level], tuple[Latent, ...]]:
    """(x, sigma) -> (v_hat without the text, v_hat with it), as `TCLD.velocity` computes them."""
    if tcld.config.unet.paper_exact.guidance:
        away, towards = conditioned(tcld, null), conditioned(tcld, embedding)
        return lambda x, sigma: (away(x, sigma), towards(x, sigma))
    both = conditioned(tcld, torch.cat([null, embedding]))
    return lambda x, sigma: both(x.repeat(2, 1, 1), sigma.repeat(2)).chunk(2)


def conditioned(tcld: TCLD, embedding: Embedding) -> Net:
    """(x, sigma) -> v_hat for this text, without guidance; its keys and values are computed once."""
    text = text_conditioning(tcld.unet, embedding)
    return lambda x, sigma: tcld.unet(x, sigma, None, text)


def part_of_window(window: int, windows: int, parts: int) -> int:
    """Which of `parts` segments a window is conditioned on, counted from 0.

    The first window has the first segment, the last the last; the windows between share the middle segments equally.
    """
    if window == 0 or parts < 3:
        return 0 if 2 * window < windows else parts - 1
    if window == windows - 1:
        return parts - 1
    return 1 + (window - 1) * (parts - 2) // (windows - 2)
