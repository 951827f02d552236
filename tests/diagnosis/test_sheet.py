"""The page's figures: they add up, and agree with the diagnosis."""

import pytest

from meshml_dbx.diagnosis import diagnose
from meshml_dbx.diagnosis.report import waits_by_path
from meshml_dbx.diagnosis.sheet import (
    culprit_rows,
    path_waits,
    sheet_of,
    stage_waits,
    worst_rows,
)
from tests.diagnosis.sample import refused_evidence, sample_evidence, stuck_evidence

ALL = {"slow": sample_evidence, "stuck": stuck_evidence, "refused": refused_evidence}


@pytest.mark.parametrize("kind", ALL)
def test_waits_by_path_agree_with_the_diagnosis(kind: str) -> None:
    """Bars, picture and answer tell the same seconds for each path."""
    evidence = ALL[kind]()
    told = waits_by_path(diagnose(evidence))
    drawn = {one.path: one.wait_us / 1e6 for one in path_waits(sheet_of(evidence))}
    assert drawn == pytest.approx(told)


@pytest.mark.parametrize("kind", ALL)
def test_the_parts_of_a_wait_add_up_to_it(kind: str) -> None:
    """A bar's pieces fill it, no more and no less."""
    for wait in path_waits(sheet_of(ALL[kind]())):
        assert sum(part for _, part in wait.parts_us) == pytest.approx(wait.wait_us, abs=1)


@pytest.mark.parametrize("kind", ALL)
def test_as_many_calls_are_blamed_as_the_answer_says(kind: str) -> None:
    """The calls drawn as a culprit's are as many as it claims, all on its path."""
    evidence = ALL[kind]()
    sheet = sheet_of(evidence)
    for culprit in diagnose(evidence).blamed:
        mask = culprit_rows(sheet, culprit)
        targets = {sheet.table.text("target", row) for row in mask.nonzero()[0].tolist()}
        assert (int(mask.sum()), targets) == (culprit.calls, {culprit.target})


def test_only_the_stuck_call_is_blamed_for_being_stuck() -> None:
    """The healthy calls of the same target are not drawn as the culprit's."""
    evidence = stuck_evidence()
    sheet = sheet_of(evidence)
    (culprit,) = diagnose(evidence).blamed
    rows = culprit_rows(sheet, culprit).nonzero()[0]
    assert [sheet.table.request_ids[row] for row in rows] == [evidence.in_flight[0].request_id]


def test_stages_come_in_order_with_their_own_waits() -> None:
    """Every stage is there once, and the waits of the stages add up to the run's."""
    evidence = sample_evidence()
    stages = stage_waits(sheet_of(evidence), evidence)
    assert [one.stage for one in stages] == ["ingestion", "processing", "training", "scoring"]
    assert sum(one.calls for one in stages) == len(evidence.calls)
    assert sum(one.wait_us for one in stages) == diagnose(evidence).wait_us


def test_half_of_the_worst_rows_are_kept_for_the_culprit() -> None:
    """However short its calls, a culprit's longest are shown; the rest are the longest of all."""
    sheet = sheet_of(sample_evidence())
    healthy = sheet.table.where("target", lambda name: name == "features")
    worst = worst_rows(sheet, [healthy], at_most=10)
    targets = [sheet.table.text("target", one.row) for one in worst]
    assert targets == ["features"] * 5 + ["labels-v2"] * 5
    assert [one.culprit for one in worst] == [0] * 5 + [None] * 5
