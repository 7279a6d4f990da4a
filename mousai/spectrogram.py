"""w -> m_w, the magnitude that stage 1 encodes; and the log-mel spectrogram, for figures and metrics."""

import librosa
import torch
from jaxtyping import Float
from torch import Tensor

from mousai.shapes import Magnitude, Wave


def magnitude(w: Wave, n_fft: int = 1023, hop: int = 256) -> Magnitude:
    """m_w = |STFT(w)|, without the phase (Section 3.1; window and normalisation as in the authors' code).

    w [batch, 2, time] -> [batch, 2 * 512, time / hop], left bins then right bins, linear and >= 0, divided by
    sqrt(n_fft). n_fft is odd because 1024 gives 513 bins and one frame too many. Raises ValueError where time is not a
    multiple of `hop`, or not over n_fft / 2.
    """
    batch, channels, time = w.shape
    if time % hop or time <= n_fft // 2:
        raise ValueError(f"length {time} must be a multiple of hop {hop} and over {n_fft // 2}: pad the waveform first")
    window = torch.hann_window(n_fft, device=w.device, dtype=w.dtype)
    flat = w.reshape(batch * channels, time)
    stft = torch.stft(flat, n_fft, hop, window=window, center=True, normalized=True, return_complex=True)
    return stft.abs().reshape(batch, channels * stft.shape[-2], stft.shape[-1])


def log_mel(
    w: Wave, sample_rate: int = 48_000, n_fft: int = 2048, hop: int = 512, mels: int = 80
) -> Float[Tensor, "batch mels frames"]:
    """log10(mel magnitude of the mono mix + 1e-3) (ours).

    Silence is -3 everywhere, never -inf. Frames are `hop` samples apart (10.7 ms).
    """
    mono = w.mean(dim=1)
    window = torch.hann_window(n_fft, device=w.device, dtype=w.dtype)
    spectrum = torch.stft(mono, n_fft, hop, window=window, center=True, return_complex=True).abs()
    bank = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=mels)
    return torch.log10(torch.from_numpy(bank).to(spectrum) @ spectrum + 1e-3)


def log_mel_l1(w: Wave, reference: Wave) -> Tensor:
    """Mean absolute difference of two log-mel spectrograms in decades, [batch]: the metric `dmae.logmel_l1` (ours)."""
    return (log_mel(w) - log_mel(reference)).abs().mean(dim=(1, 2))
