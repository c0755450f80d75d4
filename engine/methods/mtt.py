"""`mtt`, matching training trajectories (Cazenavette et al., CVPR 2022): hard labels, the gradient of the whole loss.

The loop is that of `tesla`. `distill.gradient = unrolled` builds all T graphs, as published; `exact` (the default) is
the same gradient one graph at a time. Different here: student_lr is updated by a factor that is the published step to
first order and cannot cross zero, and an iteration whose loss is not finite or above `distill.max_loss` is skipped.
"""

from dataclasses import replace

from engine.methods.tesla import TESLA

MTT = replace(
    TESLA,
    name="mtt",
    reads=("distill.", "teachers.", "labels.loss"),
)
