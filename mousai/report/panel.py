"""A panel to play with, for notebook 11: a prompt and sliders, Generate, a player with a picture, Save.

What the buttons do are plain functions, so that a batch run, where nobody presses, calls them by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import Audio, clear_output, display
from matplotlib.figure import Figure

from mousai.config import Profile
from mousai.files import runs_dir
from mousai.inference.audio import Stereo, write_audio
from mousai.inference.pipeline import Mousai
from mousai.spectrogram import log_mel

PROMPT = "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"
LONGEST = 120.0  # seconds that the slider offers


@dataclass(frozen=True)
class Wish:
    """What to generate: the fields of the panel."""

    prompt: str
    seconds: float
    seed: int
    guidance: float
    tcld_steps: int
    dmae_steps: int


def usual(profile: Profile) -> Wish:
    """The profile's own settings, and as much sound as stage 2 learnt at a time, to a tenth of a second."""
    own, seconds = profile.sampling, profile.tcld.crop / profile.sample_rate
    return Wish(PROMPT, round(seconds, 1), profile.seed, own.guidance, own.tcld_steps, own.dmae_steps)


def made(model: Mousai, wish: Wish, progress: bool = False) -> Stereo:
    """The sound of a wish [2, time], 48 kHz; the same wish gives the same sound. Errors as in `Mousai.generate`."""
    sampling = model.sampling(guidance=wish.guidance, tcld_steps=wish.tcld_steps, dmae_steps=wish.dmae_steps)
    return model.generate(wish.prompt, wish.seconds, wish.seed, sampling, progress=progress)[0].cpu()


def spectrogram(w: Stereo, sample_rate: int = 48_000) -> Figure:
    """The log-mel picture of a sound, time in seconds."""
    fig, axis = plt.subplots(figsize=(10, 3))
    extent = (0, w.shape[-1] / sample_rate, 0, 80)
    picture = axis.imshow(
        log_mel(w[None], sample_rate)[0], origin="lower", aspect="auto", cmap="magma", vmin=-3, vmax=2, extent=extent
    )
    fig.colorbar(picture, ax=axis, label="log10 magnitude")
    axis.set(xlabel="time (s)", ylabel="mel band")
    axis.grid(False)
    return fig


def player(w: Stereo, sample_rate: int = 48_000) -> Audio:
    """A player of the whole sound, as loud as it is, in a page that stays small: Ogg Vorbis, by way of runs/play."""
    path = runs_dir() / "play" / "last.ogg"
    write_audio(w, path, sample_rate)
    return Audio(filename=str(path), embed=True)


def save(w: Stereo, name: str, sample_rate: int = 48_000) -> str:
    """Write w to runs/play/<name>, WAV, FLAC or OGG by its ending, and say so in a line.

    Raises ValueError for another ending, or a name that is no file name.
    """
    if Path(name).name != name:
        raise ValueError(f"{name!r} is no file name: what is saved lies in {runs_dir() / 'play'}, give it a plain name")
    path = runs_dir() / "play" / name
    clipped = write_audio(w, path, sample_rate)
    return f"{path}: {w.shape[-1] / sample_rate:.1f} s, {clipped} samples were beyond 1 and are clipped"


class Panel:
    """The widgets; `box` is what a cell shows. Only for a reader's own run: without a front end nobody sees them."""

    def __init__(self, model: Mousai):
        self.model, self.rate, self.w = model, model.profile.sample_rate, None
        start, wide = usual(model.profile), widgets.Layout(width="95%")
        self.fields = {
            "prompt": widgets.Text(start.prompt, layout=wide),
            "seconds": widgets.FloatSlider(start.seconds, min=1, max=LONGEST, step=0.1, layout=wide),
            "seed": widgets.BoundedIntText(start.seed, min=0, max=2**31 - 1),
            "guidance": widgets.FloatSlider(start.guidance, min=0, max=15, step=0.5, layout=wide),
            "tcld_steps": widgets.IntSlider(start.tcld_steps, min=1, max=100, layout=wide),
            "dmae_steps": widgets.IntSlider(start.dmae_steps, min=1, max=100, layout=wide),
        }
        for name, field in self.fields.items():
            field.description = name
        self.name = widgets.Text("mine.flac", description="file name")
        row = [self.button("Generate", self.generate), self.button("Save", self.save), self.name]
        self.said, self.heard = widgets.Label(), widgets.Output()
        self.box = widgets.VBox([*self.fields.values(), widgets.HBox(row), self.said, self.heard])

    def button(self, name: str, action: Callable[[], str]) -> widgets.Button:
        """A button that cannot be pressed again before it has done; what it says, or what went wrong, is one line."""
        button = widgets.Button(description=name)

        def pressed(_: widgets.Button) -> None:
            button.disabled = True
            with self.heard:
                try:
                    self.said.value = action()
                except (ValueError, OSError) as error:
                    self.said.value = str(error)
                finally:
                    button.disabled = False

        button.on_click(pressed)
        return button

    def generate(self) -> str:
        """Bars while it works, then player and picture in the place of the last ones."""
        wish = Wish(**{name: field.value for name, field in self.fields.items()})
        self.w = made(self.model, wish, progress=True)
        clear_output()
        fig = spectrogram(self.w, self.rate)
        display(player(self.w, self.rate), fig)
        plt.close(fig)
        return f"{self.w.shape[-1] / self.rate:.1f} s from seed {wish.seed}"

    def save(self) -> str:
        """Raises ValueError where nothing was generated yet."""
        if self.w is None:
            raise ValueError("nothing to save yet: press Generate first")
        return save(self.w, self.name.value, self.rate)
