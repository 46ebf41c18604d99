"""How fast everything is, on the machine at hand: ``python -m tests.benchmarks --help``."""
