"""`random`: real images drawn uniformly from every class without repetition; with formation, several smaller in one."""

from engine.methods.coreset import selection
from engine.training.real_images import random_real

RANDOM = selection(
    "random",
    lambda task: random_real(task, task.settings.distill.ipc * task.decoder.views, "init-real"),
    reads=("distill.student_lr", "distill.formation", "distill.decoder"),
)
