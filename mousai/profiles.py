"""Every size and setting of the reproduction, three times: `smoke`, `cpu`, `a100`.

The `a100` numbers are the paper's, each with its source and how certain it is: [A] stated, in the authors' code or
reproduced by arithmetic; [B] one secondary source; [M] recollection; [ours] our choice, because the paper is silent.
The defaults of the dataclasses are the paper's too, so a profile writes down only where it departs, and why.
"""

from dataclasses import asdict, dataclass, field, replace
from math import prod

GENRES = ("Electronic", "Hip Hop", "Metal", "Pop")  # Figure 5 [B]
REHEARSAL = "REHEARSAL"  # in the name of all that is made or used to see that a run runs, and for nothing else


@dataclass(frozen=True)
class PaperExact:
    """Where ours is mended and the authors' code is not; True brings theirs back. What is computed stays the same.

    A fifth point, padded text, is `TextConfig.paper_exact`. Mended without a choice: text is encoded once a prompt,
    the EMA computes with its own weights, silence stays finite, and errors name the length and the stride.
    """

    attention: bool = False  # the matrix of all pairs is written out; else `scaled_dot_product_attention`
    guidance: bool = False  # two calls of the net a step, half the memory; else both branches in one batch
    lengths: bool = False  # a length that does not divide by the stride is refused; else padded inside, cut outside


@dataclass(frozen=True)
class UNetConfig:
    """The 1-D U-Net of both stages, one tuple entry per depth (Section 3; counts in notebook 03)."""

    in_channels: int
    channels: tuple[int, ...]
    factors: tuple[int, ...]
    items: tuple[int, ...]
    attentions: tuple[int, ...]
    cross_attentions: tuple[int, ...]
    inject_depth: int | None = None  # where the latent enters, counted from 0
    inject_channels: int = 32  # the latent's [A]
    inject_everywhere: bool = False  # departs: also at the depths above, the latent repeated to their length
    heads: int = 12  # [B]
    head_features: int = 64  # [B]
    embedding_features: int = 768  # T5-base [B]
    features: int = 1024  # width of the noise-level features [A]
    groups: int = 8  # GroupNorm [A]
    skip_start: float | None = None  # departs: initial skip scale; the authors leave it to chance, about 0
    paper_exact: PaperExact = PaperExact()

    @property
    def stride(self) -> int:
        """Lengths must be multiples of this."""
        return prod(self.factors)


@dataclass(frozen=True)
class EncoderConfig:
    """The magnitude encoder of stage 1; every number [A] where it does not depart."""

    in_channels: int = 1024
    channels: int = 512
    factors: tuple[int, ...] = (2, 2)
    blocks: tuple[int, ...] = (4, 8)
    latent_channels: int = 32
    log_floor: float | None = None  # departs: encode log(m + floor), so that quiet highs count; the paper's is linear
    norm_before_tanh: bool = False  # departs: LayerNorm over channels before tanh, which else saturates when small
    pca_start: bool = False  # departs: a linear path beside the net, which starts as the magnitude's PCA


@dataclass(frozen=True)
class DMAEConfig:
    """Stage 1, diffusion magnitude-autoencoding. What departs says so and is off by default."""

    unet: UNetConfig
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    crop: int = 2**18  # samples, 5.46 s [A]
    n_fft: int = 1023  # the text says 1024, the code 1023: 512 bins and exactly crop / 256 frames [A]
    hop: int = 256  # [A]
    patch: int = 64  # window = stride of the learned front end [A]
    patch_channels: int = 256  # 128 filters for each of left and right [A]
    wave_scale: float = 1.0  # departs: brings the diffused signal's variance near the noise's
    preemphasis: float = 0.0  # departs: y[n] = x[n] - p x[n-1], so that squared error hears the highs
    dct_start: bool = False  # departs: the front end starts as a DCT and its inverse, so that channels are bands
    readout_weight: float = 0.0  # departs: auxiliary loss, log magnitude read from z
    reader_width: int = 64  # of the small net that reads z; unused without read-out and bands [ours]
    envelope_bands: int | None = None  # departs: the net starts from the best linear denoiser for what z tells of x_0
    envelope_weight: float = 0.1  # of the loss that teaches z to tell it; unused without bands [ours]
    warm_start_steps: int = 0  # departs: train only encoder and read-out first, so that the U-Net finds a useful z
    freeze_encoder: bool = False  # departs: it learns in the warm start only, so that latents stay what stage 2 learnt
    magnitude_contrast: float = 1.0  # departs: stretches the log read from z about its mean in time: a mean is too even
    polish: int = 0  # departs: steps of Griffin and Lim after sampling, from its phases to the magnitude read from z
    phase_share: float = 0.0  # departs: of the other channel in each one's phase, so that left and right keep together
    precision: str = "float32"  # of sampling; "auto": bfloat16 where the hardware has it, "fast": where it pays
    noisy_share: float = 0.0  # departs: share of items with sigma = sqrt(u), where only z knows the spectrum

    @property
    def stride(self) -> int:
        """Samples per latent step, the least multiple the U-Net and the encoder share."""
        return max((self.envelope_bands or self.patch) * self.unet.stride, self.latent_stride)

    @property
    def latent_stride(self) -> int:
        """Samples per latent step: 256 x 2 x 2 = 1024 in the paper."""
        return self.hop * prod(self.encoder.factors)


