"""Settings: what can be set (`schema`), what that affects (`facts`), and where a value comes from (`layers`)."""

from engine.settings.datasets import dataset_facts, dataset_names
from engine.settings.frozen import frozen_settings, recovered_settings, settings_to_toml
from engine.settings.layers import EffectiveSettings, resolve_settings
from engine.settings.methods import method_names, method_traits
from engine.settings.presets import preset_names
from engine.settings.schema import (
    AugmentSettings,
    ComputeSettings,
    DatasetSettings,
    DistillSettings,
    EvaluateSettings,
    LabelSettings,
    NetworkSettings,
    PeerSettings,
    TeacherSettings,
)
from engine.settings.settings import Settings
from engine.settings.template import settings_template

__all__ = [
    "AugmentSettings",
    "ComputeSettings",
    "DatasetSettings",
    "DistillSettings",
    "EffectiveSettings",
    "EvaluateSettings",
    "LabelSettings",
    "NetworkSettings",
    "PeerSettings",
    "Settings",
    "TeacherSettings",
    "dataset_facts",
    "dataset_names",
    "frozen_settings",
    "method_names",
    "method_traits",
    "preset_names",
    "recovered_settings",
    "resolve_settings",
    "settings_template",
    "settings_to_toml",
]
