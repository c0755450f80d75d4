"""`k-means`: for each centre of a class's k-means, in the network's input space, its nearest real image."""

from engine.methods.coreset import selection
from engine.training.real_images import nearest_to_centres

K_MEANS = selection("k-means", lambda task: nearest_to_centres(task, task.settings.distill.ipc))
