"""`k-means`: for each centre of a class's k-means, in the network's input space, its nearest real image."""

from engine.baselines.selecting import selection
from engine.selection import nearest_to_centres

K_MEANS = selection("k-means", "real images nearest to k-means centres, in the input space", nearest_to_centres)
