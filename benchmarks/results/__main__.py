"""The command line: see `python -m benchmarks.results --help`."""

import argparse
import sys
from pathlib import Path

from benchmarks.results.collect import collect
from benchmarks.results.commands import script
from benchmarks.results.commits import ROOT
from benchmarks.results.driver import Driver, chosen_rates
from benchmarks.results.experiments import FILE, Experiment, load_experiments
from benchmarks.results.records import write_data
from engine.errors import TeslaError


def main(arguments: list[str] | None = None) -> int:
    """Run, collect or draw; the exit code."""
    options = _options(arguments)
    experiments = load_experiments(options.experiments)
    try:
        if options.command == "tables":
            from benchmarks.results.pages import rebuild

            for path in rebuild(options.root, experiments):
                print(f"rewritten: {path.relative_to(options.root)}")
            return 0
        if options.command == "gradient":
            from benchmarks.results.gradient_study import keep

            print(f"written: {keep(options.root, options.study)}")
            return 0
        experiment = _named(options.experiment, experiments)
        return _run(experiment, options) if options.command == "run" else _collect(experiment, options)
    except TeslaError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 2


def _run(experiment: Experiment, options: argparse.Namespace) -> int:
    folder = options.folder or Path(experiment.workspace)
    unknown = set(options.only) - {member.name for member in experiment.members}
    if unknown:
        names = ", ".join(member.name for member in experiment.members)
        raise SystemExit(f"Experiment {experiment.key} has no member {', '.join(sorted(unknown))}. It has: {names}.")
    if options.list:
        there = (folder / "tesla.toml").exists()
        print(*script(experiment, chosen_rates(experiment, folder) if there else {}, str(folder)), sep="\n")
        return 0
    return Driver(experiment, folder, options.only, options.workers, lambda line: print(line, flush=True)).run()


def _collect(experiment: Experiment, options: argparse.Namespace) -> int:
    folder = options.folder or Path(experiment.workspace)
    found = collect(experiment, folder, options.commit, options.machine)
    for words in found.wrong:
        print(f"left out: {words}", file=sys.stderr)
    if found.data.runs:
        file = write_data(options.root, found.data)
        finished = sum(run.finished for run in found.data.runs)
        print(f"{file}: {len(found.data.runs)} runs, {finished} finished, {len(found.missing)} not started")
    else:
        print(f"{folder} has no run of experiment {experiment.key}; nothing was written.")
    return 1 if found.wrong or not found.data.runs else 0


def _named(key: str, experiments: dict[str, Experiment]) -> Experiment:
    if key not in experiments:
        raise SystemExit(f"There is no experiment {key!r}. There are: {', '.join(experiments)}.")
    return experiments[key]


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.results", description="The measured results of the documentation."
    )
    parser.add_argument("--experiments", type=Path, default=FILE, metavar="FILE", help="default: experiments.toml")
    parser.add_argument("--root", type=Path, default=ROOT, metavar="FOLDER", help="of the documentation to rewrite")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run an experiment, or resume it")
    run.add_argument("experiment", metavar="EXPERIMENT")
    run.add_argument("--folder", type=Path, metavar="WORKSPACE", help="default: the experiment's name for it")
    run.add_argument("--only", nargs="+", default=[], metavar="MEMBER", help="run these members only")
    run.add_argument("--workers", type=int, default=2, metavar="N", help="runs at once, one thread each (default 2)")
    run.add_argument("--list", action="store_true", help="print the commands instead")
    kept = commands.add_parser("collect", help="keep what its runs measured in docs/data")
    kept.add_argument("experiment", metavar="EXPERIMENT")
    kept.add_argument("--folder", type=Path, metavar="WORKSPACE", help="default: the experiment's name for it")
    kept.add_argument("--commit", help="of the code that made the runs, where `run` did not record it")
    kept.add_argument("--machine", help="the machine, as text; default: the processor or GPU that each run recorded")
    study = commands.add_parser("gradient", help="keep the numbers of `tesla study gradient` in docs/data")
    study.add_argument("study", type=Path, metavar="STUDY.JSON")
    commands.add_parser("tables", help="rebuild every table and plot of the documentation from docs/data")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
