"""Changes of a file that its reader may not survive."""

import random
import struct
import zlib

EDGES = [0, 1, 2, 4, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1]
LARGEST = 200_000  # bytes of a mutated file
PNG = b"\x89PNG\r\n\x1a\n"


def mutated(draw: random.Random, pool: list[bytes], words: list[bytes]) -> bytes:
    """A file of the pool after one to eight changes; ``words`` are pieces that mean something to its reader."""
    data = bytearray(draw.choice(pool))
    for _ in range(min(8, 1 + int(draw.expovariate(0.5)))):
        draw.choice(CHANGES)(draw, data, pool, words)
    del data[LARGEST:]
    if data.startswith(PNG) and draw.random() < 0.7:
        _true_sums(data)
    return bytes(data)


def _place(draw, data) -> int:
    # Beginnings hold what decides: every second change is made there.
    return draw.randrange(len(data) + 1) if draw.random() < 0.5 else draw.randrange(min(len(data), 200) + 1)


def _bit(draw, data, pool, words):
    if data:
        data[min(_place(draw, data), len(data) - 1)] ^= 1 << draw.randrange(8)


def _byte(draw, data, pool, words):
    if data:
        data[min(_place(draw, data), len(data) - 1)] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))


def _number(draw, data, pool, words):
    size = draw.choice("BHIQ")
    value = draw.choice((draw.choice(EDGES), draw.getrandbits(16), len(data))) & (2 ** (8 * struct.calcsize(size)) - 1)
    at = _place(draw, data)
    data[at : at + struct.calcsize(size)] = struct.pack(draw.choice("<>") + size, value)


def _word(draw, data, pool, words):
    word, at = draw.choice(words), _place(draw, data)
    data[at : at + (len(word) if draw.random() < 0.5 else 0)] = word


def _swap(draw, data, pool, words):
    """One known word in the place of another."""
    word = draw.choice(words)
    if (at := data.find(word, _place(draw, data))) >= 0:
        data[at : at + len(word)] = draw.choice(words)


def _insert(draw, data, pool, words):
    at = _place(draw, data)
    data[at:at] = bytes([draw.randrange(256)]) * draw.choice((1, 2, 7, 64, 1000))


def _remove(draw, data, pool, words):
    at = _place(draw, data)
    del data[at : at + draw.choice((1, 2, 4, 16, 200))]


def _copy(draw, data, pool, words):
    start, at = _place(draw, data), _place(draw, data)
    data[at:at] = data[start : start + draw.choice((1, 4, 16, 64, 500))]


def _cut(draw, data, pool, words):
    del data[_place(draw, data) :]


def _splice(draw, data, pool, words):
    other = draw.choice(pool)
    data[_place(draw, data) :] = other[_place(draw, other) :]


def _digits(draw, data, pool, words):
    """A number that is written out, as JSON does, by another."""
    found = [i for i, c in enumerate(data[:4000]) if 48 <= c < 58]
    if found:
        at = end = draw.choice(found)
        while end < len(data) and 48 <= data[end] < 58:
            end += 1
        data[at:end] = str(draw.choice([*EDGES, draw.randrange(300), -1])).encode()


CHANGES = [_bit, _byte, _byte, _number, _number, _word, _swap, _insert, _remove, _copy, _cut, _splice, _digits]


def _true_sums(data: bytearray) -> None:
    """The checksums of a PNG's chunks, without which no reader looks at them."""
    at = 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        end = at + 8 + size
        if end + 4 > len(data):
            return
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4
