"""Griffin-Lim refinement after sampling: a wave's magnitude brought to what z predicts, its phase kept (ours).

Steps of Griffin and Lim (1984), from the diffusion's phases where theirs start from random ones.
"""

from collections.abc import Callable, Iterable, Iterator

import torch

from mousai.shapes import Magnitude, Part, Wave
from mousai.small.config import SmallDMAEConfig

PART = 2**17  # samples that are refined at a time, 2.7 s


def with_magnitude(w: Wave, m_w: Magnitude, n_fft: int = 1023, hop: int = 256) -> Wave:
    """The waveform of w's phases and magnitudes m_w, as near as overlapping frames allow (Griffin and Lim, 1984)."""
    window = torch.hann_window(n_fft, device=w.device, dtype=w.dtype)
    flat = w.flatten(0, 1)  # [batch * 2, time]
    stft = torch.stft(flat, n_fft, hop, window=window, center=True, normalized=True, return_complex=True)
    changed = torch.polar(m_w.reshape(stft.shape), stft.angle())
    return torch.istft(changed, n_fft, hop, window=window, normalized=True, length=w.shape[-1]).view_as(w)


def refined(
    waves: Iterable[Part], magnitudes: Callable[[int, int], Magnitude], total: int, config: SmallDMAEConfig
) -> Iterator[Part]:
    """The same wave, `total` samples in parts from left to right, with `refinement_steps` steps of refinement.

    `magnitudes`: (a, b) -> frames [a, b) of the magnitude to reach. Memory is for a few parts.
    """
    hop = config.hop
    margin = -(-config.n_fft * config.refinement_steps // hop) * hop  # as far as one sample influences another
    start = 0  # of the part to give next
    first = 0  # of `held`, the wave from sample `first` on
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
    """The steps themselves, the spectrogram whole in memory.

    Two channels whose phases part lose each other's notes in the mono mix, so each takes a share of the other's.
    """
    with torch.autocast(w.device.type, enabled=False):
        for _ in range(config.refinement_steps):
            w = with_magnitude(w + config.phase_share * w.flip(1), m_w, config.n_fft, config.hop)
    return w
