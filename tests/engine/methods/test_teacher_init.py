"""Past the paper (DATM): where students start, how the range grows, and what the first images and labels are."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from engine.errors import SettingsError, UsageError
from engine.events import Event, IterationDone, Notice, Progress
from engine.matching import MatchingGradient
from engine.methods.draws import draw_iteration
from engine.methods.registry import method_of
from engine.methods.tesla_labels import export_labels
from engine.methods.tesla_state import initial_state, outcome, update
from engine.networks.flat import load_parameters
from engine.runs.journal import read_journal
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.generators import run_to_end
from engine.runtime.rng import counted_generator
from engine.session.open_task import open_task
from engine.session.session import drive
from engine.settings import resolve_settings, settings_to_toml
from engine.training.real_images import random_real
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from tests.conftest import TINY

RunIt = Callable[..., Run]

CURRICULUM = ("distill.max_start_epoch=3", "distill.current_max_start_epoch=1")


def opened(workspace: Workspace, *overrides: str) -> tuple[Task, TeacherBuffer]:
    return run_to_end(open_task(workspace, resolve_settings(overrides=[*TINY, *overrides]).settings))


def starts_of(run: Run) -> list[tuple[int, int | None, int | None]]:
    events = [entry.event for entry, _ in read_journal(run.journal_file)]
    return [(e.iteration, e.trajectory, e.start_epoch) for e in events if isinstance(e, IterationDone)]


def notices_of(run: Run) -> list[str]:
    return [entry.event.message for entry, _ in read_journal(run.journal_file) if isinstance(entry.event, Notice)]


def final(run: Run) -> dict[str, torch.Tensor]:
    return run.load_checkpoint(max(run.checkpoints()))[0]


def test_without_a_range_or_a_curriculum_an_iteration_draws_what_it_always_drew(workspace: Workspace) -> None:
    task, _ = opened(workspace, "teachers.epochs=20", "distill.max_start_epoch=7", "distill.batch=4")
    whole, _ = opened(
        workspace, "teachers.epochs=20", "distill.max_start_epoch=7", "distill.batch=4",
        "distill.current_max_start_epoch=7", "distill.expansion_end=3",
    )  # fmt: skip
    for iteration in range(20):
        generator = counted_generator(0, "draw", iteration)
        trajectory, start = (int(torch.randint(most, (), generator=generator)) for most in (2, 7))
        first = torch.randperm(10, generator=generator)[:4]
        for draw in (draw_iteration(task, iteration), draw_iteration(whole, iteration)):
            assert (draw.trajectory, draw.start_epoch) == (trajectory, start)
            assert torch.equal(draw.schedule[0][0], first)


def test_starts_fill_the_range_evenly_and_the_curriculum_grows_linearly(workspace: Workspace) -> None:
    long = ("teachers.epochs=40", "distill.steps=1", "distill.min_start_epoch=4", "distill.max_start_epoch=12")
    task, _ = opened(workspace, *long)
    counts = Counter(draw_iteration(task, i).start_epoch for i in range(800))
    assert sorted(counts) == list(range(4, 12))
    assert all(60 <= count <= 140 for count in counts.values())  # 100 expected, 9 its standard deviation
    task, _ = opened(workspace, *long, "distill.current_max_start_epoch=6", "distill.expansion_end=600")
    draws = [draw_iteration(task, i).start_epoch for i in range(1000)]
    for iteration, start in enumerate(draws):
        upper = math.floor(6 + (12 - 6) * min(iteration / 600, 1) + 0.5)
        assert 4 <= start < upper, iteration
    assert max(draws[:50]) == 5 and max(draws[600:]) == 11
    # The last levels are reached, not only approached.
    assert {max(draws[begin : begin + 100]) for begin in (50, 150, 250, 350, 450)} == {6, 7, 8, 9, 10}


@pytest.mark.parametrize(
    ("least", "most", "first"), [(0, 10, 5), (4, 12, 8), (0, 3, 1), (3, 5, 4), (0, 1, 1), (6, 7, 7)]
)
def test_half_is_the_lower_half_of_any_range(workspace: Workspace, least: int, most: int, first: int) -> None:
    keys = (f"distill.min_start_epoch={least}", f"distill.max_start_epoch={most}", "teachers.epochs=20")
    half, _ = opened(workspace, *keys, "distill.current_max_start_epoch=half", "distill.expansion_end=40")
    number, _ = opened(workspace, *keys, f"distill.current_max_start_epoch={first}", "distill.expansion_end=40")
    for iteration in range(50):
        start = draw_iteration(half, iteration).start_epoch
        assert start == draw_iteration(number, iteration).start_epoch
        assert least <= start < (first if iteration == 0 else most)


@pytest.mark.slow
def test_raised_iterations_leave_the_draws_of_a_curriculum_alone(tiny_run: RunIt, workspace: Workspace) -> None:
    run = tiny_run("r", *CURRICULUM)
    before, images = starts_of(run), final(run)["images"]
    assert run.frozen().settings.distill.expansion_end == 6
    tiny_run("r", *CURRICULUM, "distill.iterations=12")
    assert run.frozen().settings.distill.expansion_end == 6
    assert run.frozen().origins["distill.expansion_end"] == "distill.iterations"
    after = starts_of(run)
    assert after[:6] == before and len(after) == 12
    # A run that is asked for all twelve at once, with the same end, is the same experiment.
    other = tiny_run("o", *CURRICULUM, "distill.iterations=12", "distill.expansion_end=6")
    assert starts_of(other) == after
    assert torch.equal(final(other)["images"], final(run)["images"])
    assert not torch.equal(images, final(run)["images"])
    # Left open, it would have been another: twelve iterations to grow.
    assert (
        workspace.settings(overrides=(*TINY, *CURRICULUM, "distill.iterations=12")).settings.distill.expansion_end == 12
    )
    with pytest.raises(UsageError, match=r"distill.expansion_end was 6, now 7"):
        run.check(workspace.settings(overrides=("distill.expansion_end=7",), run=run))
    # Settings that were lost come back from the journal with the end that the run has.
    run.settings_file.unlink()
    assert workspace.settings(run=run).settings.distill.expansion_end == 6


@pytest.mark.slow
def test_a_curriculum_stopped_anywhere_goes_on_to_the_same_bits(tiny_run: RunIt) -> None:
    options = ("distill.method=datm", *CURRICULUM, "distill.min_start_epoch=0", "distill.ipc=2")
    for number in (1, 3, 5):
        tiny_run("stopped", *options, until=lambda e, n=number: isinstance(e, IterationDone) and e.iteration == n)
    stopped, whole = tiny_run("stopped", *options), tiny_run("whole", *options)
    assert starts_of(stopped) == starts_of(whole)
    x, y = final(stopped), final(whole)
    assert x.keys() == y.keys() and "logits" in x
    assert all(torch.equal(x[name], y[name]) for name in x)
    assert not torch.equal(x["logits"], whole.load_checkpoint(0)[0]["logits"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["distill.min_start_epoch=10"], "min_start_epoch = 10 leaves no start epoch below .*max_start_epoch = 10"),
        (["distill.min_start_epoch=-1"], "`distill.min_start_epoch` must be .*greater than or equal to 0"),
        (["distill.current_max_start_epoch=11"], "current_max_start_epoch = 11 must be above .* at most .* 10"),
        (["distill.min_start_epoch=3", "distill.current_max_start_epoch=3"], "above distill.min_start_epoch = 3"),
        (["distill.current_max_start_epoch=quarter"], "`distill.current_max_start_epoch` must be"),
        (["distill.expansion_end=0"], "`distill.expansion_end` must be"),
        (["distill.method=dm", "distill.init=correct"], "init = correct needs a teacher; .* dm trains none"),
        (["distill.method=datm", "labels.kind=hard"], "datm fixes labels.kind = learned; the command line sets hard"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_words(overrides: list[str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        resolve_settings(overrides=overrides)


def test_what_reads_no_start_epochs_does_not_mind_them() -> None:
    for method in ("random", "whole", "herding"):
        chosen = ["distill.init=correct", "distill.min_start_epoch=50"]
        assert resolve_settings(overrides=[f"distill.method={method}", *chosen]).settings.distill.method == method


@pytest.mark.slow
def test_snapshots_below_the_range_are_no_part_of_shipped_labels(tiny_run: RunIt) -> None:
    run = tiny_run("r", "labels.kind=target", "distill.min_start_epoch=1", "distill.max_start_epoch=3")
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))
    state = method_of(task.settings).restore_state(*run.load_checkpoint(6), task)
    model = task.fresh_network(0)
    answers = []
    for epoch in (2, 3):  # starts 1 and 2, one epoch later
        for trajectory in range(2):
            load_parameters(model, buffer.read(trajectory, epoch)[0])
            answers.append(model(state.images).softmax(dim=1))
    oracle = torch.stack(answers).mean(dim=0)
    at = Progress(stage="evaluation", done=0, total=1, unit="networks")
    torch.testing.assert_close(run_to_end(export_labels(task, buffer, state, at)), oracle)


@pytest.mark.slow
def test_first_images_are_the_first_that_the_teacher_knows_and_labels_its_logits(tiny_run: RunIt) -> None:
    options = ("distill.init=correct", "labels.kind=learned", "labels.init=teacher", "distill.ipc=3")
    run = tiny_run("r", *options, "network.width=16", "teachers.lr=0.1", "teachers.batch=32")
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))
    model = task.fresh_network(0)
    load_parameters(model, buffer.read(0, 2)[0])  # the greatest start is 1, the target an epoch later
    chosen: list[int] = []
    order = random_real(task, 10**6, "init-real").tolist()  # whole classes
    for k in range(10):
        known = [
            i for i in order
            if task.train.labels[i] == k and int(model(task.train.images.encoded(torch.tensor([i]))).argmax()) == k
        ]  # fmt: skip
        chosen += known[:3]
    first = run.load_checkpoint(0)[0]
    assert torch.equal(first["images"], task.train.images.encoded(torch.tensor(chosen)))
    assert not torch.equal(first["images"], task.train.images.encoded(random_real(task, 3, "init-real")))
    torch.testing.assert_close(first["logits"], model(first["images"]).detach())
    assert first["logits"].argmax(dim=1).tolist() == [k for k in range(10) for _ in range(3)]
    assert not any("distill.init" in words or "labels.init" in words for words in notices_of(run))


@pytest.mark.slow
def test_too_few_known_images_are_filled_up_and_told(tiny_run: RunIt) -> None:
    hardly = ("teachers.lr=1e-6", "distill.ipc=4", "distill.iterations=0")  # teachers that stay where they began
    run = tiny_run("r", "distill.init=correct", "labels.kind=learned", "labels.init=teacher", *hardly)
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))
    model = task.fresh_network(0)
    load_parameters(model, buffer.read(0, 2)[0])
    everything = task.train.images.encoded(torch.arange(len(task.train)))
    answers = model(everything).detach()
    first = run.load_checkpoint(0)[0]
    counts = []
    for k in range(10):
        members = torch.nonzero(task.train.labels == k)[:, 0]
        own = answers[members, k]
        others = answers[members].clone()
        others[:, k] = -torch.inf
        margins = own - others.amax(dim=1)
        counts.append(int((margins > 0).sum()))
        if counts[-1] >= 4:
            continue
        best = everything[members[margins.argsort(descending=True)[:4]]]
        there = first["images"][4 * k : 4 * k + 4]
        assert all(any(torch.equal(a, b) for b in best) for a in there)
        logits = first["logits"][4 * k + counts[-1]]  # of the first that fills up
        assert logits.tolist() == [10.0 if j == k else 0.0 for j in range(10)]
    assert min(counts) == 0 and max(counts) >= 4
    words = notices_of(run)
    assert any(
        "classifies fewer than 4 images of a class correctly" in text and "the rest are" in text for text in words
    )
    assert any(f"misclassifies {sum(4 - count for count in counts if count < 4)} of 40" in text for text in words), (
        words
    )


@pytest.mark.slow
def test_a_damaged_teacher_is_trained_again_before_it_is_asked(tiny_run: RunIt) -> None:
    options = ("distill.init=correct", "labels.kind=learned", "labels.init=teacher")
    whole = tiny_run("whole", *options)
    path = next((whole.folder.parents[1] / "buffers").iterdir()) / "trajectory-0000.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # in the last row, which is the teacher's
    path.write_bytes(data)
    again = tiny_run("again", *options)
    assert any("trained again" in words for words in notices_of(again))
    x, y = final(whole), final(again)
    assert all(torch.equal(x[name], y[name]) for name in x)


def test_raw_probabilities_start_from_the_teachers(tiny_run: RunIt) -> None:
    options = ("labels.kind=learned", "labels.init=teacher", "distill.init=correct", "labels.parameters=probabilities")
    run = tiny_run("r", *options, "labels.lr=0.001")
    first = run.load_checkpoint(0)[0]["logits"]
    torch.testing.assert_close(first.sum(dim=1), torch.ones(10))
    assert first.min() >= 0 and ((first > 0) & (first < 1)).any()


def test_the_methods_published_rows() -> None:
    def settings(dataset: str, ipc: int) -> tuple[object, ...]:
        found = resolve_settings(ipc=ipc, overrides=[f"dataset.name={dataset}", "distill.method=datm"]).settings
        d = found.distill
        assert found.labels.kind == "learned" and found.labels.init == "teacher"
        assert d.init == ("real" if (dataset, ipc) == ("cifar100", 50) else "correct")
        assert (
            d.max_loss == (1.1 if (dataset, ipc) == ("cifar10", 1) else 1)
            and d.gradient == "exact"
            and found.needs_teachers
        )
        return d.steps, d.teacher_epochs, d.min_start_epoch, d.current_max_start_epoch, d.max_start_epoch, d.batch

    assert settings("cifar10", 10) == (80, 2, 0, 10, 20, "full")
    assert settings("cifar10", 50)[2:5] == (0, 20, 40)
    assert settings("cifar100", 10)[2:5] == (0, 30, 50)
    assert settings("cifar100", 50)[2:] == (20, "max", 70, 1000)
    assert settings("cifar10", 1)[2:5] == (0, "max", 4)
    assert settings("digits", 7)[2:5] == (0, "half", 10)


@pytest.mark.slow
def test_runs_of_older_versions_know_nothing_of_it_and_go_on(tiny_run: RunIt, workspace: Workspace) -> None:
    run = tiny_run("r")
    text = run.settings_file.read_text()
    body = text[: text.rindex("# sha256")]
    new = ("min_start_epoch", "current_max_start_epoch", "expansion_end")
    lines = [line for line in body.splitlines() if not any(name in line for name in new)]
    run.settings_file.write_text("\n".join(lines) + "\n")
    effective = workspace.settings(overrides=TINY, run=run)
    run.check(effective)
    assert settings_to_toml(run.frozen()) == text
    events: list[Event] = list(drive(workspace, run, effective))
    assert not any(isinstance(event, IterationDone) for event in events)


TEACHERS = ("distill.init=correct", "labels.kind=learned", "labels.init=teachers")


def naive_teachers(task: Task, buffer: TeacherBuffer) -> list[torch.nn.Module]:
    """Every teacher after its last epoch."""
    models = []
    for trajectory in range(task.settings.teachers.count):
        models.append(task.fresh_network(0))
        load_parameters(models[-1], buffer.read(trajectory, task.settings.teachers.epochs)[0])
    return models


@pytest.mark.slow
def test_labels_are_the_mean_of_the_teachers_that_are_right_at_their_last_epoch(tiny_run: RunIt) -> None:
    good = ("network.width=16", "teachers.lr=0.1", "teachers.batch=32", "teachers.count=3")
    run = tiny_run("r", *TEACHERS, "distill.ipc=3", *good)
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))
    assert [buffer.epochs(trajectory) for trajectory in range(3)] == [4, 4, 4]  # an iteration reads 2 at most
    first = run.load_checkpoint(0)[0]
    answers = torch.stack([model(first["images"]).detach() for model in naive_teachers(task, buffer)])
    own = torch.arange(10).repeat_interleave(3)
    right = answers.argmax(dim=2) == own
    for image in range(30):
        logits = answers[right[:, image], image]
        assert len(logits)  # the first teacher knew it
        torch.testing.assert_close(first["logits"][image], logits.mean(dim=0))
    assert {int(count) for count in right.sum(dim=0)} > {3}  # some images not every teacher knows
    details = [e.detail for e in init_events(task, buffer) if isinstance(e, Progress)]
    assert {f"classifying with teacher {number} of 3" for number in (1, 2, 3)} <= set(details)


def init_events(task: Task, buffer: TeacherBuffer) -> list[Event]:
    return list(method_of(task.settings).init_state(task, buffer))


@pytest.mark.slow
def test_images_come_from_the_next_teachers_where_the_first_knows_too_few(tiny_run: RunIt) -> None:
    hardly = ("teachers.lr=1e-6", "teachers.count=4", "distill.ipc=4", "distill.iterations=0")
    run = tiny_run("r", *TEACHERS, *hardly)
    task, buffer = run_to_end(open_task(Workspace(run.folder.parents[1]), run.frozen().settings))
    everything = task.train.images.encoded(torch.arange(len(task.train)))
    predicted = [model(everything).argmax(dim=1) for model in naive_teachers(task, buffer)]
    order = random_real(task, 10**6, "init-real").tolist()  # whole classes
    first = run.load_checkpoint(0)[0]
    by_teacher: list[int] = []
    for k in range(10):
        chosen: list[int] = []
        for answers in predicted:
            chosen += [i for i in order if task.train.labels[i] == k and answers[i] == k and i not in chosen]
            if len(chosen) >= 4:
                break
        by_teacher.append(len(chosen))
        known = chosen[:4]
        assert torch.equal(first["images"][4 * k : 4 * k + len(known)], everything[known])
        for place in range(4 * k + len(known), 4 * k + 4):  # no teacher takes it for its class
            assert first["logits"][place].tolist() == [10.0 if j == k else 0.0 for j in range(10)]
    assert sum(count >= 4 for count in by_teacher) > sum(
        int((predicted[0][task.train.labels == k] == k).sum()) >= 4 for k in range(10)
    )
    lacking = sum(max(0, 4 - count) for count in by_teacher)
    words = notices_of(run)
    assert lacking and any("all teachers together classify fewer than 4" in text for text in words)
    assert any(f"every teacher misclassifies {lacking} of 40 first images" in text for text in words), words


def test_whole_trajectories_are_trained_for_the_labels_of_all_teachers() -> None:
    def epochs(*overrides: str) -> int:
        return resolve_settings(overrides=[*TINY, *overrides]).settings.trained_epochs

    assert epochs("labels.kind=learned", "labels.init=teacher") == epochs("labels.init=teachers") == 2
    assert epochs("labels.kind=learned", "labels.init=teachers") == 4


def test_labels_have_a_momentum_of_their_own(workspace: Workspace) -> None:
    def updated(*overrides: str) -> tuple[torch.Tensor, torch.Tensor, float]:
        task, _ = opened(workspace, "labels.kind=learned", "labels.lr=2", "distill.lr_images=3", *overrides)
        state = initial_state(task)
        for number in (1.0, 10.0):
            images = torch.full_like(state.images, number)
            found = MatchingGradient(loss=torch.zeros(()), images=images, student_lr=torch.zeros(()), labels=images)
            labels = torch.full((10, 10), number)
            largest = float(outcome(state, found, labels, task.settings)[1])
            update(state, found, labels, task.settings)
        assert state.logits is not None and largest == pytest.approx(float(state.logits.abs().max()))
        before = initial_state(task)
        assert before.logits is not None
        return before.images - state.images, before.logits - state.logits, largest

    images, labels, _ = updated("labels.momentum=0.9", "distill.momentum=0.5")
    torch.testing.assert_close(labels, torch.full((10, 10), 2 * (1 + 0.9 + 10)))
    torch.testing.assert_close(images, torch.full_like(images, 3 * (1 + 0.5 + 10)))
    _, labels, _ = updated("distill.momentum=0.5")
    torch.testing.assert_close(labels, torch.full((10, 10), 2 * (1 + 0.5 + 10)))
