"""The four genres: pools of instruments, tempos and one-bar patterns that the arranger draws from. All of it is ours.

The pools of two genres overlap in part, so that instruments alone do not give a genre away: with fixed instruments a
linear classifier on MFCCs was right 96 % of the time, which made the genre too easy to classify. Instruments are
General MIDI programs from 0. Patterns have 16 places, one for each sixteenth of a bar of four beats; "." is a rest.
"""

from dataclasses import dataclass

KICK, SNARE, RIM, CLAP, HAT, OPEN_HAT, RIDE, CRASH, TAMBOURINE, SHAKER, TOM = 36, 38, 37, 39, 42, 46, 51, 49, 54, 70, 45


@dataclass(frozen=True)
class Style:
    """One genre. Drum patterns: x hit, X accent, o soft. Bass: r root, 5 fifth, 8 octave. Chords: x struck."""

    tempo: tuple[float, float]  # beats a minute
    leads: tuple[int, ...]
    chords: tuple[int, ...]
    pads: tuple[int, ...]
    arps: tuple[int, ...]
    basses: tuple[int, ...]
    kits: tuple[int, ...]
    kicks: tuple[str, ...]
    snares: tuple[str, ...]
    hats: tuple[str, ...]
    snare_notes: tuple[int, ...]
    hat_notes: tuple[int, ...]
    bass_lines: tuple[str, ...]
    chord_hits: tuple[str, ...]
    swing: tuple[float, float]  # range of where the second sixteenth of a pair falls in it: 0.5 is straight
    power_chords: float  # probability that chords are roots, fifths and octaves, played twice, left and right
    layer_chances: dict[str, float]  # probability that a piece has the layer
    volumes: dict[str, tuple[float, float]]  # range of each layer's volume, 0 to 1
    melody: tuple[float, float]  # range of the share of the tune's off-beat notes that the lead plays


ELECTRONIC = Style(
    tempo=(112, 140),
    leads=(80, 81, 81, 82, 84, 87, 62, 63, 11, 54, 4),
    chords=(81, 50, 51, 62, 63, 90, 4, 5, 2, 16),
    pads=(88, 89, 90, 91, 92, 94, 95, 50, 51, 54),
    arps=(80, 81, 87, 5, 12, 38, 10, 98, 46),
    basses=(38, 38, 39, 39, 87, 81, 33),
    kits=(24, 25, 24, 25, 16, 0),
    kicks=("X...X...X...X...", "X...X...X...X.x.", "X...X...X..xX...", "X..x..X...x.X...", "X.....x.X.....x."),
    snares=("....X.......X...", "....x.......x..o", "............X...", "................"),
    hats=("..X...X...X...X.", "x.X.x.X.x.X.x.X.", "xxXxxxXxxxXxxxXx", "..X...Xo..X...Xo"),
    snare_notes=(CLAP, SNARE, CLAP, 40),
    hat_notes=(HAT, OPEN_HAT, SHAKER, TAMBOURINE),
    bass_lines=("..r...r...r...r.", "rrr8rrr8rrr8rrr8", "..r8..r8..r8..r8", "r..r..r.r..r..8.", "r...r...r...5.8."),
    chord_hits=("..x...x...x...x.", "x..x..x...x..x..", "x..x..x.x..x..x.", "x...............", "...x..x....x..x."),
    swing=(0.5, 0.54),
    power_chords=0.0,
    layer_chances={"drums": 1.0, "bass": 0.97, "chords": 0.7, "pad": 0.7, "arp": 0.75, "lead": 0.85},
    volumes={
        "drums": (0.8, 1.0),
        "bass": (0.5, 0.75),
        "chords": (0.45, 0.75),
        "pad": (0.35, 0.7),
        "arp": (0.35, 0.7),
        "lead": (0.55, 0.9),
    },
    melody=(0.5, 1.0),
)

HIP_HOP = Style(
    tempo=(72, 98),
    leads=(4, 5, 11, 73, 78, 59, 56, 80, 24, 26, 66, 81),
    chords=(4, 5, 0, 2, 26, 24, 27, 11, 16, 17),
    pads=(48, 49, 50, 52, 89, 91, 95, 44),
    arps=(0, 11, 24, 46, 108, 12, 45, 10),
    basses=(38, 39, 32, 33, 35, 36, 43, 87),
    kits=(25, 25, 8, 0, 32, 24),
    kicks=("X..x......X.....", "X.......x.X.....", "X.x.......Xx....", "X..x..x...x.....", "X......x..x..x.."),
    snares=("....X.......X...", "....X.......X..o", "....X..o.o..X...", "........X......."),
    hats=("x.x.x.x.x.x.x.x.", "X.x.X.xxX.x.X.x.", "x.xxx.x.x.xxxxx.", "x...x...x...x...", "x.x.xxx.x.x.x.xx"),
    snare_notes=(SNARE, 40, CLAP, RIM),
    hat_notes=(HAT, HAT, HAT, SHAKER),
    bass_lines=("r.........r.....", "r..r......r.....", "r......8..r..5..", "r.....r...5.....", "r..r..r.......8."),
    chord_hits=("x...............", "x.......x.......", "..x.......x.....", "x..x............", "x.....x....x...."),
    swing=(0.5, 0.64),
    power_chords=0.0,
    layer_chances={"drums": 1.0, "bass": 0.97, "chords": 0.85, "pad": 0.45, "arp": 0.35, "lead": 0.8},
    volumes={
        "drums": (0.8, 1.0),
        "bass": (0.55, 0.8),
        "chords": (0.45, 0.8),
        "pad": (0.25, 0.5),
        "arp": (0.25, 0.5),
        "lead": (0.45, 0.8),
    },
    melody=(0.15, 0.7),
)

