"""The type checker that conftest's import hook puts on every function of mousai."""

import typer
from beartype import BeartypeConf, BeartypeHintOverrides, beartype

check = beartype(
    conf=BeartypeConf(
        is_pep484_tower=True,  # an int is good enough where a float is asked for
        hint_overrides=BeartypeHintOverrides({typer.Context: object}),  # what typer hands over is that class's base
    )
)
