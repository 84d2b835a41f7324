"""The doctor: what is wrong with a training run, why, and what repairs it."""

from .check import Check, check
from .diagnosis import diagnose
from .doctor import Doctor
from .finding import PROBLEMS, Finding, Report

__all__ = ["PROBLEMS", "Check", "Doctor", "Finding", "Report", "check", "diagnose"]
