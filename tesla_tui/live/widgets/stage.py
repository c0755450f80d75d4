"""Where a run is: its stages, how far the current one is, how long it will take."""

from rich.text import Text
from textual.widget import Widget

from engine.settings import method_traits
from tesla_tui.live.context import Context
from tesla_tui.live.widgets.bars import bar
from tesla_tui.render.eta import Clock, is_compiling
from tesla_tui.render.words import clean, duration
from tesla_tui.watch.view import RunView

STAGES = ("teachers", "distillation", "evaluation")


def stages_of(view: RunView) -> tuple[str, ...]:
    """The stages a run has: not every method has teachers, and a selection has nothing to iterate."""
    method = view.settings.get("distill.method", "tesla")
    if view.settings.get("labels.kind") == "given":  # an imported set
        return ("evaluation",)
    without = set() if method_traits(str(method)).teachers else {"teachers"}
    if view.settings.get("distill.iterations") == 0:
        without.add("distillation")
    return tuple(stage for stage in STAGES if stage not in without)


class StageStrip(Widget):
    """Two lines: the stages in a row; a bar with share, speed and time left."""

    DEFAULT_CSS = "StageStrip { height: 2; padding: 0 1; text-wrap: nowrap; text-overflow: ellipsis; }"

    def __init__(self) -> None:
        super().__init__()
        self._stages = Text()
        self._progress = Text()
        self._clocks: dict[str, Clock] = {}

    def show(self, context: Context) -> None:
        """Take what the run's files say now."""
        self._stages = self._row(context, "  ›  ")
        if self._stages.cell_len > self.content_size.width:
            self._stages = self._row(context, " › ")
        self._progress = self._second(context)
        self.refresh()

    def render(self) -> Text:
        """Both lines."""
        return Text("\n").join([self._stages, self._progress])

    def _row(self, context: Context, between: str) -> Text:
        colours = self.app.theme_variables
        text = Text(no_wrap=True, overflow="ellipsis")
        if context.feed is None:
            return text
        view, state = context.feed.view, context.feed.state
        now = "distillation" if view.distilling else view.stage
        done = self._done(context)
        for number, stage in enumerate(stages_of(view)):
            if number:
                text.append(between, style=colours["chart-axis"])
            if stage == now and context.feed.live:
                sign, style = "●", f"bold {colours['primary']}"
            elif stage in done:
                sign, style = "✓", colours["success"]
            else:
                sign, style = "○", colours["quiet"]
            text.append(f"{sign} {stage}", style=style)
            text.append(self._count(context, stage), style=colours["quiet"])
        if view.distilling and view.stage == "evaluation" and context.feed.live:
            text.append("  evaluating", style=colours["accent"])
        if view.skipped:
            text.append(f"   ! {view.skipped} skipped", style=colours["warning"])
        if state == "interrupted":
            text.append("   driver died", style=f"bold {colours['error']}")
        return text

    def _done(self, context: Context) -> set[str]:
        assert context.feed is not None
        view = context.feed.view
        found = set()
        if view.iteration or view.distilling:
            found.add("teachers")
        if view.iterations and view.iteration >= view.iterations:
            found.add("distillation")
        if view.ending == "finished":
            found.update(STAGES if view.tests() else ())  # an imported set ends so, and is measured later
        return found

    def _count(self, context: Context, stage: str) -> str:
        assert context.feed is not None
        view = context.feed.view
        if stage == "teachers" and view.plan is not None:
            there = view.plan.count - view.plan.missing + len(view.published)
            return f" {min(there, view.plan.count)}/{view.plan.count}"
        if stage == "distillation" and view.iterations:
            return f" {view.iteration}/{view.iterations}"
        return ""

    def _second(self, context: Context) -> Text:
        colours = self.app.theme_variables
        text = Text(no_wrap=True, overflow="ellipsis")
        feed = context.feed
        if context.loading:
            return text.append("reading the journal …", style=colours["quiet"])
        if context.preparing:
            return text.append(f"{context.preparing} …", style=colours["accent"])
        if feed is None:
            key = f" {context.empty.press}" * (not context.read_only)
            return text.append(context.empty.text + key, style=f"bold {colours['accent']}")
        view, beat = feed.view, feed.heartbeat
        share, words = 0.0, []
        if feed.live and beat is not None and beat.total:
            if beat.stage == "distillation" or view.distilling:
                done = max(beat.done if beat.stage == "distillation" else 0.0, float(view.iteration))
                share = done / max(view.iterations, 1)
                if view.pace:
                    words.append(
                        f"{1 / view.pace:.3g} iterations/s" if view.pace < 1 else f"{view.pace:.1f} s/iteration"
                    )
                left = view.eta
            else:
                share = beat.done / beat.total
                left = self._clocks.setdefault(beat.stage, Clock()).left(beat.done, beat.total, beat.detail)
                words.append(f"{int(beat.done)}/{int(beat.total)} {clean(beat.unit)}")
            if is_compiling(beat.detail):
                words.append("compiling")
            elif left is not None and feed.state == "running":
                words.append(f"{duration(left)} left")
        elif view.iterations:
            share = view.iteration / view.iterations
        elif view.ending == "finished":
            share = float(feed.state != "imported" or bool(view.tests()))
        if feed.state == "stalled":
            words.append("no recent progress")
        if feed.state == "finished" and (total := view.driven_seconds()) is not None:
            words.append(duration(total))
        elif view.checkpoints is not None and feed.state != "imported":
            words.append(f"saved at {view.checkpoints}")
        share = min(max(share, 0.0), 1.0)
        room = max(10, min(60, self.content_size.width - 7 - sum(len(word) + 3 for word in words)))
        colour = colours["warning"] if feed.state in ("paused", "stalled") else colours["primary"]
        text.append_text(bar(share, room, colour, colours["chart-axis"]))
        text.append(f" {100 * share:3.0f} %", style="bold")
        for word in words:
            text.append(" · ", style=colours["chart-axis"])
            text.append(word)
        return text
