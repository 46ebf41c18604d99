"""nbgrader's execution of a submission, made to outlive the code that it runs."""

import time
from copy import deepcopy

from nbclient.exceptions import CellTimeoutError, DeadKernelError
from nbformat.v4 import new_output
from nbgrader.preprocessors import Execute
from nbgrader.utils import is_grade
from traitlets import Integer


class Survive(Execute):
    """Runs a notebook although a cell may end the kernel or never end.

    nbgrader gives up a submission whose kernel dies, and waits out every cell after an endless loop that ignores its
    interruption. Here a cell that ends the kernel or exceeds its time is set aside as failed, and the notebook is run
    again in a new kernel without it: what does not depend on that cell keeps its points.
    """

    submission_timeout = Integer(300, help="seconds for a whole submission, all attempts together").tag(config=True)
    lives = Integer(4, help="how many kernels a submission may use up").tag(config=True)
    interrupt_on_timeout = False  # a cell out of time ends its kernel, see above
    shutdown_kernel = "immediate"

    def preprocess(self, nb, resources, km=None):
        self._end = time.monotonic() + self.submission_timeout
        original, failed = deepcopy(nb), {}
        for _ in range(self.lives):
            attempt = deepcopy(original)
            for index in failed:
                attempt.cells[index].cell_type = "raw"  # not run
            try:
                attempt, resources = super().preprocess(attempt, resources, km)
                break
            except (DeadKernelError, CellTimeoutError) as error:
                failed[self._at] = "took too long" if isinstance(error, CellTimeoutError) else "ended the kernel"
                self.log.warning("Cell %d %s", self._at, failed[self._at])
                if time.monotonic() > self._end:
                    failed |= {i: "was not reached in time" for i in range(self._at + 1, len(original.cells))}
                    break
        else:
            failed |= {i: "was not reached: too many cells ended the kernel" for i in range(len(original.cells))}
        for index, why in failed.items():
            cell = attempt.cells[index] = deepcopy(original.cells[index])
            if cell.cell_type == "code":
                text = f"this cell {why}"
                cell.outputs = [new_output("error", ename="NotGraded", evalue=text, traceback=[f"NotGraded: {text}"])]
        for cell in attempt.cells:
            if is_grade(cell) and cell.cell_type == "code":
                # nbgrader takes anything on standard error for a failure, be it a warning or a progress bar.
                cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        nb.cells = attempt.cells
        return nb, resources

    def preprocess_cell(self, cell, resources, index):
        self._at = index
        return super().preprocess_cell(cell, resources, index)

    def _get_timeout(self, cell):
        """Seconds for this cell: what is configured, or what is left for the submission."""
        return max(1, min(super()._get_timeout(cell) or self.submission_timeout, int(self._end - time.monotonic())))