@dataclass(frozen=True)
class TextConfig:
    """The frozen text encoder: `t5-base` [B] from a local cache, or `minilm` from its pip package [ours]."""

    encoder: str = "t5-base"
    features: int = 768  # [B]
    tokens: int = 64  # [B]
    paper_exact: bool = True  # states of padding are heard, as theirs [A]; False: zeros, which cross-attention masks


@dataclass(frozen=True)
class TCLDConfig:
    """Stage 2, text-conditioned latent diffusion."""

    unet: UNetConfig
    text: TextConfig = field(default_factory=TextConfig)
    crop: int = 2**21  # samples, 43.69 s: one chunk "k of n" [A]
    mask_share: float = 0.1  # the learned embedding replaces the text this often in training [A]
    title_drop: float = 0.1  # [M]; departs where higher: a few hundred titles are else learnt by heart
    precision: str = "float32"  # of sampling, as stage 1's


@dataclass(frozen=True)
class TrainConfig:
    """AdamW and EMA as in the authors' trainer, each number [A]; batch and steps [M]; how to run it [ours]."""

    steps: int = 1_000_000
    lesson_steps: int = 1000  # steps the notebook trains beside the weights that `mousai train` made [ours]
    lesson_pieces: int | None = None  # pieces it encodes for that in stage 2; None is all
    batch: int = 32
    lr: float = 1e-4
    betas: tuple[float, float] = (0.95, 0.999)
    eps: float = 1e-6  # smaller in `cpu`: the latent's gradients start below 1e-6 there
    weight_decay: float = 1e-3
    ema_beta: float = 0.995
    ema_power: float = 0.7
    warmup: int = 0  # departs: linear warm-up, steps
    decay: bool = False  # departs: cosine from lr to 0 over `steps`; a short run needs it, a week's run not
    restart: int = 0  # departs: the schedule starts anew at this step, where the warm start ends
    encoder_share: float = 1.0  # departs: of lr, for an encoder that starts good and is not to forget it
    clip: float = 0.0  # departs: longest gradient; a rare loud batch else undoes a small net
    accumulate: int = 1  # batches a step
    precision: str = "float32"  # "auto": bfloat16 where the hardware multiplies it, about twice as fast
    checkpointing: bool = False  # activations are computed again rather than kept: less memory, a quarter more work
    optimizer: str = "adamw"  # departs: "adamw8bit" keeps a byte a moment instead of four, by bitsandbytes
    save_minutes: float = 10.0
    watch_steps: int = 1000  # validation, clips and logs this often


@dataclass(frozen=True)
class DataConfig:
    """The embedded data set [ours]: `pieces` arrangements of `piece_samples`, each cut into chunks "k of n"."""

    pieces: int
    piece_samples: int
    chunks: int = 4  # 3 minutes / 43.7 s is about 4 [B]
    valid_share: float = 0.1
    test_share: float = 0.1
    seed: int = 0


