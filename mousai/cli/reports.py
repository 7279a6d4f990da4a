"""Commands about the report and the listening test: `mousai reproduce | report | verify | listen`."""

import os
from pathlib import Path
from typing import Annotated

import typer

from mousai.cli.arguments import FEW, MINUTES, SEED, Device, Folder, Profile, Weights, writable
from mousai.cli.offline import offline

REHEARSE = "A step of everything in a100's sizes, on this machine, nothing fetched; needs --profile a100."
PAPER_SIZE = "Also the paper's size, Riffusion's, and the bench, in notebook 09: about 25 minutes, 16 GB."


def use_weights(folder: Path | None) -> None:
    """Use the weights of this folder in this process and in the kernels that it starts."""
    if folder is not None:
        os.environ["MOUSAI_WEIGHTS"] = str(folder.resolve())


def usual_folder(profile: str) -> Path:
    """The default report folder of this profile with the data and the weights in use."""
    from mousai.data.dataset import workspace
    from mousai.report.standalone import report_folder
    from mousai.small.profiles import get_profile

    return report_folder(workspace(get_profile(profile), os.environ))


def reproduce(
    profile: Profile = "cpu",
    only: Annotated[str, typer.Option(metavar="06,07", help="Only these notebooks.")] = "",
    start: Annotated[str, typer.Option("--from", metavar="04", help="This notebook and those after it.")] = "",
    force: Annotated[bool, typer.Option("--force", help="Also run notebooks whose results are still valid.")] = False,
    out: Folder = None,
    weights: Weights = None,
    device: Device = "",
    paper_size: Annotated[bool, typer.Option("--paper-size", help=PAPER_SIZE)] = False,
    rehearse: Annotated[bool, typer.Option("--rehearse", help=REHEARSE)] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would run.")] = False,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure, run whatever does not depend on it.")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(parser=MINUTES, metavar="MINUTES", help="Stop a notebook that takes longer.")
    ] = None,
) -> None:
    """Run the notebooks, then draw the report. It goes to reports/PROFILE."""
    from mousai.report.notebooks import UPSTREAM, select

    select(list(UPSTREAM), only, start)
    if rehearse and profile != "a100":
        raise typer.BadParameter(f"'--rehearse' is for a100 only ({profile} can simply be run): add --profile a100")
    profile = "a100-rehearsal" if rehearse else profile
    use_weights(weights)
    from mousai.reproduce.run import Request
    from mousai.reproduce.run import reproduce as run

    request = Request(profile, only, start, force, out or "", device, paper_size, dry_run, keep_going, timeout)
    raise typer.Exit(run(request))


def report(profile: Profile = "cpu", out: Folder = None) -> None:
    """Draw the report again from its results, in seconds.

    For reports/cpu also docs/reproduction.md and the weights' page.
    """
    from mousai.report.build import build, front_page
    from mousai.report.model_cards import write_cards
    from mousai.report.results import Results
    from mousai.report.standalone import ROOT
    from mousai.small.profiles import get_profile
    from mousai.small.stages import weights_path

    page = build(out or usual_folder(profile), profile)
    print(page)
    if page.parent == ROOT / "reports" / "cpu":
        front_page(page.parent, profile, ROOT / "docs" / "reproduction.md")
        write_cards(Results.read(page.parent, profile), weights_path(get_profile(profile), "dmae").parent)


def verify(
    profile: Profile = "cpu",
    out: Folder = None,
    redraw_only: Annotated[bool, typer.Option("--redraw-only", help="Run no notebook again.")] = False,
) -> None:
    """Compare a report with its results and a second run. Hashes too; exit code 1 where something differs."""
    offline(profile)
    from mousai.reproduce.verify import CHEAP
    from mousai.reproduce.verify import verify as run

    differs = run(out or usual_folder(profile), profile, () if redraw_only else CHEAP)
    print("\n".join(differs) if differs else "nothing differs")
    raise typer.Exit(1 if differs else 0)


def listen(
    files: Annotated[
        list[Path] | None, typer.Argument(exists=True, dir_okay=False, metavar="FILE", help="Answers to collect.")
    ] = None,
    collect: Annotated[
        bool, typer.Option("--collect", help="Turn the FILES that people sent into rows of the report.")
    ] = False,
    profile: Profile = "cpu",
    out: Annotated[
        Path | None,
        typer.Option(parser=writable, metavar="DIR", help="Where page and key go; by default runs/listening/PROFILE."),
    ] = None,
    per_genre: Annotated[int, typer.Option(parser=FEW, metavar="N", help="Clips of each model and genre.")] = 3,
    seed: Annotated[int, typer.Option(parser=SEED, metavar="N", help="Which clips are drawn.")] = 0,
    report: Annotated[
        Path | None, typer.Option(parser=writable, metavar="DIR", help="Where the rows go; by default reports/PROFILE.")
    ] = None,
    weights: Weights = None,
    device: Device = "",
) -> None:
    """Write a blind listening test as one HTML page. With --collect, check and count the answers."""
    if bool(files) != collect:
        mend = "give the files people sent" if collect else "add --collect to count answers, or leave the files out"
        raise typer.BadParameter(f"{'no FILE' if collect else 'FILE without --collect'}: {mend}")
    offline(profile)
    use_weights(weights)
    from mousai.files import runs_dir
    from mousai.listening import answers as people
    from mousai.small.profiles import get_profile

    folder = out or runs_dir() / "listening" / profile
    if files:
        print(people.collect(files, folder, report))
    else:
        print(people.hold(get_profile(profile), folder, per_genre, seed, device))
