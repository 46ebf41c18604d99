"""Backgrounds: out-of-focus places, painted at low resolution in linear light."""

import cv2
import numpy as np

from .canvas import blur, fractal, mix, step
from .wear import cloth_colour

GRID = 96  # backgrounds are blurred, so a coarse grid is enough


def paint(p, rng, size):
    """Background (size, size, 3), linear RGB around mid-grey."""
    kind = p["background"]
    v, u = np.meshgrid(np.linspace(0, 1, GRID, dtype=np.float32), np.linspace(0, 1, GRID, dtype=np.float32),
                       indexing="ij")  # fmt: skip
    first, second = cloth_colour(rng), cloth_colour(rng)
    first, second = mix(first, first.mean(), rng.uniform(0.35, 1.0)), mix(second, second.mean(), rng.uniform(0.35, 1.0))
    softness = rng.uniform(0.9, 4.5)
    if kind == "studio":
        distance = np.hypot(u - rng.uniform(0.2, 0.8), v - rng.uniform(0.2, 0.7))
        image = first * (1.15 - rng.uniform(0.3, 1.0) * distance)[..., None]
        softness = 6
    elif kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        t = step(
            -0.6, 0.6, (u - 0.5) * np.cos(angle) + (v - 0.5) * np.sin(angle) + 0.12 * fractal(rng, 24, 2, (GRID, GRID))
        )
        image = mix(first * np.ones((GRID, GRID, 3)), second, t)
    elif kind == "bokeh":
        image = mix(first, second, v[..., None]) * 0.35
        for _ in range(rng.integers(10, 40)):
            centre = tuple(int(c) for c in rng.integers(0, GRID, 2))
            disc = np.zeros((GRID, GRID), np.uint8)
            cv2.circle(disc, centre, int(rng.integers(2, 8)), 255, -1, cv2.LINE_AA)
            glow = cloth_colour(rng) * 0.5 + np.array([0.5, 0.42, 0.3]) * rng.uniform(0.2, 1.0)
            image = image + (disc / 255.0)[..., None] * glow * rng.uniform(0.15, 0.9)
        softness = rng.uniform(0.8, 1.8)
    elif kind == "indoor":
        image = np.ones((GRID, GRID, 3), np.float32) * first
        for _ in range(rng.integers(3, 9)):
            x0, y0 = rng.integers(-16, GRID, 2)
            w, h = rng.integers(7, 60), rng.integers(12, 90)
            panel = np.zeros((GRID, GRID), np.float32)
            cv2.rectangle(panel, (int(x0), int(y0)), (int(x0 + w), int(y0 + h)), 1.0, -1)
            image = mix(image, cloth_colour(rng) * rng.uniform(0.3, 1.4), panel * rng.uniform(0.5, 1.0))
        image = image * (1 + 0.15 * fractal(rng, 20, 2, (GRID, GRID)))[..., None]
    elif kind == "outdoor":
        sky = np.array([[0.42, 0.55, 0.75], [0.75, 0.75, 0.74], [0.7, 0.6, 0.45]])[rng.integers(3)] * rng.uniform(
            0.7, 1.3
        )
        green = np.array([[0.06, 0.11, 0.03], [0.12, 0.14, 0.05], [0.16, 0.13, 0.09], [0.05, 0.07, 0.03]])[
            rng.integers(4)
        ]
        leaves = fractal(rng, 14, 3, (GRID, GRID))
        line = rng.uniform(-0.2, 0.9) + 0.10 * fractal(rng, 18, 2, (GRID, GRID))
        ground = green * np.exp(0.65 * leaves)[..., None]
        image = mix(sky * np.ones((GRID, GRID, 3)), ground, step(-0.04, 0.04, v - line))
        holes = step(1.0, 1.8, leaves + 0.3 * fractal(rng, 5, 1, (GRID, GRID)))
        image = mix(image, sky, 0.8 * holes)
    else:  # wall: bricks, boards or plaster
        choice = rng.integers(3)
        rows = rng.integers(6, 16)
        joints = np.abs(np.sin(v * np.pi * rows)) if choice < 2 else np.ones_like(v)
        if choice == 1:
            joints = np.abs(np.sin(u * np.pi * rows))
        image = first * (0.75 + 0.25 * step(0.0, 0.3, joints) + 0.14 * fractal(rng, 12, 3, (GRID, GRID)))[..., None]
    image = image * 1.7 * np.exp(rng.normal(0, 0.45))  # background and face are seldom lit alike
    image = blur(np.clip(image, 0.004, 4.0).astype(np.float32), softness)
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_CUBIC)
