"""Every method by its name."""

from engine.baselines.datm import DATM
from engine.baselines.dc import DC
from engine.baselines.dm import DM
from engine.baselines.dsa import DSA
from engine.baselines.frepo import FREPO
from engine.baselines.herding import HERDING
from engine.baselines.k_center import K_CENTER
from engine.baselines.k_means import K_MEANS
from engine.baselines.mtt import MTT
from engine.baselines.random_images import RANDOM
from engine.baselines.whole import WHOLE
from engine.distill import TESLA
from engine.method import Method
from engine.settings import Settings

METHODS = {
    method.name: method
    for method in (TESLA, MTT, DATM, DM, DSA, DC, FREPO, RANDOM, HERDING, K_CENTER, K_MEANS, WHOLE)
}  # fmt: skip


def method_of(settings: Settings) -> Method:
    """The method of a run."""
    return METHODS[settings.distill.method]
