"""Settings: what can be set (`schema`), what that affects (`facts`), and where a value comes from (`layers`)."""

from engine.settings.frozen import frozen_settings, recovered_settings, settings_to_toml
from engine.settings.layers import EffectiveSettings, resolve_settings
from engine.settings.presets import preset_names
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
