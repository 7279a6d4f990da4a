"""Convert weights between the authors' names and ours; `tests/core/test_parity.py` checks that both compute the same.

Their classes (`audio-diffusion-pytorch` 0.1.x) register one network three times and one layer twice. Their state dicts
hold every copy, a safetensors file only one of them; we take one. Entries of T5 are dropped, because ours is frozen and
loaded separately, and so is the STFT window.
"""

import re
from dataclasses import asdict
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mousai.checkpoint import check_shapes, save_weights
from mousai.config import DMAEConfig, EncoderConfig, Profile, TCLDConfig, UNetConfig
from mousai.dmae import DMAE
from mousai.files import sha256
from mousai.small.config import SmallDMAEConfig, SmallEncoderConfig
from mousai.tcld import TCLD

State = dict[str, Tensor]
Names = dict[str, str]  # our name -> theirs, of layers or of tensors

START = re.compile(r"((?:\w+\.)*?)(?:(?:diffusion|sampler)\.)?net\.blocks\.")  # a prefix before `net`, of any depth
T5 = "net.blocks.2.blocks.0.transformer."  # prefix of T5 inside a network with text conditioning

RESNET = {
    "norm1": "block.blocks.0.blocks.0.0",
    "conv1": "block.blocks.0.blocks.0.2",
    "norm2": "block.blocks.0.blocks.1.0",
    "conv2": "block.blocks.0.blocks.1.2",
}
MODULATION = {"linear": "blocks.0.block.blocks.0.1"}
INJECT = {"conv": "block.blocks.0"}
ATTENTION = {name: f"blocks.0.block.{name}" for name in ("norm", "norm_context", "to_q", "to_kv")}
ATTENTION |= {"to_out": "blocks.0.block.attention.blocks.0"}
ENCODER_BLOCK = {
    "norm1": "block1.groupnorm",
    "conv1": "block1.project",
    "norm2": "block2.groupnorm",
    "conv2": "block2.project",
}


def under(ours: str, theirs: str, names: Names) -> Names:
    """The names with the prefix `ours` on our side and `theirs` on theirs."""
    return {f"{ours}.{a}": f"{theirs}.{b}" for a, b in names.items()}


def group_items(config: UNetConfig, depth: int) -> list[tuple[str, Names]]:
    """(our name, names of the layers inside) of each item of a `Group`, in the authors' order."""
    return [
        ("resnet", RESNET),
        ("modulation", MODULATION),
        *([("inject", INJECT)] if depth == config.inject_depth else []),
        *((f"self_attention.{i}", ATTENTION) for i in range(config.attentions[depth])),
        *((f"cross_attention.{i}", ATTENTION) for i in range(config.cross_attentions[depth])),
    ]


def level_names(config: UNetConfig, depth: int = 0) -> Names:
    """A `NetLevel` and all inside it. The authors number its parts: down, items, inner level, items, up."""
    child = (f"block.blocks.{number}" for number in count())
    names = {"skip": "skip.blocks.0.1", "down": f"{next(child)}.block"}
    for side in ("items_down", "items_up"):
        for i in range(config.items[depth]):
            for item, layers in group_items(config, depth):
                names |= under(f"{side}.{i}.{item}", next(child), layers)
        if side == "items_down" and depth + 1 < len(config.channels):
            names |= under("inner", next(child), level_names(config, depth + 1))
    return names | {"up": f"{next(child)}.block.1"}


def unet_names(config: UNetConfig, levels: str) -> Names:
    """A `UNet`: the layers of the noise level, and the levels, which are at `levels` in the authors' network."""
    names = {"noise_level.proj": "blocks.0.to_out", "noise_level.mlp": "blocks.1.blocks.0.0"}
    return names | {"noise_level.freqs": "blocks.0.weights"} | under("net", levels, level_names(config))


def encoder_names(config: EncoderConfig) -> Names:
    """The `MagnitudeEncoder`, the authors' `ME1d`."""
    names = {"to_out": "to_out"} | under("to_in", "to_in.block", ENCODER_BLOCK | {"shortcut": "to_out"})
    for i, blocks in enumerate(config.blocks):
        names[f"downs.{i}.0"] = f"downsamples.{i}.downsample"
        for j in range(blocks):
            names |= under(f"downs.{i}.{j + 1}", f"downsamples.{i}.blocks.{j}", ENCODER_BLOCK)
    return names


