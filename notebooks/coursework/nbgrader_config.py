"""How nbgrader runs this course; the folder that course.py makes loads this file and may override it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # for execution.Survive and late.LateDays

c = get_config()  # noqa: F821 - given by nbgrader
c.CourseDirectory.course_id = "face_restoration"
c.ClearSolutions.code_stub = {"python": '# YOUR CODE HERE\nraise NotImplementedError("not solved yet")'}
c.ClearSolutions.text_stub = "YOUR ANSWER HERE"
c.ClearMarkScheme.enforce_metadata = False  # rubrics stand under the question, in a cell that nobody can edit

# The rules of execution.Survive: seconds for a cell, for a submission.
c.Execute.timeout = 60
c.Survive.submission_timeout = 300
standard = "nbgrader.preprocessors."
c.Autograde.autograde_preprocessors = [
    "execution.Survive",  # in place of nbgrader's Execute
    standard + "IgnorePattern",
    standard + "LimitOutput",
    standard + "SaveAutoGrades",
    standard + "AssignLatePenalties",
    standard + "CheckCellMetadata",
]
c.OverwriteCells.add_missing_cells = False  # submissions.py does it, from the released notebook
# Points off for late submissions, see late.py:
# c.AssignLatePenalties.plugin_class = "late.LateDays"
