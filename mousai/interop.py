"""The authors' weights to ours and back, by name; parity of what they compute is in `tests/test_parity.py`.

Their classes (`audio-diffusion-pytorch` 0.1.x) register one net three times and one layer twice, so a state dict of
theirs holds copies under `diffusion.*`, `sampler.*` and a second time-MLP entry: those are dropped. So are T5's entries
(ours is frozen and loaded apart) and the STFT window. Only dictionaries of tensors go in and out: reading a `.bin` file
is the caller's, with `torch.load(path, weights_only=True)`.
"""

import torch
from torch import Tensor

from mousai.profiles import DMAEConfig, EncoderConfig, TCLDConfig, UNetConfig

State = dict[str, Tensor]

RESNET = {
    "block.blocks.0.blocks.0.0": "norm1",
    "block.blocks.0.blocks.0.2": "conv1",
    "block.blocks.0.blocks.1.0": "norm2",
    "block.blocks.0.blocks.1.2": "conv2",
}
MODULATION = {"blocks.0.block.blocks.0.1": "linear"}
INJECT = {"block.blocks.0": "conv"}
ENCODER_BLOCK = {
    "block1.groupnorm": "norm1",
    "block1.project": "conv1",
    "block2.groupnorm": "norm2",
    "block2.project": "conv2",
}


def both(names: dict[str, str]) -> dict[str, str]:
    """A layer's name -> the names of its weight and its bias."""
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for theirs, ours in names.items() for kind in ("weight", "bias")}


def under(theirs: str, ours: str, names: dict[str, str]) -> dict[str, str]:
    """The same names, one module further out."""
    return {f"{theirs}.{inner}": name for inner, name in inside(ours, names).items()}


def inside(ours: str, names: dict[str, str]) -> dict[str, str]:
    """The same names, one module of ours further out."""
    return {theirs: f"{ours}.{name}" for theirs, name in names.items()}


def attention_names() -> dict[str, str]:
    """One self- or cross-attention: two LayerNorms, three matrices without bias."""
    layers = {"to_q": "to_q", "to_kv": "to_kv", "attention.blocks.0": "to_out"}
    names = both({"norm": "norm", "norm_context": "norm_context"})
    names |= {f"{theirs}.weight": f"{ours}.weight" for theirs, ours in layers.items()}
    return {f"blocks.0.block.{theirs}": ours for theirs, ours in names.items()}


def group_items(config: UNetConfig, depth: int) -> list[dict[str, str]]:
    """The items of one group in the authors' order, each with its names."""
    items = [inside("resnet", both(RESNET)), inside("modulation", both(MODULATION))]
    if depth == config.inject_depth:
        items.append(inside("inject", both(INJECT)))
    items += [inside(f"self_attention.{i}", attention_names()) for i in range(config.attentions[depth])]
    items += [inside(f"cross_attention.{i}", attention_names()) for i in range(config.cross_attentions[depth])]
    return items


def level_names(config: UNetConfig, depth: int = 0) -> dict[str, str]:
    """One depth and all inside it. Theirs is one numbered list: down, items, inner level, items, up."""
    groups = [(i, item) for i in range(config.items[depth]) for item in group_items(config, depth)]
    children = [both({"block": "down"}), *(inside(f"items_down.{i}", item) for i, item in groups)]
    if depth + 1 < len(config.channels):
        children.append(inside("inner", level_names(config, depth + 1)))
    children += [*(inside(f"items_up.{i}", item) for i, item in groups), both({"block.1": "up"})]
    names = both({"skip.blocks.0.1": "skip"})
    for number, child in enumerate(children):
        names |= {f"block.blocks.{number}.{theirs}": ours for theirs, ours in child.items()}
    return names


def unet_names(config: UNetConfig, guided: bool) -> dict[str, str]:
    """The noise level's layers and the nested levels; `guided` where the learned "no text" wraps the levels."""
    names = {"blocks.0.weights": "noise_level.freqs"}
    names |= both({"blocks.0.to_out": "noise_level.proj", "blocks.1.blocks.0.0": "noise_level.mlp"})
    return names | under("blocks.2.blocks.1.net" if guided else "blocks.2.net", "net", level_names(config))


def encoder_names(config: EncoderConfig) -> dict[str, str]:
    """The magnitude encoder `ME1d`."""
    names = under("to_in.block", "to_in", both({**ENCODER_BLOCK, "to_out": "shortcut"})) | both({"to_out": "to_out"})
    for i, blocks in enumerate(config.blocks):
        names |= both({f"downsamples.{i}.downsample": f"downs.{i}.0"})
        for j in range(blocks):
            names |= under(f"downsamples.{i}.blocks.{j}", f"downs.{i}.{j + 1}", both(ENCODER_BLOCK))
    return names


def dmae_names(config: DMAEConfig) -> dict[str, str]:
    """Theirs -> ours for `DiffusionAE(net_t=LTPlugin(UNetV0), encoder=ME1d)`."""
    names = {"net.blocks.0.weight": "front.analysis.weight", "net.blocks.1.weight": "front.synthesis.weight"}
    names |= under("net.blocks.2", "unet", unet_names(config.unet, guided=False))
    return names | under("encoder", "encoder", encoder_names(config.encoder))


