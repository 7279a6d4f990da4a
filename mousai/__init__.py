"""Moûsai, text-to-music by two-stage latent diffusion. The paper, in reading order:

    shapes       named tensor shapes: Wave, Magnitude, Latent, Level, Embedding; which lengths fit
    config       the paper's numbers as dataclasses, each with its source; A100 is the paper
    spectrogram  w -> m_w; log-mel
    diffusion    alpha and beta, noise, v, the loss, guidance, DDIM as one plain loop
    attention    self-attention, and cross-attention to a text
    unet         the one 1-D U-Net of both stages
    dmae         stage 1: magnitude encoder, learned patches, the injected decoder; loss, encode, decode
    text         the frozen text encoder, and the embedded stand-in (minilm) behind the same interface
    tcld         stage 2: text -> z, the learned null embedding
    train        one plain loop, EMA
    checkpoint   weights to and from disk, with a card; `files` writes them, `progress` shows a bar
    generate     prompt -> z -> w for one window: equation (2)

The folders beside it are not the paper: `small` (what lets small models learn), `inference` (any length, samplers,
editing, speed), `training`, `interop`, `data`, `evaluation`, `bench`, `report`, `reproduce`, `listening`, `cli`.
"""
