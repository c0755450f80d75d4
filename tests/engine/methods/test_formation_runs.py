"""Runs whose stored images decode to several: draws, gradients, labels, resuming, and another parameterisation."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import engine.settings.decoders
from engine.data.decoder import View, decode_all
from engine.errors import SettingsError, UsageError
from engine.events import IterationDone
from engine.matching import EagerSteps
from engine.matching.micro_batch import MicroSteps
from engine.methods.batch_coupling import batch_sizes
from engine.methods.draws import draw_iteration
from engine.methods.tesla import matching_gradient_of
from engine.methods.tesla_state import initial_state
from engine.runs.run import Run
from engine.runs.workspace import Workspace
from engine.runtime.distributed.environment import RankEnvironment
from engine.runtime.distributed.ranks import Ranks
from engine.runtime.generators import run_to_end
from engine.session.open_task import open_task
from engine.settings import resolve_settings
from engine.training.evaluation import Evaluation, _random_set
from engine.training.task import Task
from engine.training.teacher_buffer import TeacherBuffer
from tests.conftest import TINY
from tests.engine.data.test_formation import naive
from tests.runs import assert_same_bits, events, newest, stop_at_iteration

RunIt = Callable[..., Run]
DOCS = Path(__file__).parents[3] / "docs" / "formation.md"


def opened(workspace: Workspace, *overrides: str) -> tuple[Task, TeacherBuffer]:
    return run_to_end(open_task(workspace, resolve_settings(overrides=[*TINY, *overrides]).settings))


def view_of(augment: object) -> View:
    assert isinstance(augment, View)
    return augment


def test_a_step_draws_as_many_views_as_images_are_stored_and_each_once_before_any_again(workspace: Workspace) -> None:
    task, _ = opened(workspace, "distill.formation=2", "distill.steps=8", "distill.ipc=2")
    schedule = draw_iteration(task, 3).schedule
    assert [len(index) for index, _ in schedule] == [20] * 8
    for half in (schedule[:4], schedule[4:]):
        seen = torch.cat([4 * index + view_of(augment).view for index, augment in half])
        assert seen.sort().values.equal(torch.arange(80))


def test_a_batch_may_have_all_views_and_not_more(workspace: Workspace) -> None:
    task, _ = opened(workspace, "distill.formation=2", "distill.batch=40")
    assert batch_sizes(task) == {40}
    assert [len(index) for index, _ in draw_iteration(task, 0).schedule] == [40] * 4
    with pytest.raises(UsageError, match=r"41 is more than the 40 synthetic images \(10 classes x IPC 1 x 4 in each\)"):
        opened(workspace, "distill.formation=2", "distill.batch=41")


def test_ranks_draw_the_views_of_one_process(workspace: Workspace) -> None:
    task, _ = opened(workspace, "distill.formation=4", "distill.batch=7")
    whole = draw_iteration(task, 2).schedule
    parts = [
        draw_iteration(replace(task, ranks=Ranks(RankEnvironment(rank=rank, size=2))), 2).schedule for rank in range(2)
    ]
    stored = torch.randn(10, 1, 8, 8)
    for (index, augment), *two in zip(whole, *parts, strict=True):
        found = torch.cat([theirs(stored[rows]) for rows, theirs in two])
        assert torch.equal(found, augment(stored[index]))


@pytest.mark.parametrize("rows", [0, 3])
@pytest.mark.parametrize("factor", [2, 4])
def test_the_gradient_is_that_of_interpolated_crops_differentiated_through_all_steps(
    workspace: Workspace, tiny_run: RunIt, factor: int, rows: int
) -> None:
    overrides = (f"distill.formation={factor}", "compute.dtype=float64", "augment.ops=[]", "distill.batch=12")
    tiny_run("teachers", *overrides)
    task, buffer = opened(workspace, *overrides)
    state, draw = initial_state(task), draw_iteration(task, 0)
    steps = EagerSteps(task.flat_network())
    found, _ = run_to_end(
        matching_gradient_of(task, MicroSteps(steps, rows) if rows else steps, buffer, state, draw, "auto")
    )
    start, target = (row.double() for row in buffer.read(draw.trajectory, draw.start_epoch, draw.start_epoch + 1))
    images, theta = state.images.clone().requires_grad_(), start.clone().requires_grad_()
    network, lr = task.flat_network(), state.student_lr
    for index, augment in draw.schedule:
        views = naive(images, factor)[factor**2 * index + view_of(augment).view]
        loss = F.cross_entropy(network(theta, views), index // task.settings.distill.ipc)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - lr * gradient
    loss = (theta - target).square().sum() / (start - target).square().sum()
    (wanted,) = torch.autograd.grad(loss, images)
    assert found.loss.item() == pytest.approx(loss.item(), rel=1e-12)
    assert torch.allclose(found.images, wanted, atol=1e-12, rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [2, 4])
@pytest.mark.parametrize("method", ["tesla", "mtt", "datm"])
def test_every_trajectory_method_learns_what_it_stores(tiny_run: RunIt, method: str, factor: int) -> None:
    run = tiny_run("r", f"distill.method={method}", f"distill.formation={factor}", "labels.lr=1", "teachers.epochs=4")
    first, last = run.load_checkpoint(0)[0], newest(run)
    assert first["images"].shape == last["images"].shape == (10, 1, 8, 8)
    assert not torch.equal(first["images"], last["images"])
    assert events(run, IterationDone)  # rates of a method may be too large here, and iterations be skipped
    assert {(r.subject, r.split) for r in run.evaluations()} >= {("distilled", "test"), ("random", "test")}


@pytest.mark.slow
def test_a_stopped_run_resumes_to_the_same_bits(tiny_run: RunIt) -> None:
    whole = tiny_run("whole", "distill.formation=2")
    tiny_run("stopped", "distill.formation=2", until=stop_at_iteration(5))
    assert_same_bits(whole, tiny_run("stopped", "distill.formation=2"))


def test_labels_of_a_teacher_are_the_mean_over_the_views(workspace: Workspace, tiny_run: RunIt) -> None:
    overrides = (
        "distill.formation=2", "distill.init=correct", "labels.kind=learned", "labels.init=teacher",
        "teachers.epochs=20", "distill.max_start_epoch=19",
    )  # fmt: skip
    run = tiny_run("r", *overrides)
    task, buffer = opened(workspace, *overrides)
    first = run.load_checkpoint(0)[0]
    theta = buffer.read(0, task.settings.trained_epochs)[0]
    with torch.no_grad():
        mean = task.flat_network()(theta, decode_all(task.decoder, first["images"])).view(10, 4, 10).mean(dim=1)
    right = mean.argmax(dim=1) == torch.arange(10)
    assert right.any()
    assert torch.allclose(first["logits"][right], mean[right], atol=1e-5)


def test_the_baseline_is_packed_as_the_set_is(workspace: Workspace) -> None:
    task, _ = opened(workspace, "distill.formation=2")
    packed = _random_set(task, Evaluation("random", 0, "test", "convnet", 1, lr=0.01), 0)
    assert len(packed) == 40
    images, labels = packed.batch(torch.arange(40))
    assert labels.argmax(dim=1).equal(torch.arange(10).repeat_interleave(4))
    assert len(images.flatten(1).unique(dim=0)) == 40


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("distill.formation=2", "labels.kind=target"), "Set labels.kind = hard or learned"),
        (("distill.formation=2", "distill.method=dm"), "Set distill.formation = 1"),
        (("distill.formation=0",), "greater than or equal to 1"),
        (("distill.formation=1.5",), "distill.formation"),
        (("distill.formation=two",), "distill.formation"),
        (("distill.decoder=waves",), "distill.decoder = waves does not exist. Set one of formation."),
    ],
)  # fmt: skip
def test_what_it_cannot_be_used_with_is_said(overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(SettingsError) as refused:
        resolve_settings(overrides=list(overrides))
    assert words in f"{refused.value.message} {refused.value.hint}"


def documented_decoder() -> str:
    """The example of docs/formation.md."""
    blocks: list[str] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), flags=re.DOTALL)
    (example,) = [block for block in blocks if "class " in block]
    return example


def test_the_documented_decoder_is_one_file_and_one_line(
    tiny_run: RunIt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cosines.py").write_text(documented_decoder())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(engine.settings.decoders.DECODERS, "cosines", "cosines:cosines")
    run = tiny_run("r", "distill.decoder=cosines", "distill.lr_images=1000")
    from engine.data.decoder import decoder_of

    decoder = decoder_of(run.frozen().settings.distill, (1, 8, 8))
    first, last = run.load_checkpoint(0)[0]["images"], newest(run)["images"]
    real = initial_state(opened(run_workspace(run))[0]).images
    assert torch.allclose(decode_all(decoder, first), real, atol=1e-5)  # starts from the same real images
    assert not torch.allclose(first, real, atol=0.1)  # that are stored otherwise
    assert not torch.equal(first, last)
    assert all(r.mean > 0 for r in run.evaluations())


def test_formation_is_of_its_own_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one has no sub-images that words or baselines could speak of."""
    monkeypatch.setitem(engine.settings.decoders.DECODERS, "cosines", "cosines:cosines")
    ask = ["dataset.name=fashion-mnist", "distill.decoder=cosines"]
    assert resolve_settings(ipc=1, overrides=ask).settings.distill.formation == 1  # the preset has 2
    with pytest.raises(SettingsError, match=r"is for distill\.decoder = formation"):
        resolve_settings(ipc=1, overrides=[*ask, "distill.formation=2"])


