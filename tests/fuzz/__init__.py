"""Mutated files for everything that reads what strangers made: ``python -m tests.fuzz read_image --minutes 10``.

Each reader (:mod:`tests.fuzz.targets`) may raise its documented exception and nothing else, writes no file outside of
its folder, starts no program, and stays within its bounds of memory and time. What breaks that is kept under
``seeds/`` and tried again by ``tests/test_fuzz.py``.
"""
