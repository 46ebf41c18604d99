"""What can go wrong, as classes; every message is a sentence for the person at the keyboard."""


def printable(text: str) -> str:
    """``text`` as any terminal or page takes it: bytes of a file's name that are no UTF-8 are spelt out."""
    return text.encode("utf-8", "backslashreplace").decode()


class ImageError(ValueError):
    """A picture or a set of pictures that cannot be used; the message says which and why."""

    def __init__(self, message: str):
        super().__init__(printable(message))


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged or of another network; the message says which and what to do."""


class PrecisionError(ValueError):
    """A number format that is unknown, or that the device does not have."""


class TrainingError(RuntimeError):
    """Training cannot start or go on; the message says why and what is safe."""


class Stopped(TrainingError):
    """Training was asked to stop; everything is saved, and the same call goes on."""
