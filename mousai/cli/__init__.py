"""The command line, one function a command: `mousai reproduce | generate | encode | train | listen ...`.

    arguments    the kinds of arguments, and their checks
    offline      which profile may access the Hugging Face hub
    music        generate, encode, decode
    training     train, import-weights, fetch, bench, plan
    sets         data import, prepare, shards, latents
    reports      reproduce, report, verify, listen

A usage error is one line on stderr that names the input and the fix, with exit code 2, and nothing is written.
Arguments are checked before torch loads.
"""

import errno
import shlex
import signal
import sys

import typer
from typer.exceptions import TyperException

from mousai.cli.music import decode, encode, generate
from mousai.cli.reports import listen, report, reproduce, verify
from mousai.cli.sets import data
from mousai.cli.training import bench, fetch, import_weights, plan, train

USAGE = 2  # exit codes
INTERRUPTED = 130
HELP = "Moûsai: text to music in two diffusion stages."
FRONT = f"""{HELP}

mousai generate "Metal, 2 of 4" --seconds 10 --out metal.wav      a sound from a text
mousai generate "Pop" --continue metal.wav --seconds 20           a longer one; also --init-audio and --inpaint
mousai encode metal.wav                                           the codec: sound to latent; decode, and back
mousai reproduce                                                  all notebooks, then the report in reports/cpu
mousai data import ~/Music --out music                            music of your own, to train on
mousai train dmae                                                 stage 1; then stage 2: train tcld
mousai --help                                                     every command; mousai generate --help: its options"""

app = typer.Typer(rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False, help=HELP)
for command in (reproduce, generate, encode, decode, train, listen, import_weights, fetch, bench, plan, report, verify):
    app.command()(command)
app.add_typer(data, name="data")


def of_the_system(error: OSError) -> str:
    """One line for an error of the operating system: which file, what happened, and the mend where one is known."""
    if error.errno is None or error.strerror is None:
        return str(error)
    mends = {
        errno.ENOSPC: "free some space and run the same again: what is finished is kept",
        errno.EDQUOT: "free some space and run the same again: what is finished is kept",
        errno.EFBIG: "this file system cannot hold a file this large: choose another place",
        errno.EROFS: "choose a writable place (MOUSAI_HOME moves runs/)",
        errno.EACCES: "choose a writable place (MOUSAI_HOME moves runs/)",
    }
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror}" + (f": {mends[error.errno]}" if error.errno in mends else "")


def main(arguments: list[str] | None = None) -> None:
    """Run one command and exit. An expected error is one line and exit code 2, an interruption one line and 130."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):  # because file names may hold any bytes
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # like Ctrl-C: work is saved, kernels are stopped
    code, problem = run(arguments)
    if problem:
        print(f"mousai: {' '.join(problem.replace('Value error, ', '').split())}", file=sys.stderr)
    sys.exit(code)


def run(arguments: list[str]) -> tuple[int, str]:
    """(exit code of a command, what went wrong, or "")."""
    if not arguments:
        print(FRONT)
        return 0, ""
    try:
        code = app(arguments, prog_name="mousai", standalone_mode=False) or 0
    except TyperException as error:
        message = error.format_message()
        return USAGE, message if "Invalid value" in message else f"{message.rstrip('.')}: see mousai --help"
    except OSError as error:
        return USAGE, of_the_system(error)
    except (ValueError, ImportError) as error:
        return USAGE, str(error)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    return code, interruption(arguments) if code == INTERRUPTED else ""  # typer turns Ctrl-C into this code, silently


def interruption(arguments: list[str]) -> str:
    """The line to print after Ctrl-C; for a training it holds the command that continues it."""
    if arguments[:1] != ["train"] or "in-domain" in arguments:
        return "interrupted"
    again = arguments if "--resume" in arguments else [*arguments, "--resume"]
    return f"interrupted: what was trained is kept, go on with `mousai {shlex.join(again)}`"
