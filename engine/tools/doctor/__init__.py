"""Examining the machine and the files, and repairing what can be repaired.

Every finding is (is it good, what was looked at, words), and may know how to repair itself. Nothing that cannot be
rebuilt is deleted: damaged files are moved to a folder `damaged` beside them.
"""

from engine.tools.doctor.finding import Finding
from engine.tools.doctor.machine import examine_machine
from engine.tools.doctor.workspace import examine_workspace, runs_in

__all__ = ["Finding", "examine_machine", "examine_workspace", "runs_in"]
