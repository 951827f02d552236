"""What this process calls, written by itself: the flight recorder where there is no mesh.

Goes in: calls that this process makes with the HTTP libraries of Python. Comes out: the same lines
as a sidecar's, as observer ``client``, in a log folder of its own. ``process`` starts and stops,
``recorder`` takes calls, ``writer`` writes them, and each library has a file that hooks it.
"""

from meshml_dbx.recorder.address import authority_of
from meshml_dbx.recorder.plan import NamedHost, RecorderPlan
from meshml_dbx.recorder.process import Recording, active_recording, start_recording, stop_recording

__all__ = [
    "NamedHost",
    "RecorderPlan",
    "Recording",
    "active_recording",
    "authority_of",
    "start_recording",
    "stop_recording",
]
