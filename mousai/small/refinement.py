"""Griffin-Lim refinement after sampling: it starts from the sampled phase, with the magnitude that z predicts (ours).

The steps are those of Griffin and Lim (1984); they start from the phases of the diffusion, not from random ones.
"""

from collections.abc import Callable, Iterable, Iterator

import torch

from mousai.shapes import Magnitude, Part, Wave
from mousai.small.config import SmallDMAEConfig

PART = 2**17  # samples that are refined at a time, 2.7 s


def with_magnitude(w: Wave, m_w: Magnitude, n_fft: int = 1023, hop: int = 256) -> Wave:
    """A waveform with w's phases and magnitude m_w, as near as overlapping frames allow (Griffin and Lim, 1984)."""
    window = torch.hann_window(n_fft, device=w.device, dtype=w.dtype)
    flat = w.flatten(0, 1)  # [batch * 2, time]
    stft = torch.stft(flat, n_fft, hop, window=window, center=True, normalized=True, return_complex=True)
    changed = torch.polar(m_w.reshape(stft.shape), stft.angle())
    return torch.istft(changed, n_fft, hop, window=window, normalized=True, length=w.shape[-1]).view_as(w)


def refined(
    waves: Iterable[Part], magnitudes: Callable[[int, int], Magnitude], total: int, config: SmallDMAEConfig
) -> Iterator[Part]:
    """The waveform after `refinement_steps` steps of refinement, in parts from left to right, `total` samples in all.

    `waves`: its parts before. `magnitudes`: (a, b) -> frames [a, b) of the magnitude to reach. Only a few parts are in
    memory at once.
    """
    hop = config.hop
    margin = -(-config.n_fft * config.refinement_steps // hop) * hop  # samples: as far as one sample influences another
    start = 0  # first sample of the next part to yield
    first = 0  # `held` is the waveform from sample `first` on
    held = None
    for w in waves:
        held = w if held is None else torch.cat([held, w], dim=-1)
        while start < total:
            end = min(total, start + PART + margin)
            if first + held.shape[-1] < end:
                break
            part = refined_part(held[..., : end - first], magnitudes(first // hop, end // hop), config)
            yield part[..., start - first : start - first + PART]
            start += PART
            held = held[..., start - margin - first :] if start - margin > first else held
            first = max(first, start - margin)


def refined_part(w: Wave, m_w: Magnitude, config: SmallDMAEConfig) -> Wave:
    """The steps of refinement on w, with its whole spectrogram in memory.

    Where the phases of the two channels differ, notes cancel in the mono mix. So `phase_share` of the other channel is
    added to each before its phase is taken.
    """
    with torch.autocast(w.device.type, enabled=False):
        for _ in range(config.refinement_steps):
            w = with_magnitude(w + config.phase_share * w.flip(1), m_w, config.n_fft, config.hop)
    return w
