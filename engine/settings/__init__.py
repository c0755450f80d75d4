"""Settings: what can be set (`schema`), where a value comes from (`layers`), and the file a user edits (`template`)."""

from engine.settings.datasets import dataset_facts, dataset_names
from engine.settings.layers import (
    EffectiveSettings,
    frozen_settings,
    preset_names,
    recovered_settings,
    resolve_settings,
    settings_to_toml,
)
from engine.settings.methods import method_names, method_traits
from engine.settings.schema import (
    AugmentSettings,
    ComputeSettings,
    DatasetSettings,
    DistillSettings,
    EvaluateSettings,
    LabelSettings,
    NetworkSettings,
    PeerSettings,
    Settings,
    TeacherSettings,
)
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
