"""What was done to what, and what came of it."""

from collections.abc import Callable

from tests.torture.trials import POWER, Outcome, Trial


def print_report(outcomes: list[Outcome], seconds: float) -> None:
    """Print tables by command and by fault, a line of sums, and what was lost."""
    _table("command", outcomes, lambda trial: trial.call.case)
    _table("fault", outcomes, lambda trial: "power cut" if trial.how in POWER else f"{trial.how}, {trial.view}")
    _table("call, from outside", [o for o in outcomes if o.trial.view == "outside"], lambda trial: trial.call.name)
    struck = sum(bool(outcome.struck) for outcome in outcomes)
    lost = [outcome for outcome in outcomes if outcome.problems]
    print(
        f"\n{len(outcomes)} trials in {seconds:.0f} s: {struck} struck, "
        f"{struck - sum(bool(o.struck) for o in lost)} survived bit for bit, {len(lost)} lost."
    )
    for outcome in lost[:40]:
        print(f"\n{outcome.trial}\n  struck: {outcome.struck[:300]}\n  " + "\n  ".join(outcome.problems[:6]))


def _table(title: str, outcomes: list[Outcome], group: Callable[[Trial], str]) -> None:
    rows: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        rows.setdefault(group(outcome.trial), []).append(outcome)
    if not rows:
        return
    print(f"\n{title:<30} {'trials':>7} {'struck':>7} {'lost':>5}")
    for name, found in sorted(rows.items()):
        lost = sum(bool(outcome.problems) for outcome in found)
        print(f"{name:<30} {len(found):>7} {sum(bool(o.struck) for o in found):>7} {lost:>5}")
