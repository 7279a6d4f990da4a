"""The interactive panel of notebook 11: a prompt and sliders, Generate, a player with a spectrogram, Save.

What the buttons do are plain functions, so that a batch run, where nobody presses a button, can call them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ipywidgets as widgets
import matplotlib.pyplot as plt
from IPython.display import Audio, clear_output, display

from mousai.config import Profile
from mousai.files import runs_dir
from mousai.inference.audio import Stereo, write_audio
from mousai.inference.pipeline import Mousai
from mousai.report.drawings import draw_log_mels

PROMPT = "Metal, 1883, Ryan's Mammoth Collection, 2 of 4"
LONGEST = 120.0  # seconds; the upper end of the slider


@dataclass(frozen=True)
class Settings:
    """What to generate: the values of the panel's fields."""

    prompt: str
    seconds: float
    seed: int
    guidance: float
    tcld_steps: int
    dmae_steps: int


def default_settings(profile: Profile) -> Settings:
    """The profile's settings, and the length that stage 2 generates at a time, rounded to a tenth of a second."""
    own = profile.sampling
    seconds = profile.tcld.crop / profile.sample_rate
    return Settings(PROMPT, round(seconds, 1), profile.seed, own.guidance, own.tcld_steps, own.dmae_steps)


def generate_clip(model: Mousai, settings: Settings, progress: bool = False) -> Stereo:
    """The sound [2, time], 48 kHz; the same settings give the same sound. Errors as in `Mousai.generate`."""
    sampling = model.sampling(
        guidance=settings.guidance, tcld_steps=settings.tcld_steps, dmae_steps=settings.dmae_steps
    )
    return model.generate(settings.prompt, settings.seconds, settings.seed, sampling, progress=progress)[0].cpu()


def player(w: Stereo, sample_rate: int = 48_000) -> Audio:
    """A player of the whole sound, not normalised; Ogg Vorbis in runs/play, so that the notebook stays small."""
    path = runs_dir() / "play" / "last.ogg"
    write_audio(w, path, sample_rate)
    return Audio(filename=str(path), embed=True)


def save(w: Stereo, name: str, sample_rate: int = 48_000) -> str:
    """Write w to runs/play/<name>, as WAV, FLAC or OGG by its ending; return a line that says so.

    Raises ValueError for another ending, or for a name that is not a plain file name.
    """
    if Path(name).name != name:
        raise ValueError(
            f"{name!r} is not a file name: what is saved lies in {runs_dir() / 'play'}, give it a plain name"
        )
    path = runs_dir() / "play" / name
    clipped = write_audio(w, path, sample_rate)
    return f"{path}: {w.shape[-1] / sample_rate:.1f} s, {clipped} samples were beyond 1 and are clipped"


class Panel:
    """The widgets; `box` is what a cell shows. It needs a reader in Jupyter, because a batch run shows no widgets."""

    def __init__(self, model: Mousai):
        self.model = model
        self.rate = model.profile.sample_rate
        self.w = None
        start = default_settings(model.profile)
        wide = widgets.Layout(width="95%")
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
        self.message = widgets.Label()
        self.output = widgets.Output()
        self.box = widgets.VBox([*self.fields.values(), widgets.HBox(row), self.message, self.output])

    def button(self, name: str, action: Callable[[], str]) -> widgets.Button:
        """A button, disabled while its action runs. `message` then shows what the action returns, or its error."""
        button = widgets.Button(description=name)

        def pressed(_: widgets.Button) -> None:
            button.disabled = True
            with self.output:
                try:
                    self.message.value = action()
                except (ValueError, OSError) as error:
                    self.message.value = str(error)
                finally:
                    button.disabled = False

        button.on_click(pressed)
        return button

    def generate(self) -> str:
        """Generate with progress bars, then show player and spectrogram in place of the last ones; return a line."""
        settings = Settings(**{name: field.value for name, field in self.fields.items()})
        self.w = generate_clip(self.model, settings, progress=True)
        clear_output()
        fig = draw_log_mels({settings.prompt: self.w}, self.rate)
        display(player(self.w, self.rate), fig)
        plt.close(fig)
        return f"{self.w.shape[-1] / self.rate:.1f} s from seed {settings.seed}"

    def save(self) -> str:
        """Save the last sound; return a line. Raises ValueError where nothing was generated yet."""
        if self.w is None:
            raise ValueError("nothing to save yet: press Generate first")
        return save(self.w, self.name.value, self.rate)
