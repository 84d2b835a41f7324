"""The doctor: what is wrong with a training run, why, and what repairs it."""

from .before.check import Check, check
from .diagnosis import diagnose
from .finding import PROBLEMS, Finding, Report
from .live.doctor import Doctor

__all__ = ["PROBLEMS", "Check", "Doctor", "Finding", "Report", "check", "diagnose"]
