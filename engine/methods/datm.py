"""`datm`, difficulty-aligned trajectory matching (Guo et al., ICLR 2024): the loop of `tesla` with other settings.

Which part of the teachers' training is matched decides what is learned: early epochs easy patterns, late ones hard
patterns that only larger sets can hold. So start epochs have a lower end as well (`distill.min_start_epoch`), and the
upper one grows over the run (`distill.current_max_start_epoch`). Labels are learned, from teachers' logits on images
that they classify correctly (`engine.methods.teacher_init`); an update whose matching loss is above 1 is skipped.

Published code keeps T graphs or TESLA's eq. 6; here it is what `distill.gradient` says, by default the exact one.
"""

from dataclasses import replace

from engine.methods.tesla import TESLA

DATM = replace(
    TESLA,
    name="datm",
    # Its labels are always learned: labels.ship is about the other kinds.
    reads=(
        "distill.", "teachers.", "labels.kind", "labels.lr", "labels.init", "labels.momentum", "labels.parameters",
        "labels.loss",
    ),
)  # fmt: skip