@dataclass(frozen=True)
class SampleConfig:
    """DDIM steps of both stages, the paper's own unknown [?]: 50 to 100 clean [M]. Guidance: above 3 is advised [M]."""

    tcld_steps: int = 100
    dmae_steps: int = 100
    guidance: float = 5.0
    sampler: str = "ddim"  # the paper's [A]


@dataclass(frozen=True)
class EvaluationConfig:
    """How many of each thing the metrics look at; [ours] where there is no other mark."""

    prompts_per_genre: int = 10  # [M]
    seeds: int = 1
    reconstructions: int = 100  # clips of the test split through the DMAE
    real_clips: int = 1000  # clips of the test split as the ceiling
    structure_samples: int = 1000  # Figure 6 [A]
    repeats: int = 5  # Table 3: runs timed
    study_steps: int = 1000  # of each short run in notebook 04's study
    attention_steps: int = 20_000  # of each of notebook 08's two runs
    judge_steps: int = 2000  # training steps of the in-domain judge
    solver_clips: int = 100  # notebook 09: clips a solver makes in each stage
    reference_steps: int = 100  # of the DDIM that solvers are held against [M]


@dataclass(frozen=True)
class Profile:
    """One size of the whole reproduction."""

    name: str
    data: DataConfig
    dmae: DMAEConfig
    tcld: TCLDConfig
    dmae_train: TrainConfig
    tcld_train: TrainConfig
    sampling: SampleConfig
    evaluation: EvaluationConfig
    sample_rate: int = 48_000  # [A]
    seed: int = 0  # [ours]

    @property
    def rehearsal(self) -> bool:
        """Whether it only shows that everything runs: its numbers mean nothing."""
        return self.name.endswith("-rehearsal")

    def as_dict(self) -> dict:
        """Plain nested dictionary, for cards and provenance."""
        return asdict(self)


# fmt: off
A100 = Profile(
    name="a100",
    data=DataConfig(pieces=4000, piece_samples=2**23),  # [ours] stand-in: Text2Music was never published
    dmae=DMAEConfig(  # [A], the count proves it
        unet=UNetConfig(
            in_channels=256, channels=(256, 512, 512, 512, 1024, 1024, 1024), factors=(1, 2, 2, 2, 2, 2, 2),
            items=(1, 2, 2, 2, 2, 2, 2), attentions=(0,) * 7, cross_attentions=(0,) * 7, inject_depth=4,
        )
    ),
    tcld=TCLDConfig(  # [B], confirmed by the count
        unet=UNetConfig(
            in_channels=32, channels=(128, 256, 512, 512, 1024, 1024), factors=(1, 2, 2, 2, 2, 2),
            items=(2, 2, 2, 4, 8, 8), attentions=(0, 0, 1, 1, 1, 1), cross_attentions=(1,) * 6,
        )
    ),
    dmae_train=TrainConfig(), tcld_train=TrainConfig(), sampling=SampleConfig(), evaluation=EvaluationConfig(),
)

# The same method where a laptop can follow it. Sizes are ours; each departure has its reason at the field above.
CPU = Profile(
    name="cpu", data=DataConfig(pieces=400, piece_samples=2**21),
    dmae=DMAEConfig(
        crop=2**16, envelope_bands=512,
        unet=UNetConfig(
            in_channels=1024, channels=(304, 368), factors=(1, 2), items=(2, 2), attentions=(0, 0),
            cross_attentions=(0, 0), inject_depth=1, inject_everywhere=True, features=256, skip_start=0.5,
        ),
        encoder=EncoderConfig(channels=224, blocks=(1, 2), log_floor=1e-3, pca_start=True),
        wave_scale=40.0, preemphasis=0.97, readout_weight=0.5, reader_width=192, warm_start_steps=2400,
        freeze_encoder=True, precision="auto", magnitude_contrast=1.03, polish=2, phase_share=0.1,
    ),
    tcld=TCLDConfig(
        crop=2**19, text=TextConfig(encoder="minilm", features=384, paper_exact=False), title_drop=0.9,
        unet=UNetConfig(
            in_channels=32, channels=(128, 192, 256, 256, 256), factors=(1, 2, 2, 2, 2), items=(1, 1, 1, 2, 2),
            attentions=(0, 0, 1, 1, 1), cross_attentions=(1,) * 5, heads=4, embedding_features=384, features=256,
            skip_start=0.5,
        ),
    ),
    dmae_train=TrainConfig(
        steps=7700, lesson_steps=80, batch=8, lr=8e-4, eps=1e-8, warmup=100, decay=True, restart=2400,
        encoder_share=0.1, clip=1.0, precision="auto",
    ),
    tcld_train=TrainConfig(
        steps=5000, lesson_steps=60, lesson_pieces=80, batch=8, lr=5e-4, eps=1e-8, warmup=100, decay=True, clip=1.0,
        precision="auto",
    ),
    sampling=SampleConfig(tcld_steps=20, dmae_steps=3, guidance=3.0, sampler="multistep"),
    evaluation=EvaluationConfig(
        seeds=4, reconstructions=80, real_clips=120, structure_samples=40, repeats=5, study_steps=45,
        attention_steps=300, judge_steps=800, solver_clips=24,
    ),
)

