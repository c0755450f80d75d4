"""The command line: see `python -m benchmarks.results --help`."""

import argparse
import sys
from functools import partial
from pathlib import Path

from benchmarks.results.driver import Driver, commands
from benchmarks.results.experiments import FILE, Experiment, load_experiments
from benchmarks.results.pages import rebuild
from benchmarks.results.records import ROOT, Record, collect, read_records, usable, write_records
from engine.errors import TeslaError


def main(arguments: list[str] | None = None) -> int:
    """Run, collect or draw; the exit code."""
    options = _options(arguments)
    experiments = load_experiments(options.experiments)
    try:
        if options.command == "tables":
            for path in rebuild(options.root, experiments):
                print(f"rewritten: {path.relative_to(options.root)}")
            return 0
        if options.experiment not in experiments:
            raise SystemExit(f"There is no experiment {options.experiment!r}. There are: {', '.join(experiments)}.")
        experiment = experiments[options.experiment]
        return _run(experiment, options) if options.command == "run" else _collect(experiment, options)
    except TeslaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2


def _run(experiment: Experiment, options: argparse.Namespace) -> int:
    folder = options.folder or Path(experiment.workspace)
    names = [member.name for member in experiment.members]
    if unknown := sorted(set(options.only) - set(names)):
        raise SystemExit(f"Experiment {experiment.key} has no member {', '.join(unknown)}. It has: {', '.join(names)}.")
    if options.list:
        print(*commands(experiment, folder, options.only, _kept(options)), sep="\n")
        return 0
    say = partial(print, flush=True)
    return Driver(experiment, folder, options.only, options.workers, say, _kept(options)).run()


def _kept(options: argparse.Namespace) -> list[Record]:
    return read_records(options.root, options.experiment) if options.kept else []


def _collect(experiment: Experiment, options: argparse.Namespace) -> int:
    folder = options.folder or Path(experiment.workspace)
    found = collect(experiment, folder, options.commit, options.machine, _kept(options))
    for words in found.wrong:
        print(f"left out: {words}", file=sys.stderr)
    if not found.records:
        print(f"{folder} has no run of experiment {experiment.key}; nothing was written.")
        return 1
    before = usable(experiment, read_records(options.root, experiment.key))
    if lost := sorted(before.keys() - {run.run for run in found.records if run.finished}):
        print(f"docs/data has finished runs that {folder} does not have: {', '.join(lost)}.", file=sys.stderr)
        print("Nothing was written. Add --kept to keep them, or delete their file to start again.", file=sys.stderr)
        return 1
    file = write_records(options.root, experiment.key, found.records)
    finished = sum(run.finished for run in found.records)
    print(f"{file}: {len(found.records)} runs, {finished} finished, {len(found.missing)} not started")
    return 1 if found.wrong else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description="The measured results of the documentation."
    )
    parser.add_argument("--experiments", type=Path, default=FILE, metavar="FILE", help="default: experiments.toml")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="of the documentation to rewrite")
    subparsers = parser.add_subparsers(dest="command", required=True)
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("experiment", metavar="EXPERIMENT")
    one.add_argument("--folder", type=Path, metavar="WORKSPACE", help="default: the experiment's name for it")
    one.add_argument("--kept", action="store_true", help="take runs that WORKSPACE does not have from docs/data")
    run = subparsers.add_parser("run", parents=[one], help="run an experiment, or resume it")
    run.add_argument("--only", nargs="+", default=[], metavar="MEMBER", help="run these members only")
    run.add_argument("--workers", type=int, default=2, metavar="N", help="runs at once, one thread each (default 2)")
    run.add_argument("--list", action="store_true", help="print the commands instead")
    kept = subparsers.add_parser("collect", parents=[one], help="keep what its runs measured in docs/data")
    kept.add_argument("--commit", help="of the code that made the runs, where `run` did not record it")
    kept.add_argument("--machine", help="the machine, as text; default: the processor or GPU that each run recorded")
    subparsers.add_parser("tables", help="rebuild every table and plot of the documentation from docs/data")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
