"""Which profile may ask a hub for anything."""

import os


def offline(profile: str) -> None:
    """Only a100 may ask a hub for anything; the others have all they need, and a rehearsal is kept apart."""
    if profile != "a100":
        os.environ["HF_HUB_OFFLINE"] = "1"
    if profile == "a100-rehearsal":
        from mousai.reproduce.preflight import apart

        apart()
