"""`whole`: networks are trained on all training images, the upper bound of every table.

To the protocol of all evaluations (SGD with momentum 0.9, weight decay 5e-4, batch 256, augmentation, a tenth of the
learning rate after half the epochs) with its own epochs, `evaluate.whole_epochs`. The images of the state are random
real ones, to look at: no network is trained on them alone, and there is nothing to export.
"""

from dataclasses import replace

from engine.methods.random_images import RANDOM

WHOLE = replace(RANDOM, name="whole", export_labels=None, reads=("distill.student_lr",))