METAL = Style(
    tempo=(124, 184),
    leads=(30, 30, 29, 29, 84, 81, 31, 48, 19),
    chords=(30, 30, 30, 29, 29, 84),
    pads=(48, 52, 50, 19, 18, 91, 61),
    arps=(28, 27, 25, 29, 30),
    basses=(34, 34, 33, 36, 39),
    kits=(16, 16, 0, 8, 16),
    kicks=("X.x.X.x.X.x.X.x.", "XxxxXxxxXxxxXxxx", "X.xxX.xxX.xxX.xx", "X..xx.x.X..xx.x.", "X.....x.X.x....."),
    snares=("....X.......X...", "..x...x...x...x.", "........X.......", "....X..o....X.oo"),
    hats=("X...x...X...x...", "X.x.X.x.X.x.X.x.", "X.......X.......", "x.x.x.x.x.x.x.x."),
    snare_notes=(SNARE, 40),
    hat_notes=(HAT, RIDE, CRASH, OPEN_HAT),
    bass_lines=(
        "r.r.r.r.r.r.r.r.",
        "rrrrrrrrrrrrrrrr",
        "r.rrr.rrr.rrr.rr",
        "r..rr.r.r..rr.8.",
        "r.......5.......",
        "r...r...r...r.5.",
    ),
    chord_hits=(
        "x.xxx.xxx.xxx.xx",
        "x.x.x.x.x.x.x.x.",
        "x..xx.x.x..xx.x.",
        "x.......x.......",
        "x...............",
        "xxx.xxx.xxx.x.x.",
    ),
    swing=(0.5, 0.5),
    power_chords=1.0,
    layer_chances={"drums": 1.0, "bass": 0.95, "chords": 1.0, "pad": 0.3, "arp": 0.3, "lead": 0.75},
    volumes={
        "drums": (0.7, 1.0),
        "bass": (0.5, 0.75),
        "chords": (0.6, 0.95),
        "pad": (0.3, 0.6),
        "arp": (0.3, 0.6),
        "lead": (0.55, 0.9),
    },
    melody=(0.4, 1.0),
)

POP = Style(
    tempo=(92, 128),
    leads=(52, 53, 54, 65, 66, 73, 40, 80, 22, 56, 4, 0, 26, 29),
    chords=(0, 1, 25, 25, 24, 27, 4, 5, 2, 16, 29),
    pads=(48, 49, 50, 51, 52, 89, 90, 61),
    arps=(25, 24, 27, 0, 46, 11, 45, 10, 81),
    basses=(33, 33, 34, 32, 35, 38, 36),
    kits=(0, 8, 0, 8, 16, 24, 32, 40),
    kicks=("X.......X.......", "X.....x.X.......", "X.......X.x.....", "X..x....X..x....", "X...X...X...X..."),
    snares=("....X.......X...", "....X.......X..o", "....x..o....x...", "........x......."),
    hats=("x.x.x.x.x.x.x.x.", "X.x.X.x.X.x.X.x.", "x...x...x...x...", "xxxxxxxxxxxxxxxx", "..x...x...x...x."),
    snare_notes=(SNARE, 40, RIM, CLAP),
    hat_notes=(HAT, HAT, TAMBOURINE, RIDE, SHAKER),
    bass_lines=("r.......r.......", "r.....r.r.....5.", "r.r.r.r.r.r.r.r.", "r..r..5.r..r..5.", "r...5...r...5..."),
    chord_hits=(
        "x...x...x...x...",
        "x.......x.......",
        "x..x..x...x.x...",
        "x.x.x.x.x.x.x.x.",
        "x...............",
        "x...x.x..xx.x.x.",
    ),
    swing=(0.5, 0.56),
    power_chords=0.08,
    layer_chances={"drums": 0.97, "bass": 0.97, "chords": 0.95, "pad": 0.65, "arp": 0.45, "lead": 0.95},
    volumes={
        "drums": (0.55, 0.85),
        "bass": (0.45, 0.7),
        "chords": (0.45, 0.8),
        "pad": (0.3, 0.6),
        "arp": (0.3, 0.6),
        "lead": (0.6, 0.95),
    },
    melody=(0.5, 1.0),
)

STYLES = {"Electronic": ELECTRONIC, "Hip Hop": HIP_HOP, "Metal": METAL, "Pop": POP}
