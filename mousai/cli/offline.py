"""Which profile may access the Hugging Face hub."""

import os


def offline(profile: str) -> None:
    """Keep this process off the Hugging Face hub, unless the profile is a100; keep a100-rehearsal in its own folder."""
    if profile != "a100":
        os.environ["HF_HUB_OFFLINE"] = "1"
    if profile == "a100-rehearsal":
        from mousai.reproduce.preflight import apart

        apart()
