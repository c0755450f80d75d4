"""The result of a run: the accuracy of its selected checkpoint between random real images and the whole dataset."""

from collections.abc import Mapping, Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text
from textual.widget import Widget

from engine.errors import counted, tesla
from engine.events import EvaluationDone
from engine.runs.judgement import outcome_words
from engine.settings.decoders import packed_words
from tesla_tui.live.context import Context
from tesla_tui.live.widgets.bars import bar
from tesla_tui.render.tables import gain_cell
from tesla_tui.render.words import accuracy_of, clean
from tesla_tui.watch.result import WHOLE, Fact, Measured, facts_of, gains, measured, own_name
from tesla_tui.watch.view import RunView

WIDE = 100
"""Columns from which what a run took has its own half."""
NAMES = 12
"""Columns of the names beside the bars, at least."""
GAIN = 6
"""Columns of the gain behind a bar."""
GAP = 2
"""Columns between the halves."""
MISSING = "not measured"
COLOURS = {"gained": "success", "worse": "error", "unimproved": "warning"}
"""Variables of the theme for what was gained."""


class ResultPanel(Widget):
    """Accuracies at the left, what the run took at the right; one below the other where it is narrow."""

    DEFAULT_CSS = "ResultPanel { height: 1fr; width: 1fr; }"

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._shown: Context | None = None
        self._whole: Mapping[str, EvaluationDone] = {}

    def show(self, context: Context, whole: Mapping[str, EvaluationDone]) -> None:
        """Take what the run's files say now. `whole`: test accuracies on all training images, by network."""
        self._shown, self._whole = context, whole
        self.refresh()

    def render(self) -> Group:
        """As much as fits."""
        context, whole = self._shown, self._whole
        feed = context.feed if context is not None else None
        if context is None or feed is None:
            return Group()
        width, height = self.content_size.width, self.content_size.height
        found, facts = measured(feed.view, whole), facts_of(feed)
        if not found:
            return Group(*self._unmeasured(context), self._one_line(facts, width))
        if width < WIDE:
            lines = self._accuracies(feed.view, found, width)
            fitting = lines if len(lines) < height else lines[1:]
            return Group(*fitting[: max(height - 1, 1)], self._one_line(facts, width))
        left = 9 * (width - GAP) // 20
        table = Table.grid(padding=(0, GAP, 0, 0))
        table.add_column(width=left)
        table.add_column(width=width - left - GAP)
        mine = [Text("this run", style="bold"), *self._rows(facts)]
        table.add_row(Group(*self._accuracies(feed.view, found, left)), Group(*mine))
        return Group(table, self._sentence(feed.view, found))

    def _one_line(self, facts: Sequence[Fact], width: int) -> Text:
        """Every fact in short, and shorter where it has to be."""
        words = " · ".join(fact.short for fact in facts if fact.short)
        if len(words) > width:
            words = " · ".join(fact.shortest for fact in facts if fact.shortest)
        text = Text(words, style=self.app.theme_variables["quiet"], no_wrap=True)
        text.truncate(width, overflow="ellipsis")
        return text

    def _rows(self, facts: Sequence[Fact]) -> list[Text]:
        quiet = self.app.theme_variables["quiet"]
        return [
            Text.assemble((f"{fact.name:<{NAMES}}", quiet), fact.words, no_wrap=True, overflow="ellipsis")
            for fact in facts
        ]

    def _unmeasured(self, context: Context) -> list[Text]:
        assert context.feed is not None
        typed = tesla("evaluate", context.workspace.folder, "--run", context.feed.run.name)
        words = f"not measured. Measure it with: {typed}"
        return [Text("test accuracy", style="bold"), Text(clean(words), style=self.app.theme_variables["quiet"])]

    def _accuracies(self, view: RunView, found: Sequence[Measured], width: int) -> list[Text]:
        """A heading and a bar for each subject; of several networks a line each."""
        return self._bars(view, found[0], width) if len(found) == 1 else self._networks(view, found)

    def _sentence(self, view: RunView, found: Sequence[Measured]) -> Text:
        said = gains(view, found)
        return Text(clean(outcome_words(said)), style=self.app.theme_variables[COLOURS.get(said[0].kind, "quiet")])

    def _bars(self, view: RunView, one: Measured, width: int) -> list[Text]:
        colours, own = self.app.theme_variables, own_name(view)
        head = Text("test accuracy", style="bold", no_wrap=True, overflow="ellipsis")
        words = f"  {clean(one.network)}, {counted(len(one.ours.accuracies), 'network')}"
        head.append(words + ", ± over networks" * (len(one.ours.accuracies) > 1), style=f"not bold {colours['quiet']}")
        (outcome,) = gains(view, [one])
        gain = Text(" ").append_text(gain_cell(outcome))
        gain.stylize(colours[COLOURS.get(outcome.kind, "quiet")])
        random = f"random{packed_words(one.ours.formation)}"
        names = max(NAMES, len(random) + 1)
        lines = [head]
        if own != WHOLE:
            words = f"{WHOLE:<{names}}"
            lines.append(self._bar(words, one.whole, "secondary", "no run with distill.method=whole", width))
        lines.append(self._bar(f"{own:<{names}}", one.ours, "primary", "", width, gain))
        lines.append(self._bar(f"{random:<{names}}", one.random, "chart-second", MISSING, width))
        return lines

    def _bar(
        self, name: str, result: EvaluationDone | None, colour: str, missing: str, width: int, gain: Text | None = None
    ) -> Text:
        """Name, accuracy, bar, and at the right of our own the gain; a result that is missing says how to get it."""
        colours, style = self.app.theme_variables, "bold" if gain is not None else ""
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(name, style=style or colours["quiet"])
        if result is None:
            return line.append(missing, style=colours["quiet"])
        accuracy = accuracy_of(result)
        line.append(f"{accuracy:<10} % ", style=style)
        room = max(4, width - line.cell_len - GAIN)
        return line.append_text(bar(result.mean, room, colours[colour], colours["chart-axis"])).append_text(
            gain or Text()
        )

    def _networks(self, view: RunView, found: Sequence[Measured]) -> list[Text]:
        colours = self.app.theme_variables
        shown = (*(["random"]), own_name(view), *([WHOLE] * any(one.whole is not None for one in found)))
        head = f"{'test %':<{NAMES}}" + "".join(f"{name:<{NAMES}}" for name in (*shown[:2], "gained", *shown[2:]))
        lines = [Text(head, style="bold", no_wrap=True, overflow="ellipsis")]
        for one, outcome in zip(found, gains(view, found), strict=True):
            line = Text(f"{clean(one.network)[: NAMES - 1]:<{NAMES}}", no_wrap=True, overflow="ellipsis")
            gain = gain_cell(outcome)
            gain.stylize(colours[COLOURS.get(outcome.kind, "quiet")])
            for cell in (_cell(one.random), _cell(one.ours, "bold"), gain, *([_cell(one.whole)] * len(shown[2:]))):
                line.append_text(cell).append(" " * max(1, NAMES - cell.cell_len))
            lines.append(line)
        return lines


def _cell(result: EvaluationDone | None, style: str = "") -> Text:
    return Text("" if result is None else accuracy_of(result), style=style)
