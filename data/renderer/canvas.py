"""The drawing canvas: one frontal map in centimetres, and the small shaping functions used on it.

Everything in a portrait is painted on a square map seen from the front. The origin is the point between the
pupils, x grows to the right of the picture, y grows upwards, z grows towards the camera.
"""

import cv2
import numpy as np

SIZE = 384  # texels along one side of the map
LEFT, TOP, SPAN = -15.0, 13.0, 30.0  # centimetres: x of the left edge, y of the top edge, length of a side
TEXEL = SPAN / SIZE  # centimetres

xx = (LEFT + (np.arange(SIZE, dtype=np.float32) + 0.5) * TEXEL)[None, :]  # one row of x positions, centimetres
yy = (TOP - (np.arange(SIZE, dtype=np.float32) + 0.5) * TEXEL)[:, None]  # one column of y positions, centimetres
abs_x = np.abs(xx)  # distance from the middle plane, for features that come in pairs
FLOOR = -16.0  # height of "nothing here", centimetres


def window(x0, x1, y0, y1):
    """Slices (rows, columns) of the map that cover x0..x1, y0..y1 centimetres."""
    columns = slice(max(0, int((x0 - LEFT) / TEXEL)), min(SIZE, int(np.ceil((x1 - LEFT) / TEXEL)) + 1))
    rows = slice(max(0, int((TOP - y1) / TEXEL)), min(SIZE, int(np.ceil((TOP - y0) / TEXEL)) + 1))
    return rows, columns


def bump(along, centre, width):
    """Gaussian bump of height 1; multiply one over xx with one over yy for a two-dimensional bump."""
    return np.exp(-(((along - centre) / width) ** 2))


def blob(cx, cy, sx, sy):
    """Gaussian spot at (cx, cy) centimetres and, if cx > 0, its mirror image. Cheap: two 1-D profiles."""
    return bump(abs_x, cx, sx) * bump(yy, cy, sy)


def step(low, high, value):
    """Smooth step from 0 at `low` to 1 at `high` (low may exceed high)."""
    t = np.clip((value - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def curve(positions, points):
    """Smooth curve through (position, value) points, evaluated at `positions` (any order of points)."""
    points = np.array(sorted(points), dtype=np.float64)
    fine = np.linspace(points[0, 0], points[-1, 0], 400)
    values = np.interp(fine, points[:, 0], points[:, 1])
    spacing = fine[1] - fine[0]
    values = blur_line(values, 0.55 / spacing)  # rounds the corners over about half a centimetre
    return np.interp(positions, fine, values).astype(np.float32)


def blur_line(values, sigma):
    """Gaussian blur of a 1-D array, keeping its ends."""
    radius = max(1, int(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    # Odd reflection keeps the end points where they are.
    left = 2 * values[0] - values[1 : radius + 1][::-1]
    right = 2 * values[-1] - values[-radius - 1 : -1][::-1]
    return np.convolve(np.concatenate([left, values, right]), kernel / kernel.sum(), mode="valid")


def union(a, b, k):
    """Smooth maximum of two heights; `k` centimetres is the size of the fillet."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + k * k))


def blur(image, sigma):
    """Gaussian blur; `sigma` in texels."""
    return cv2.GaussianBlur(image, (0, 0), float(sigma), borderType=cv2.BORDER_REPLICATE)


def noise(rng, cell, shape=(SIZE, SIZE), channels=1):
    """Smooth random field, mean 0 and standard deviation about 1; `cell` = feature size in texels."""
    small = (int(np.ceil(shape[0] / cell)) + 2, int(np.ceil(shape[1] / cell)) + 2)
    values = rng.standard_normal((*small, channels), dtype=np.float32)
    if cell <= 1:
        return np.squeeze(values[: shape[0], : shape[1]])
    big = cv2.resize(values, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.squeeze(big) * 1.3


def fractal(rng, cell, octaves=3, shape=(SIZE, SIZE)):
    """Sum of noise fields, each twice as fine and half as strong."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        total += noise(rng, max(1.0, cell / 2**octave), shape) * 0.5**octave
    return total / 1.15


def mix(a, b, weight):
    """a where weight is 0, b where it is 1; a 2-D weight is spread over colour channels."""
    a, b = np.asarray(a, np.float32), np.asarray(b, np.float32)
    if np.ndim(weight) == 2 and max(a.ndim, b.ndim) != 2:
        weight = weight[..., None]
    return a + (b - a) * weight


def strands(rng, along, across, length, width):
    """Hair-like noise: streaks `length` long in direction `along` and `width` wide in `across` (same units)."""
    table = rng.standard_normal((64, 64), dtype=np.float32)
    u, v = np.broadcast_arrays((along / length) % 64.0, (across / width) % 64.0)
    u, v = u.astype(np.float32), v.astype(np.float32)
    return cv2.remap(table, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
