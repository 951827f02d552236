"""Why was the run slow or stuck: pure functions from evidence to an answer.

Goes in: the ``Evidence`` of a run, wherever it was read. Comes out: a ``Diagnosis``, and its text.
"""

from meshml_dbx.diagnosis.diagnose import diagnose
from meshml_dbx.diagnosis.diagnosis import Culprit, Diagnosis, Habit, json_text
from meshml_dbx.diagnosis.text import CAUSES, EVIDENCE_HEADINGS, answer_text, evidence_rows
from meshml_dbx.diagnosis.waits import calls_in_flight

__all__ = [
    "CAUSES",
    "EVIDENCE_HEADINGS",
    "Culprit",
    "Diagnosis",
    "Habit",
    "answer_text",
    "calls_in_flight",
    "diagnose",
    "evidence_rows",
    "json_text",
]
