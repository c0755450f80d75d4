"""What numbers are said to say: intervals against tables and simulation, guessing, losses, skipped iterations."""

import math
import random
import statistics

import pytest

from engine.events import EvaluationDone, TeachersMeasured
from engine.runs.judgement import (
    difference,
    loss_problem,
    near_guessing,
    no_update_words,
    outcome_words,
    outcomes,
    skip_rule,
    student_lr_problem,
    t_quantile,
    teachers_problem,
)


def result(accuracies: list[float], iteration: int = 9, subject: str = "distilled", **more: object) -> EvaluationDone:
    return EvaluationDone(
        iteration=iteration, subject=subject, split="test", network="convnet", mean=statistics.fmean(accuracies),
        std=statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0, accuracies=accuracies, seconds=1.0, **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("freedom", "quantile"),  # of printed tables
    [
        (1, 12.7062),
        (2, 4.30265),
        (3, 3.18245),
        (4, 2.77645),
        (8, 2.30600),
        (30, 2.04227),
        (120, 1.97993),
        (1e6, 1.95997),
    ],
)
def test_the_quantiles_are_those_of_the_tables(freedom: float, quantile: float) -> None:
    assert t_quantile(freedom) == pytest.approx(quantile, abs=6e-5)


def test_the_quantiles_with_a_closed_form_are_exact() -> None:
    assert t_quantile(1) == pytest.approx(math.tan(0.475 * math.pi), rel=1e-8)
    p = 0.975
    assert t_quantile(2) == pytest.approx((2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p))), rel=1e-8)
    assert t_quantile(2) > t_quantile(2.5) > t_quantile(3)


def test_welch_by_hand() -> None:
    # Means 3 and 6, variances 2.5 and 10 of five each: error sqrt(0.5 + 2), freedom 2.5^2 / (0.5^2/4 + 2^2/4) = 100/17.
    found = difference([1, 2, 3, 4, 5], [2, 4, 6, 8, 10])
    wide = t_quantile(100 / 17) * math.sqrt(2.5)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx((-3, -3 - wide, -3 + wide))
    assert difference([0.5], [0.1, 0.2]) is None
    assert difference([0.5, 0.5], [0.25, 0.25]) is None  # no interval of width 0 from two networks


def test_the_interval_holds_as_often_as_it_says() -> None:
    draw = random.Random(7)
    held = 0
    for _ in range(400):
        ours, others = [draw.gauss(0.7, 0.01) for _ in range(5)], [draw.gauss(0.6, 0.09) for _ in range(5)]
        found = difference(ours, others)
        held += found is not None and found.low <= 0.1 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_near_guessing() -> None:
    assert near_guessing(0.26, 1 / 6, 51) and not near_guessing(0.68, 1 / 6, 51)
    assert near_guessing(0.15, 0.1, 10_000) and not near_guessing(0.25, 0.1, 10_000)
    assert not near_guessing(0.05, 0.01, 10_000)  # five times guessing
    assert near_guessing(0.55, 0.5, 10_000) and not near_guessing(0.8, 0.5, 10_000)
    assert not near_guessing(0.97, 0.9, 10_000)  # most are of one class: a share of the rest counts
    assert near_guessing(2 / 3, 1 / 3, 3) and not near_guessing(1.0, 1 / 3, 3)  # three images say little
    assert near_guessing(1.0, 1.0, 10)  # a single class


def test_a_gain_is_one_only_if_its_interval_says_so() -> None:
    base = result([0.5, 0.52, 0.54], 0, "random")
    for ours, kind, words in (
        ([0.7, 0.72, 0.71], "gained", "Better than random real images: +19.0 points with convnet (95 % interval +"),
        ([0.5, 0.53, 0.56], "none", "No difference found from random real images: +1.0 points"),
        ([0.2, 0.21, 0.22], "worse", "Worse than random real images: -31.0 points"),
        ([0.7], "unknown", "no interval from 1 and 3 networks; set evaluate.repeats"),
    ):
        (found,) = outcomes([result(ours, images=359)], [base], unimproved=False)
        assert found.kind == kind and words in found.words
        assert ("3 and 3 networks on 359 test images" in found.words) == (kind != "unknown")
    (found,) = outcomes([result([0.5, 0.5])], [result([0.5, 0.5], 0, "random")], unimproved=False)
    assert (
        found.kind == "unknown" and "(no interval from 2 and 2 networks, whose accuracies do not vary)" in found.words
    )
    (found,) = outcomes([result([0.7, 0.71])], [], unimproved=False)
    assert found.kind == "unknown" and found.difference is None and "were not measured" in found.words


