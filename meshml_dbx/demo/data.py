"""The demo's data: a real set that ships with scikit-learn, cut up as its four services hold it.

The Wisconsin diagnostic breast cancer set: 569 rows, 30 measurements, a yes-or-no label. Goes in:
nothing. Comes out: one JSON file that every service of the demo reads, so that none has to import
scikit-learn to start.
"""

import json
from dataclasses import dataclass
from pathlib import Path

PAGE_SIZE = 50
ROWS_A_DAY = 5
ROWS_A_GROUP = 4
RECORD_COLUMNS = 20
"""How many measurements the records API has; the feature look-up has the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many pages, days and groups the data set makes."""

    rows: int

    @property
    def pages(self) -> int:
        """Pages of the records API."""
        return -(-self.rows // PAGE_SIZE)

    @property
    def days(self) -> int:
        """Days of the label API."""
        return -(-self.rows // ROWS_A_DAY)

    @property
    def groups(self) -> int:
        """Groups of the feature look-up."""
        return -(-self.rows // ROWS_A_GROUP)


def write_data(path: Path) -> Shape:
    """Write the data set as one JSON file; the shape of what was written."""
    from sklearn.datasets import load_breast_cancer

    loaded = load_breast_cancer()
    rows = [[round(float(value), 6) for value in row] for row in loaded.data]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps({"measurements": rows, "labels": [int(label) for label in loaded.target]}),
        encoding="utf-8",
    )
    return Shape(rows=len(rows))
