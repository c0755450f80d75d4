"""Examining the machine and the files, and repairing what can be repaired."""

from engine.tools.doctor.finding import Finding
from engine.tools.doctor.machine import examine_machine
from engine.tools.doctor.workspace import examine_workspace, runs_in

__all__ = ["Finding", "examine_machine", "examine_workspace", "runs_in"]
