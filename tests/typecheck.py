"""The type checker that conftest's import hook puts on every function of mousai."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is good enough where a float is asked for