def tcld_names(config: TCLDConfig) -> dict[str, str]:
    """Theirs -> ours for `DiffusionModel(net_t=UNetV0, use_embedding_cfg=True)`."""
    names = {"net.blocks.2.blocks.0.blocks.0.weight": "null_embedding"}
    return names | under("net", "unet", unet_names(config.unet, guided=True))


def dmae_from_authors(state: State, config: DMAEConfig) -> State:
    """A state dict for `DMAE(config)` from one of `DiffusionAE`'s.

    Raises ValueError that names missing and unexpected tensors, or what `config` departs from the paper in.
    """
    check_no_departures(config)
    return rename(plain(state), dmae_names(config))


def dmae_to_authors(state: State, config: DMAEConfig) -> State:
    """A state dict for `DiffusionAE` from one of `DMAE(config)`'s, every copy in place. Raises as the other way."""
    check_no_departures(config)
    theirs = rename(state, reverse(dmae_names(config)))
    theirs["encoder.stft.window"] = torch.hann_window(config.n_fft)
    return with_copies(theirs, "net.blocks.2.blocks.1.blocks")


def tcld_from_authors(state: State, config: TCLDConfig) -> State:
    """A state dict for `TCLD(config)` from one of `DiffusionModel`'s, with T5 inside or not. Raises as above."""
    inner = "net.blocks.2.blocks.0.transformer."
    state = plain(state)
    if any(name.startswith(inner) for name in state):  # T5 wraps what is otherwise at blocks.2
        state = {name.replace("net.blocks.2.blocks.1.", "net.blocks.2.", 1): t for name, t in without(state, inner)}
    return rename(state, tcld_names(config)) | {"latent_std": torch.ones(())}


def tcld_to_authors(state: State, config: TCLDConfig) -> State:
    """A state dict for `DiffusionModel` (text given as embeddings). ValueError also where latents are rescaled."""
    state = dict(state)
    rescaled = float(state.pop("latent_std", torch.ones(()))) != 1
    refuse({"latent_std": rescaled})
    return with_copies(rename(state, reverse(tcld_names(config))), "net.blocks.1.blocks")


def check_no_departures(config: DMAEConfig) -> None:
    """Raises ValueError naming the fields by which this profile computes something else than the authors' stage 1."""
    departures = {
        "log_floor": config.encoder.log_floor is not None,
        "norm_before_tanh": config.encoder.norm_before_tanh,
        "wave_scale": config.wave_scale != 1,
        "preemphasis": config.preemphasis != 0,
        "readout_weight": config.readout_weight != 0,
        "inject_everywhere": config.unet.inject_everywhere,
    }
    refuse(departures)


def refuse(departures: dict[str, bool]) -> None:
    """Raises ValueError naming the fields that depart."""
    if any(departures.values()):
        names = ", ".join(name for name, departs in departures.items() if departs)
        raise ValueError(f"the authors' model has no {names} other than the default: use a100's settings")


def plain(state: State) -> State:
    """Without an outer `model.`, the registered copies, the second time-MLP entry and the STFT window."""
    if state and all(name.startswith("model.") for name in state):
        state = {name.removeprefix("model."): tensor for name, tensor in state.items()}
    second = ("net.blocks.1.blocks.1.0.", "net.blocks.2.blocks.1.blocks.1.0.")  # without and with a front end
    return dict(without(state, "diffusion.", "sampler.", "encoder.stft.", *second))


def without(state: State, *prefixes: str) -> list[tuple[str, Tensor]]:
    """The entries whose name starts with none of the prefixes."""
    return [(name, tensor) for name, tensor in state.items() if not name.startswith(prefixes)]


def reverse(names: dict[str, str]) -> dict[str, str]:
    """Ours -> theirs."""
    return {ours: theirs for theirs, ours in names.items()}


def rename(state: State, names: dict[str, str]) -> State:
    """Each tensor under its new name. Raises ValueError that names the first missing and unexpected ones."""
    missing, unexpected = sorted(names.keys() - state.keys()), sorted(state.keys() - names.keys())
    if missing or unexpected:
        raise ValueError(
            f"{len(missing)} tensors are missing {missing[:3]} and {len(unexpected)} unexpected {unexpected[:3]}: "
            "these weights are of another configuration"
        )
    return {new: state[old] for old, new in names.items()}


def with_copies(theirs: State, mlp: str) -> State:
    """The entries that the authors' classes hold more than once, sharing storage."""
    for kind in ("weight", "bias"):
        theirs[f"{mlp}.1.0.{kind}"] = theirs[f"{mlp}.0.0.{kind}"]
    net = {name.removeprefix("net"): tensor for name, tensor in theirs.items() if name.startswith("net.")}
    return theirs | {f"{copy}{name}": t for copy in ("diffusion.net", "sampler.net") for name, t in net.items()}
