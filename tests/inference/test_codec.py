"""Stage 1 by itself: any length in windows, a latent on disk, and how many numbers it saves."""

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from mousai.dmae import DMAE
from mousai.inference import codec
from mousai.inference.codec import LatentCard, load_latent, save_latent
from mousai.small.stages import new_dmae


@pytest.fixture
def dmae(tiny) -> DMAE:
    torch.manual_seed(0)
    return new_dmae(tiny.dmae).eval()


@pytest.mark.parametrize("samples", [1000, 1025, 8192])
def test_up_to_a_window_it_is_encode_to_the_bit(dmae, generator, samples):
    w = torch.randn(2, samples, generator=generator)
    assert torch.equal(codec.encode(dmae, w, 8192), dmae.encode(w[None]))


@pytest.mark.parametrize("samples", [8193, 20_000, 61_440])
def test_a_longer_sound_is_encoded_window_by_window_and_where_windows_agree_it_is_the_whole(
    dmae, generator, samples, monkeypatch
):
    """An encoder without statistics over time: the first sample of each step."""
    w, seen = torch.randn(2, samples, generator=generator), []
    monkeypatch.setattr(dmae, "encode", lambda w: seen.append(w.shape[-1]) or w[:, :1, ::1024].expand(-1, 32, -1))
    z = codec.encode(dmae, w, 8192)
    assert_close(z, w[None, :1, ::1024].expand(-1, 32, -1), atol=1e-6, rtol=1e-6)
    assert max(seen) == 8192 and len(seen) > 1


def test_where_windows_disagree_the_nearer_middle_has_the_greater_say(dmae, monkeypatch):
    """Two windows of 8 steps over 14 overlap by 2: 1 and 2 parts of the later one against 2 and 1, of 3."""
    said = iter([0.0, 1.0])
    monkeypatch.setattr(dmae, "encode", lambda w: torch.full((1, 32, 8), next(said)))
    z = codec.encode(dmae, torch.zeros(2, 14 * 1024), 8192)
    assert_close(z[0, 0], torch.tensor([0.0] * 6 + [1 / 3, 2 / 3] + [1.0] * 6))


def test_z_has_64_times_fewer_numbers_and_less_where_the_last_step_is_not_full():
    assert codec.compression(torch.zeros(1, 32, 10), 10_240) == 64
    assert codec.compression(torch.zeros(1, 32, 2), 1025) == pytest.approx(2050 / 64)


def test_a_latent_comes_back_to_the_bit_with_its_card(tmp_path, generator):
    z, card = torch.randn(1, 32, 7, generator=generator), LatentCard("cpu", "0123abcd", 48_000, 7000)
    save_latent(z, card, tmp_path / "z.safetensors")
    read, told = load_latent(tmp_path / "z.safetensors")
    assert torch.equal(read, z) and told == card


CARD = {"profile": "cpu", "encoder": "0", "sample_rate": "48000", "samples": "1024"}


@pytest.mark.parametrize(
    ("tensors", "card"),
    [
        ({"z": torch.zeros(1, 32, 1)}, {}),
        ({"z": torch.zeros(1, 32, 1)}, CARD | {"samples": "many"}),
        ({"z": torch.zeros(1, 32, 1)}, CARD | {"samples": "0"}),
        ({"y": torch.zeros(1, 32, 1)}, CARD),
        ({"z": torch.zeros(2, 32, 1)}, CARD),
        ({"z": torch.zeros(32, 1)}, CARD),
        ({"z": torch.zeros(1, 32, 1, dtype=torch.int32)}, CARD),
        ({"z": torch.full((1, 32, 1), float("nan"))}, CARD),
        (None, None),
    ],
)
def test_another_file_is_refused_in_one_line(tmp_path, tensors, card):
    path = tmp_path / "z.safetensors"
    path.write_bytes(b"no such thing") if tensors is None else save_file(tensors, path, card)
    with pytest.raises(ValueError, match=r"z.safetensors: not a latent.*: write it with `mousai encode`"):
        load_latent(path)
