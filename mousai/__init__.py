"""Moûsai, text-to-music by two-stage latent diffusion. The method, in reading order:

    shapes       named tensor shapes: Wave, Magnitude, Latent, Level, Embedding; which lengths fit
    config       every field, with its source, or why it departs
    profiles     what smoke, cpu and a100 set them to
    precision    float32, or bfloat16 where it is faster
    progress     a bar on a screen, a line now and then in a log
    spectrogram  w -> m_w
    diffusion    alpha_beta, add_noise, v_target, DDIM, guidance
    windows      sound of any length, in pieces, in flat memory
    recompute    activations computed again rather than kept, for large batches
    attention    of a signal to itself, or to a text
    unet         the one 1-D U-Net of both stages
    products     products and convolutions as oneDNN likes them, for sampling on a CPU
    winograd     wide convolutions on a CPU with half the multiplications
    encoder      m_w -> z
    patch        learned patches: w -> the U-Net's channels, and back
    envelope     what z tells of the spectrum, and the linear denoiser that follows
    dmae         stage 1: encode, decode, loss
    text         the frozen text encoder
    tcld         stage 2: text -> z
    files        whole files or none: written aside, renamed
    checkpoint   weights to and from disk
    optimizer    AdamW, or the same with 8-bit moments
    train        one plain loop; EMA; save, resume
    stages       what each stage trains on; weights with a card
    hub          weights to a folder, or a hub, and back
    codec        any sound -> z, to a file and back
    edit         sound that begins from sound: varied, continued, inpainted
    recipe       what a sound is made by, in its file's tags
    generate     prompt -> z -> w, any length
    interop      the authors' weights to ours and back

Around it: `data` (the music), `evaluation` (the numbers), `batch` (running notebooks, drawing reports), `cli` (the
shell's way in).
"""