def tensor_names(config: DMAEConfig | TCLDConfig) -> Names:
    """Name of every tensor of our model -> its name in their `DiffusionAE` (stage 1) or `DiffusionModel` (stage 2)."""
    if isinstance(config, DMAEConfig):
        layers = {"front.analysis": "net.blocks.0", "front.synthesis": "net.blocks.1"}
        layers |= under("unet", "net.blocks.2", unet_names(config.unet, "blocks.2.net"))
        layers |= under("encoder", "encoder", encoder_names(config.encoder))
    else:
        layers = {"null_embedding": "net.blocks.2.blocks.0.blocks.0.weight"}
        layers |= under("unet", "net", unet_names(config.unet, "blocks.2.blocks.1.net"))
    tensors = {name: name.rpartition(".") for name in blank(config).state_dict() if name != "latent_std"}
    return {name: layers.get(name) or f"{layers[layer]}.{kind}" for name, (layer, _, kind) in tensors.items()}


def blank(config: DMAEConfig | TCLDConfig) -> nn.Module:
    """Our model on torch's meta device: names and shapes without numbers."""
    with torch.device("meta"):
        return DMAE(config) if isinstance(config, DMAEConfig) else TCLD(config, window=1)


def dmae_from_authors(state: State, config: DMAEConfig) -> State:
    """A state dict for `DMAE(config)` from one of their `DiffusionAE`, with or without an outer prefix and copies.

    Raises ValueError that names missing and unexpected tensors, or the fields by which `config` departs from the paper.
    """
    check_no_departures(config)
    return rename(plain(state), reverse(tensor_names(config)))


def dmae_to_authors(state: State, config: DMAEConfig) -> State:
    """A state dict for their `DiffusionAE`, with all copies, from one of `DMAE(config)`. Raises as above."""
    check_no_departures(config)
    theirs = rename(state, tensor_names(config)) | {"encoder.stft.window": torch.hann_window(config.n_fft)}
    return with_copies(theirs, "net.blocks.2.blocks.1.blocks")


def tcld_from_authors(state: State, config: TCLDConfig) -> State:
    """A state dict for `TCLD(config)` from one of their `DiffusionModel`, with or without T5. Raises as `rename`."""
    return rename(plain(state), reverse(tensor_names(config))) | {"latent_std": torch.ones(())}


def tcld_to_authors(state: State, config: TCLDConfig, t5: State | None = None) -> State:
    """A state dict for their `DiffusionModel`; `t5`, the text encoder's state, goes inside, as `use_text_conditioning`
    expects. Raises as `rename`, and ValueError where `latent_std` is not 1, which their model cannot express.
    """
    refuse({"latent_std": "latent_std" in state and float(state["latent_std"]) != 1})
    theirs = rename({k: v for k, v in state.items() if k != "latent_std"}, tensor_names(config))
    if t5 is not None:
        inner = {re.sub(r"^net\.blocks\.2\.", "net.blocks.2.blocks.1.", name): v for name, v in theirs.items()}
        theirs = inner | {T5 + name: tensor for name, tensor in t5.items()}
    return with_copies(theirs, "net.blocks.1.blocks")


def check_no_departures(config: DMAEConfig) -> None:
    """Raise ValueError that names the fields by which `config` computes something else than the authors' stage 1."""
    paper = SmallDMAEConfig(config.unet)
    refuse(
        {
            name: getattr(part, name, getattr(plain_part, name)) != getattr(plain_part, name)
            for part, plain_part, names in (
                (config.encoder, SmallEncoderConfig(), ("log_floor", "pca_start")),
                (config, paper, ("wave_scale", "preemphasis", "octaves", "refinement_steps")),
            )
            for name in names
        }
    )


def refuse(departures: dict[str, bool]) -> None:
    """Raise ValueError that names the fields that are True in `departures`, if any."""
    if any(departures.values()):
        names = ", ".join(name for name, departs in departures.items() if departs)
        raise ValueError(f"the authors' model has no {names} other than the default: use a100's settings")


