"""The panel of notebook 11: what is in its fields is what is generated, shown and saved."""

import pytest
import soundfile
import torch
from torch.testing import assert_close

from mousai.report import panel
from mousai.report.panel import Panel, Settings
from mousai.small.profiles import CPU, SMOKE

RATE = 48_000


class Stand(panel.Mousai):
    """In place of the whole stack: keeps what it was asked for; a louder sound for a larger seed."""

    def __init__(self):
        self.profile = SMOKE
        self.asked = []

    def generate(self, prompts, seconds, seed, sampling, progress):
        if not prompts:
            raise ValueError("a prompt is empty: say what to play")
        assert progress
        steps = (sampling.tcld_steps, sampling.dmae_steps)
        self.asked.append(Settings(prompts, seconds, seed, sampling.guidance.scale, *steps))
        return torch.full((1, 2, round(seconds * RATE)), 0.1 * (1 + seed))


@pytest.fixture
def own(home, monkeypatch) -> Panel:
    monkeypatch.setattr(panel, "display", lambda *things: None)
    return Panel(Stand())


def press(own: Panel, name: str) -> str:
    """What the panel says after a press."""
    [button] = [child for child in own.box.children[-3].children if child.description == name]
    button.click()
    assert not button.disabled
    return own.message.value


def test_the_panel_begins_with_the_profiles_own_settings():
    assert panel.default_settings(CPU) == Settings(panel.PROMPT, 10.9, 0, 3.0, 20, 8)  # 2^19 / 48,000 = 10.92 s


def test_what_stands_in_the_fields_is_what_is_generated(own):
    settings = Settings("Pop, 1 of 4", 1.5, 7, 2.5, 9, 4)
    for name, value in vars(settings).items():
        own.fields[name].value = value
    assert press(own, "Generate") == "1.5 s from seed 7"
    assert own.model.asked == [settings]


def test_save_keeps_the_last_sound_by_its_name(own, home):
    own.fields["seed"].value = 2
    press(own, "Generate")
    own.name.value = "third.flac"
    assert "third.flac: 2.7 s, 0 samples were beyond 1" in press(own, "Save")
    w, rate = soundfile.read(home / "play" / "third.flac", dtype="float32")
    assert rate == RATE
    assert_close(torch.from_numpy(w.T), own.w, rtol=0, atol=2**-23)


def test_before_a_sound_there_is_nothing_to_save(own, home):
    assert "press Generate first" in press(own, "Save")
    assert not (home / "play").exists()


def test_what_is_refused_is_said_in_a_line_and_the_last_sound_stays(own):
    press(own, "Generate")
    before = own.w
    own.fields["prompt"].value = ""
    assert press(own, "Generate") == "a prompt is empty: say what to play"
    assert own.w is before


@pytest.mark.parametrize("name", ["../mine.flac", "there/mine.flac", "/tmp/mine.flac", "mine.mp3", "mine", "", ".."])
def test_only_a_plain_name_of_a_sound_file_is_saved(home, name):
    with pytest.raises(ValueError, match=r"is not a file name|cannot write"):
        panel.save(torch.zeros(2, 100), name)
    assert not [path for path in home.rglob("*") if path.is_file()]


def test_a_player_holds_the_whole_sound_as_loud_as_it_is(home):
    w = 0.01 * torch.sin(torch.arange(3 * RATE) / 10).repeat(2, 1)
    assert panel.player(w).data
    heard, _ = soundfile.read(home / "play" / "last.ogg")
    assert len(heard) == 3 * RATE and abs(heard).max() == pytest.approx(0.01, rel=0.1)
