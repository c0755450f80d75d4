"""Every method by its name."""

from engine.methods.datm import DATM
from engine.methods.dc import DC
from engine.methods.dm import DM
from engine.methods.dsa import DSA
from engine.methods.frepo import FREPO
from engine.methods.herding import HERDING
from engine.methods.k_center import K_CENTER
from engine.methods.k_means import K_MEANS
from engine.methods.method import Method
from engine.methods.mtt import MTT
from engine.methods.random_images import RANDOM
from engine.methods.tesla import TESLA
from engine.methods.whole import WHOLE
from engine.settings import Settings

METHODS = {
    method.name: method
    for method in (TESLA, MTT, DATM, DM, DSA, DC, FREPO, RANDOM, HERDING, K_CENTER, K_MEANS, WHOLE)
}  # fmt: skip


def method_of(settings: Settings) -> Method:
    """The method of a run."""
    return METHODS[settings.distill.method]