# Minutes, for the tests: every line of code runs, nothing is expected to sound.
SMOKE = replace(
    CPU, name="smoke",
    data=DataConfig(pieces=20, piece_samples=2**19, valid_share=0.2, test_share=0.2),
    dmae=replace(
        CPU.dmae, crop=2**15, envelope_bands=128, reader_width=32, warm_start_steps=4,
        unet=replace(
            CPU.dmae.unet, in_channels=256, channels=(32,) * 4, factors=(1, 2, 2, 2), items=(1,) * 4,
            attentions=(0,) * 4, cross_attentions=(0,) * 4, inject_depth=3, features=64,
        ),
        encoder=replace(CPU.dmae.encoder, channels=32, blocks=(1, 1)),
    ),
    tcld=replace(
        CPU.tcld, crop=2**17,
        unet=replace(
            CPU.tcld.unet, channels=(32,) * 3, factors=(1, 2, 2), items=(1,) * 3, attentions=(0, 0, 1),
            cross_attentions=(1,) * 3, heads=2, head_features=16, features=64,
        ),
    ),
    dmae_train=TrainConfig(steps=60, lesson_steps=8, batch=2, lr=1e-3, encoder_share=0.1, clip=1.0),
    tcld_train=TrainConfig(steps=60, lesson_steps=8, batch=4, lr=1e-3),
    sampling=SampleConfig(tcld_steps=3, dmae_steps=3, guidance=3.0),
    evaluation=EvaluationConfig(
        prompts_per_genre=2, reconstructions=4, real_clips=12, structure_samples=8, repeats=2, study_steps=6,
        attention_steps=4, judge_steps=20, solver_clips=4, reference_steps=6,
    ),
)

# a100 to its last notebook, a step of everything: its networks, lengths and data formats, and little of each, so that
# no shape, parameter or path is wrong for the first time on a machine that is paid for. Nothing of it is worth hearing.
A100_REHEARSAL = replace(
    A100, name="a100-rehearsal",
    data=replace(A100.data, pieces=12),  # one of each genre in each split
    dmae=replace(A100.dmae, precision="fast"),
    tcld=replace(A100.tcld, text=replace(A100.tcld.text, encoder=f"{REHEARSAL}/t5-base")),  # random: `batch.rehearsal`
    dmae_train=replace(A100.dmae_train, steps=1, lesson_steps=3, batch=1),  # three: a lesson compares thirds
    tcld_train=replace(A100.tcld_train, steps=1, lesson_steps=3, batch=1),
    sampling=replace(A100.sampling, tcld_steps=1, dmae_steps=1, guidance=1.0),  # notebook 05 guides by itself
    evaluation=EvaluationConfig(
        prompts_per_genre=2, reconstructions=4, real_clips=8, structure_samples=8, repeats=2, study_steps=3,
        attention_steps=1, judge_steps=3, solver_clips=3, reference_steps=1,
    ),
)
# fmt: on

PROFILES = {profile.name: profile for profile in (SMOKE, CPU, A100, A100_REHEARSAL)}


def get_profile(name: str) -> Profile:
    """The profile of that name. Raises ValueError that lists the names there are."""
    if name not in PROFILES:
        raise ValueError(f"unknown profile {name!r}: choose one of {', '.join(PROFILES)}")
    return PROFILES[name]