def test_an_untouched_set_gained_nothing_whatever_its_accuracy() -> None:
    better, base = result([0.9, 0.91, 0.92], 0), result([0.5, 0.52, 0.54], 0, "random")
    found = outcomes([better, better], [base], unimproved=True)
    assert {one.kind for one in found} == {"unimproved"}
    words = outcome_words(found)
    assert words.count("No improvement found") == 1 and "Better" not in words and "+" not in words


def test_an_accuracy_like_guessing_is_called_that() -> None:
    ours, base = result([0.11, 0.1], guessing=0.1, images=1000), result([0.5, 0.5], 0, "random")
    assert "near that of guessing, 10.0 %" in outcomes([ours], [base], unimproved=False)[0].words
    few = result([0.46, 0.46], guessing=0.23, images=13)  # twice guessing, but 13 images do not show it
    assert (
        "not clearly above that of guessing on 13 images, 23.0 %" in outcomes([few], [base], unimproved=False)[0].words
    )
    assert (
        "guessing" not in outcomes([result([0.9, 0.91], guessing=0.1, images=1000)], [base], unimproved=False)[0].words
    )


def test_teachers_near_guessing_come_with_advice() -> None:
    measured = TeachersMeasured(
        buffer="b", split="holdout", images=51, guessing=1 / 6, epoch=11, steps=2, count=10, mean=0.26, std=0.01
    )
    assert teachers_problem(measured, "Advice.").endswith("Advice.")
    assert teachers_problem(TeachersMeasured(**{**vars(measured), "mean": 0.68}), "Advice.") == ""


@pytest.mark.parametrize(
    ("mean", "count", "iteration", "iterations", "words"),
    [
        (0.96, 50, 400, 1000, "hardly nearer"),
        (1.2, 50, 400, 1000, "further"),
        (0.94, 50, 400, 1000, ""),
        (0.96, 50, 199, 1000, ""),  # the first fifth
        (0.96, 49, 400, 1000, ""),
        (0.96, 20, 20, 20, "hardly nearer"),  # all of a short run
        (0.96, 9, 9, 9, ""),
    ],
)
def test_a_loss_near_one(mean: float, count: int, iteration: int, iterations: int, words: str) -> None:
    found = loss_problem(mean, count, iteration, iterations, 50)
    assert words in found and bool(found) == bool(words)


def test_a_student_lr_far_from_where_it_began() -> None:
    assert student_lr_problem(0.0011, 0.01) == student_lr_problem(0.09, 0.01) == ""
    assert "12 times below distill.student_lr = 0.01" in student_lr_problem(0.01 / 12, 0.01)
    assert "20 times above" in student_lr_problem(0.2, 0.01)


def test_every_reason_to_skip_has_its_rule() -> None:
    assert skip_rule("matching loss above distill.max_loss = 10") == "distill.max_loss"
    assert skip_rule("a pixel would reach 2e+03, above distill.max_pixel = 1000") == "distill.max_pixel"
    assert skip_rule("loss 2e+03 times the usual, above distill.max_jump = 1000") == "distill.max_jump"
    assert skip_rule("loss and image gradient not finite") == "numbers not finite"
    message, hint = no_update_words(5, {"distill.max_loss": 3, "numbers not finite": 2}, False)
    assert "all 5 iterations were skipped (distill.max_loss: 3, numbers not finite: 2)" in message
    assert "larger distill.max_loss" in hint and "smaller distill.lr_images" in hint
    assert "gradient is zero" in no_update_words(5, {}, True)[0]
    assert "larger distill.lr_images" in no_update_words(5, {"distill.max_jump": 1}, False)[1]


def test_equal_accuracies_of_a_few_networks_are_no_verdict() -> None:
    (found,) = outcomes([result([0.5, 0.5])], [result([0.4, 0.4], subject="random")], unimproved=False)
    assert found.kind == "unknown" and found.low is None
