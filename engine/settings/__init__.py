"""Settings: what can be set (`schema`), where a value comes from (`layers`), and the file a user edits (`template`)."""

from engine.settings.layers import (
    EffectiveSettings,
    frozen_settings,
    preset_names,
    recovered_settings,
    resolve_settings,
    settings_to_toml,
)
from engine.settings.schema import (
    AugmentSettings,
    ComputeSettings,
    DatasetSettings,
    DistillSettings,
    EvaluateSettings,
    LabelSettings,
    MethodName,
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
    "MethodName",
    "NetworkSettings",
    "PeerSettings",
    "Settings",
    "TeacherSettings",
    "frozen_settings",
    "preset_names",
    "recovered_settings",
    "resolve_settings",
    "settings_template",
    "settings_to_toml",
]
