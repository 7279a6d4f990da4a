"""The notebooks in reading order, the results each one depends on, and what each one needs before it begins."""

DATA = "00_text2music"  # about the music that models are trained and measured on

# A notebook runs again when the result of one of these has changed. Changed data or weights make all of them run again.
UPSTREAM: dict[str, tuple[str, ...]] = {
    DATA: (),
    "01_v_diffusion": (),
    "02_ddim": (),
    "03_unet_1d": (),
    "04_dmae_training": (DATA,),
    "05_tcld_training": (DATA,),
    "06_clap_score": (DATA,),
    "07_genre_confusion": (DATA,),
    "08_long_term_amplitude": (DATA,),
    "09_time_and_memory": (DATA,),
    "10_paper_report": (
        DATA,
        "04_dmae_training",
        "06_clap_score",
        "07_genre_confusion",
        "08_long_term_amplitude",
        "09_time_and_memory",
    ),
    "11_play": (),
    "12_small_models": (DATA,),
}

# What each notebook needs, as `standalone.check` tests it. "dmae", "tcld": weights. "text": the text encoder. "data": a
# data set. "test": a test split. "genres": two genres to compare. "segments": test pieces with equally many segments.
MUSIC = ("data", "test")
BOTH = ("dmae", "tcld", "text", *MUSIC)
NEEDS: dict[str, tuple[str, ...]] = {
    DATA: (*MUSIC, "genres"),
    "01_v_diffusion": MUSIC,
    "02_ddim": ("data",),
    "04_dmae_training": ("dmae", *MUSIC),
    "05_tcld_training": (*BOTH, "genres"),
    "06_clap_score": BOTH,
    "07_genre_confusion": (*BOTH, "genres"),
    "08_long_term_amplitude": (*BOTH, "segments"),
    "09_time_and_memory": BOTH,
    "10_paper_report": ("data",),
    "11_play": ("dmae", "tcld", "text", "data", "genres"),
    "12_small_models": MUSIC,
}


def select(names: list[str], only: str = "", start: str = "") -> list[str]:
    """The chosen notebooks, in the order of `names`: those of `only`, such as "06,07", or all, from `start`, "04", on.

    Raises ValueError for a number that is no notebook, or where none is left.
    """
    numbers = {name.split("_")[0]: name for name in names}
    wanted = [part.strip() for part in only.split(",")] if only else list(numbers)
    for number in [*wanted, *([start] if start else [])]:
        if number not in numbers:
            raise ValueError(f"unknown notebook {number!r}: choose from {', '.join(numbers)}")
    chosen = [name for number, name in numbers.items() if number in wanted and number >= start]
    if not chosen:
        raise ValueError(f"--only {only} --from {start}: no notebook is left: choose an earlier start")
    return chosen
