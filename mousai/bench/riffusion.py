"""Table 3's other system: Riffusion, latent diffusion on pictures of spectrograms; only its architecture is measured.

The time of a call does not depend on the weights' values, so they are random, and the result is not listened to. One
call of each network is timed and multiplied by the number of calls that the clips need. The networks are Stable
Diffusion 1.5's, built by diffusers and transformers; the settings of picture and sound are Riffusion's defaults [M].

python -m mousai.bench.riffusion 43.69       seconds of music; in this process, JSON on the last line
"""

import json
import math
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from mousai.bench.efficiency import in_fresh_process, per_call_row, resident_peak_gb, timed_calls
from mousai.interop.riffusion import CLIP_SECONDS, GUIDANCE, SIZE, STEPS, Sound
from mousai.unet import count_parameters

Call = Callable[[], Any]


def fresh_riffusion(seconds: float) -> dict:
    """`riffusion_row` in a fresh process, so that the peak memory is its own."""
    return in_fresh_process("mousai.bench.riffusion", str(seconds))


def riffusion_row(seconds: float, build: Callable[[], dict[str, tuple[nn.Module, Call]]] | None = None) -> dict:
    """The row of Table 3 for `seconds` of music, float32 on the CPU, computed by `per_call_row`.

    Music longer than a clip is several clips, end to end; the paper's 43 s are nine. build: `networks` by default;
    tests give small ones.
    """
    parts = (build or networks)()
    clips = math.ceil(seconds / CLIP_SECONDS)
    calls = {name: clips * (STEPS if name == "U-Net" else 1) for name in parts}
    timed = {name: timed_calls(call)[1] for name, (_, call) in parts.items()}
    what = "architecture alone with random weights"
    audio = clips * CLIP_SECONDS
    return {
        **per_call_row("riffusion", what, calls, timed, audio, resident_peak_gb()),
        "steps": STEPS,
        "guidance": GUIDANCE,
        "precision": "float32",
        "parameters": {name: count_parameters(net) for name, (net, _) in parts.items()},
        "threads": torch.get_num_threads(),
        "device": "cpu",
    }


def networks() -> dict[str, tuple[nn.Module, Call]]:
    """Name -> (network, one call of it as for a clip); guidance calls the U-Net with and without text in one batch."""
    with torch.device("meta"):
        nets = text_encoder(), u_net(), decoder()
    (text, unet, vae) = map(filled, nets)
    sound = Sound()
    tokens = torch.zeros(2, 77, dtype=torch.long)
    words = torch.randn(2, 77, 768)
    noise = torch.randn(2, 4, SIZE // 8, SIZE // 8)
    picture = torch.rand(1, SIZE, SIZE)
    return {
        "text": (text, lambda: text(tokens)),
        "U-Net": (unet, lambda: unet(noise, 500, words)),
        "decoder": (vae, lambda: vae.decode(noise[:1])),  # type: ignore[operator]
        "sound": (sound, lambda: sound(picture)),
    }


def text_encoder() -> nn.Module:
    """The text encoder of CLIP ViT-L/14."""
    from transformers import CLIPTextConfig, CLIPTextModel

    config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    return CLIPTextModel(config)


def u_net() -> nn.Module:
    """The U-Net that denoises latents of 4 channels, 64 x 64."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(sample_size=SIZE // 8, cross_attention_dim=768, attention_head_dim=8)


def decoder() -> nn.Module:
    """The autoencoder that decodes latents to a picture; its encoder is in memory too, as in the pipeline."""
    from diffusers import AutoencoderKL

    down, up = ["DownEncoderBlock2D"] * 4, ["UpDecoderBlock2D"] * 4
    channels = (128, 256, 512, 512)
    return AutoencoderKL(
        block_out_channels=channels,  # type: ignore[arg-type]
        layers_per_block=2,
        down_block_types=down,  # type: ignore[arg-type]
        up_block_types=up,  # type: ignore[arg-type]
        sample_size=SIZE,
    )


def filled(net: nn.Module) -> nn.Module:
    """The network, which is on the meta device, with small random weights on the CPU.

    The usual initialization of a billion weights takes minutes.
    """
    net = net.to_empty(device="cpu").eval()
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point():
            tensor.data.normal_(0, 0.02)
        else:
            tensor.data.copy_(torch.arange(tensor.numel()).view_as(tensor))
    return net


if __name__ == "__main__":
    print(json.dumps(riffusion_row(float(sys.argv[1]))))
