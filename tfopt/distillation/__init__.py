"""Teach a small model from a large one."""

from tfopt.distillation.cache import TeacherCache, Views, cache_teacher
from tfopt.distillation.distiller import Distiller
from tfopt.distillation.feature_losses import (
    AttentionLoss,
    ContrastiveLoss,
    CosineLoss,
    FeatureLoss,
    RelationLoss,
)
from tfopt.distillation.schedules import CosineSchedule, LinearSchedule, StepSchedule
from tfopt.distillation.soft_targets import SoftTargets
from tfopt.distillation.teachers import CallableTeacher, SavedModelTeacher, as_teacher, snapshot

__all__ = [
    "AttentionLoss",
    "CallableTeacher",
    "ContrastiveLoss",
    "CosineLoss",
    "CosineSchedule",
    "Distiller",
    "FeatureLoss",
    "LinearSchedule",
    "RelationLoss",
    "SavedModelTeacher",
    "SoftTargets",
    "StepSchedule",
    "TeacherCache",
    "Views",
    "as_teacher",
    "cache_teacher",
    "snapshot",
]
