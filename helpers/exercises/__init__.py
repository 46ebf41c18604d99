"""What readers build in the chapters: for each exercise a check that says what is wrong, and a solution.

``build`` has the mechanism, ``ch01`` and the like the exercises of a chapter. A chapter holds, cell by cell, the stub,
``name = check(stub)``, the folded solution, and the comparison with the helper that does the same.
"""
