"""Penalties for late submissions: so many free days in the course, then a share of the points a day.

Switched on by lines in the course's nbgrader_config.py::

    c.AssignLatePenalties.plugin_class = "late.LateDays"
    c.LateDays.free_days = 3
    c.LateDays.per_day = 0.1

Times come from ``timestamp.txt`` of the submission, the date from ``course.py release --due``.
"""

import math
from pathlib import Path

from common import gradebook, settings
from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins import LateSubmissionPlugin
from nbgrader.preprocessors import AssignLatePenalties
from traitlets import Float, Integer

DAY = 86400


class LateDays(LateSubmissionPlugin):
    """Free days, used over all assignments in the order in which they are due; then a share of the points a day."""

    free_days = Integer(0, help="late days without a penalty, for each student, in the whole course").tag(config=True)
    per_day = Float(0.1, help="share of the points that every further day costs, begun days counting whole").tag(
        config=True
    )
    most = Float(1.0, help="the largest share that can be lost").tag(config=True)

    def late_submission_penalty(self, student_id: str, score: float, total_seconds_late: float) -> float:
        """Points to take off."""
        used = used_before(self.parent.gradebook, student_id, self.parent.assignment_id)
        paid = max(0, math.ceil(total_seconds_late / DAY) - max(0, self.free_days - used))
        return score * min(self.most, self.per_day * paid)


def used_before(book: Gradebook, student: str, assignment: str) -> int:
    """Late days of a student in assignments that were due before this one."""
    due = book.find_assignment(assignment).duedate
    days = 0
    for other in book.assignments:
        if other.duedate and due and other.duedate < due:
            try:
                seconds = book.find_submission(other.name, student).total_seconds_late
            except MissingEntry:
                continue
            days += math.ceil(seconds / DAY)
    return days


def settle_penalties(course: Path, assignment: str) -> None:
    """Set the penalties of all submissions anew, from the points that they have now and the plugin of the config.

    nbgrader sets them when a submission is graded by tests. Points given by hand afterwards, an earlier assignment that
    came late, or a new date would not count.
    """
    config = settings(course)
    with gradebook(course) as book:
        penalties = AssignLatePenalties(config=config)
        penalties.gradebook, penalties.assignment_id = book, assignment
        penalties.init_plugin()
        for submission in book.assignment_submissions(assignment):
            for notebook in submission.notebooks:
                penalty = None
                if submission.total_seconds_late > 0:
                    late, student = submission.total_seconds_late, submission.student_id
                    penalty = penalties.plugin_inst.late_submission_penalty(student, notebook.score, late)
                    penalty = None if penalty is None else min(max(penalty, 0.0), notebook.score)
                notebook.late_submission_penalty = penalty
        book.db.commit()
