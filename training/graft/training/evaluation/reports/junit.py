"""An evaluation as JUnit XML: a suite for each outcome, a case for each question."""

from __future__ import annotations

import re
from collections.abc import Sequence
from xml.etree import ElementTree

from graft.training.evaluation.reports.asked import question_of
from graft.training.evaluation.running.outcome import Outcome, Record

_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 (section 2.2) has no place for."""


def junit(outcomes: Sequence[Outcome]) -> str:
    """The document. A question answered wrong is a failure; one that could not be asked or judged an error.
    ``system-out`` is the question.
    """
    suites = ElementTree.Element("testsuites", name="graft evaluate")
    for one in outcomes:
        failures = [record for record in one.records if not record.problem and record.marks[one.main_key] < 1]
        is_marked = not one.main_key.startswith("perplexity")
        suite = ElementTree.SubElement(
            suites,
            "testsuite",
            name=_clean(f"{one.task.name} / {one.model} / {one.setting}"),
            tests=str(len(one.records)),
            failures=str(len(failures) if is_marked else 0),
            errors=str(one.num_refused),
        )
        for record in one.records:
            _case(suite, one, record, is_marked)
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _case(suite: ElementTree.Element, one: Outcome, record: Record, is_marked: bool) -> None:
    name = one.task.questions[record.index].name or f"question {record.index + 1}"
    classname = f"{one.task.name}.{one.model}"
    case = ElementTree.SubElement(suite, "testcase", name=_clean(name), classname=_clean(classname))
    if record.problem:
        ElementTree.SubElement(case, "error", message=_clean(record.problem))
    elif is_marked and record.marks[one.main_key] < 1:
        right = record.reason or f"right is {' or '.join(record.right)!r}"
        failure = ElementTree.SubElement(case, "failure", message=_clean(right))
        failure.text = _clean(record.answer)
    ElementTree.SubElement(case, "system-out").text = _clean(question_of(one, record))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