def run_workspace(run: Run) -> Workspace:
    return Workspace(run.folder.parents[1])


def test_views_of_one_image_in_a_batch_add_their_gradients(workspace: Workspace) -> None:
    """A batch holds several views of an image: their index repeats."""
    task, _ = opened(workspace, "distill.formation=2", "distill.batch=40")
    index, augment = draw_iteration(task, 0).schedule[0]
    stored = torch.zeros(10, 1, 8, 8, requires_grad=True)
    seen: Tensor = (
        augment(stored[index])
        if not task.settings.augment.ops
        else view_of(augment).decoder.decode(stored[index], view_of(augment).view)
    )
    (gradient,) = torch.autograd.grad(seen.sum(), stored)
    assert torch.allclose(gradient, torch.full_like(gradient, 4.0))  # each pixel fills 2 x 2 of its view


@pytest.mark.slow
def test_compiled_steps_see_the_same_views(tiny_run: RunIt) -> None:
    pytest.importorskip("torch._inductor")
    eager = tiny_run("eager", "distill.formation=2", "distill.iterations=2", "evaluate.epochs=1")
    compiled = tiny_run(
        "compiled", "distill.formation=2", "distill.iterations=2", "evaluate.epochs=1", "compute.compile=on"
    )
    losses = [[event.loss for event in events(run, IterationDone)] for run in (eager, compiled)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    first, last = (newest(run)["images"] for run in (eager, compiled))
    assert torch.allclose(first, last, atol=1e-3)
