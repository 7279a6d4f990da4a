"""The paper's numbers as dataclasses; `A100` at the end is the paper.

A mark says where a default comes from and how certain it is: [A] stated in the paper, in the authors' code or
reproduced by arithmetic; [B] one secondary source; [M] recollection; [ours] our choice, because the paper is silent.
"departs" marks what only small profiles set. What else lets a small model learn is in `mousai/small`.
"""

from dataclasses import asdict, dataclass, field
from math import prod


@dataclass(frozen=True)
class PaperExact:
    """Where our code departs from the authors'; True does as theirs does. What is computed stays the same.

    Not so for a fourth point, padded text: that is `TextConfig.paper_exact`, which only small profiles set to False.
    Fixed, with no setting: text is encoded once per prompt, the EMA computes with its own weights, silence stays
    finite, and errors name the length and the stride.
    """

    attention: bool = False  # True writes out the matrix of all pairs; else `scaled_dot_product_attention`
    guidance: bool = False  # True evaluates the network twice per step, half the memory; else both in one batch
    lengths: bool = False  # True refuses lengths that are not multiples of the stride; else they are padded, cut


@dataclass(frozen=True)
class UNetConfig:
    """The 1-D U-Net of both stages. Tuples have one entry per depth (Section 3; notebook 03 counts parameters)."""

    in_channels: int  # of the signal
    channels: tuple[int, ...]  # width
    factors: tuple[int, ...]  # by which length is divided on the way down
    items: tuple[int, ...]  # how often the group of layers is repeated, on the way down and again on the way up
    attentions: tuple[int, ...]  # self-attention layers in each group
    cross_attentions: tuple[int, ...]  # in each group
    inject_depth: int | None = None  # depth where the latent enters, counted from 0; None in stage 2
    inject_channels: int = 32  # of the latent [A]
    heads: int = 12  # [B]
    head_features: int = 64  # [B]
    embedding_features: int = 768  # T5-base [B]
    features: int = 1024  # width of the noise-level features [A]
    groups: int = 8  # GroupNorm [A]
    paper_exact: PaperExact = PaperExact()

    @property
    def stride(self) -> int:
        """Lengths that the network takes are multiples of this."""
        return prod(self.factors)

    def injects(self, depth: int) -> bool:
        """Whether the latent enters at this depth."""
        return depth == self.inject_depth


@dataclass(frozen=True)
class EncoderConfig:
    """The magnitude encoder of stage 1; every number [A]."""

    in_channels: int = 1024
    channels: int = 512
    factors: tuple[int, ...] = (2, 2)  # of each downsampling
    blocks: tuple[int, ...] = (4, 8)  # ResNet units after each
    latent_channels: int = 32


@dataclass(frozen=True)
class DMAEConfig:
    """Stage 1, diffusion magnitude-autoencoding (Section 3.1)."""

    unet: UNetConfig
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    crop: int = 2**18  # samples, 5.46 s [A]
    n_fft: int = 1023  # the text says 1024, the code 1023: 512 bins and exactly crop / 256 frames [A]
    hop: int = 256  # [A]
    patch: int = 64  # window = stride of the learned front end [A]
    patch_channels: int = 256  # 128 filters for each of left and right [A]

    @property
    def stride(self) -> int:
        """Samples: the decoder takes waveforms whose length is a multiple of this, 4096 in the paper."""
        return max(self.patch * self.unet.stride, self.latent_stride)

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
    paper_exact: bool = True  # states of padding are attended to [A]; False makes them zeros, which are masked


@dataclass(frozen=True)
class TCLDConfig:
    """Stage 2, text-conditioned latent diffusion (Section 3.2)."""

    unet: UNetConfig
    text: TextConfig = field(default_factory=TextConfig)
    crop: int = 2**21  # samples, 43.69 s: one chunk "k of n" [A]
    mask_share: float = 0.1  # the learned embedding replaces the text this often in training [A]
    title_drop: float = 0.1  # share of captions without title [M]; departs: higher, else titles are memorised


@dataclass(frozen=True)
class TrainConfig:
    """AdamW and EMA as in the authors' trainer, each number [A]; batch and steps [M]; how to run it [ours]."""

    steps: int = 1_000_000
    notebook_steps: int = 1000  # steps the notebook trains beside the weights that `mousai train` made [ours]
    notebook_pieces: int | None = None  # pieces whose latents it trains stage 2 on; None is all
    batch: int = 32
    lr: float = 1e-4
    betas: tuple[float, float] = (0.95, 0.999)
    eps: float = 1e-6  # smaller in `cpu`, because the latent's gradients start below 1e-6 there
    weight_decay: float = 1e-3
    ema_beta: float = 0.995
    ema_power: float = 0.7
    warmup: int = 0  # departs: linear warm-up, steps
    decay: bool = False  # departs: cosine from lr to 0 over `steps`; a short run needs it, a week's run not
    schedule_restart: int = 0  # departs: the schedule starts anew at this step, where encoder pre-training ends
    encoder_lr_scale: float = 1.0  # departs: factor of lr for the encoder, which has a good start to keep
    max_grad_norm: float = 0.0  # departs: longer gradients are scaled down, else one loud batch undoes a small net
    accumulate: int = 1  # batches per step
    precision: str = "float32"  # "auto": bfloat16 where the hardware multiplies it, about twice as fast
    checkpointing: bool = False  # activations are computed again, not kept: less memory, a quarter more work
    save_minutes: float = 10.0
    validation_steps: int = 1000  # validation, clips and logs this often


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
    """How both stages are sampled. The paper's steps are unknown; 50 to 100, and guidance above 3, are advised [M]."""

    tcld_steps: int = 100
    dmae_steps: int = 100
    guidance: float = 5.0
    sampler: str = "ddim"  # the paper's [A]
    tcld_precision: str = "float32"  # "auto": bfloat16 where the hardware has it; "fast": where it is faster here
    dmae_precision: str = "float32"  # both precisions [ours]


@dataclass(frozen=True)
class EvaluationConfig:
    """How much each metric measures; [ours] where there is no other mark."""

    prompts_per_genre: int = 10  # [M]
    seeds: int = 1
    reconstructions: int = 100  # excerpts of the test split through the DMAE, notebook 04
    reconstructed_chunks: int = 100  # whole chunks, notebooks 07, 08 and 10
    real_clips: int = 1000  # clips of the test split, whose scores are the ceiling
    structure_samples: int = 1000  # Figure 6 [A]
    repeats: int = 5  # timed runs, Table 3
    study_steps: int = 1000  # of each short run in notebook 12's study
    attention_steps: int = 20_000  # of each training run in notebook 08
    attention_seeds: int = 3  # of those runs with self-attention, and as many without
    in_domain_steps: int = 2000  # training steps of the in-domain audio-text model
    solver_clips: int = 100  # notebook 09: clips per sampler and stage
    reference_steps: int = 100  # of DDIM, to which samplers are compared [M]
    equivalence_margin: float = 0.1  # share of the distance from that DDIM to its floor; set before measuring


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
        """Whether this is a preflight, which only shows that everything runs: its numbers mean nothing."""
        return self.name.endswith("-rehearsal")

    def as_dict(self) -> dict:
        """All fields as nested dictionaries, for cards and provenance."""
        return asdict(self)


GENRES = ("Electronic", "Hip Hop", "Metal", "Pop")  # Figure 5 [B]

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
# fmt: on