def plain(state: State) -> State:
    """Each tensor once, under its name in `DiffusionAE` or `DiffusionModel`: no prefix, copies, T5 or STFT window."""
    prefix = min((found[1] for name in state if (found := START.match(name))), key=len, default="")
    kept = {once(name.removeprefix(prefix)): tensor for name, tensor in state.items()}
    if any(name.startswith(T5) for name in kept):
        kept = {re.sub(r"^net\.blocks\.2\.blocks\.1\.", "net.blocks.2.", name): t for name, t in kept.items()}
    return {name: tensor for name, tensor in kept.items() if not name.startswith((T5, "encoder.stft."))}


def once(name: str) -> str:
    """The first name of what the authors register more than once: the network, and a layer of the noise level."""
    name = re.sub(r"^(diffusion|sampler)\.net\.", "net.", name)
    return re.sub(r"^(net\.(?:blocks\.2\.)?blocks\.1\.blocks)\.1\.0\.", r"\1.0.0.", name)


def reverse(names: Names) -> Names:
    """The same names, theirs -> ours."""
    return {theirs: ours for ours, theirs in names.items()}


def rename(state: State, names: Names) -> State:
    """The tensors under new names; `names`: old -> new. Raises ValueError that names missing and unexpected ones."""
    missing, unexpected = sorted(names.keys() - state.keys()), sorted(state.keys() - names.keys())
    if missing or unexpected:
        raise ValueError(
            f"{len(missing)} tensors are missing {missing[:3]} and {len(unexpected)} unexpected {unexpected[:3]}: "
            "these weights are of another configuration"
        )
    return {new: state[old] for old, new in names.items()}


def with_copies(theirs: State, mlp: str) -> State:
    """`theirs` with the entries that the authors' classes hold more than once; `mlp`: the MLP's prefix."""
    for kind in ("weight", "bias"):
        theirs[f"{mlp}.1.0.{kind}"] = theirs[f"{mlp}.0.0.{kind}"]
    net = {name.removeprefix("net"): tensor for name, tensor in theirs.items() if name.startswith("net.")}
    return theirs | {f"{copy}{name}": t for copy in ("diffusion.net", "sampler.net") for name, t in net.items()}


def read_state(path: Path) -> State:
    """The tensors of a .safetensors file, or of a .bin, .pt, .pth or .ckpt file of torch, whose code is never run.

    Lightning's "state_dict" entry is unwrapped. Raises ValueError where the file is damaged or holds anything else.
    """
    mend = "fetch it again, or save its state_dict() alone where you trust it"
    safe = path.suffix == ".safetensors"
    try:
        state: Any = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # a damaged pickle raises anything
        raise ValueError(f"{path} is damaged, or holds code, which is never run: {mend}") from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    for name, value in state.items() if isinstance(state, dict) else [("", state)]:
        if not (isinstance(name, str) and isinstance(value, Tensor) and value.is_floating_point()):
            raise ValueError(f"{path} holds {type(value).__name__} {name!r}, which is not a tensor of weights: {mend}")
    return state


def import_weights(
    path: Path, out: Path, profile: Profile, stage: str | None = None, notes: dict | None = None
) -> tuple[Path, dict]:
    """Convert a file of the authors' weights to out/dmae.safetensors or out/tcld.safetensors with a card; return both.

    The precision stays the file's. `stage`: "dmae" or "tcld"; by default the names of the tensors decide. `notes`:
    entries that are added to the card or replace its own. Raises ValueError that names the file and the tensor that
    does not fit; nothing is written then.
    """
    state = plain(read_state(path))
    name = stage or ("dmae" if any(key.startswith("encoder.") for key in state) else "tcld")
    target = out / f"{name}.safetensors"
    config = getattr(profile, name)
    if target.exists() and target.samefile(path):
        raise ValueError(f"{path} would be overwritten: choose another folder than {str(out)!r}")
    try:
        ours = dmae_from_authors(state, config) if name == "dmae" else tcld_from_authors(state, config)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    model = blank(config)
    check_shapes(model, {key: tuple(tensor.shape) for key, tensor in ours.items()}, str(path))
    model.load_state_dict(ours, assign=True)
    card = {
        "profile": profile.name,
        "model": name,
        "command": f"mousai import-weights {path} --out {out} --profile {profile.name}",
        "source": path.name,
        "source_sha256": sha256(path),
        "licence": "that of the file imported",
        "config": asdict(config),
        **(notes or {}),
    }
    return target, save_weights(model, target, card, half=False)
