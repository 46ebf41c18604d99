"""Eyes, brows and mouth: each adds a little height and paints its own window of the map."""

import numpy as np

from .canvas import blob, mix, step, strands, window, xx, yy
from .people import IRIS_COLOURS


def skin_window(shape, paint, x0, x1, y0, y1):
    """Views of x, y, height, colour, cavity and gloss on a window of the map (centimetres)."""
    rows, columns = window(x0, x1, y0, y1)
    x, y = xx[:, columns], yy[rows]
    part = (rows, columns)
    return x, y, shape["z"][part], paint["albedo"][part], paint["cavity"][part], paint["gloss"][part], part


def eye(p, rng, shape, paint, side):
    """Paint one eye; side is -1 (left in the picture) or +1."""
    cx = p["eye_distance"]
    x, y, z, albedo, cavity, gloss, part = skin_window(
        shape, paint, *sorted((side * (cx - 2.6), side * (cx + 2.9))), -2.2, 2.4
    )
    old = np.clip((p["age"] - 45) / 35, 0, 1)
    female = p["sex"] == "female"
    squint = max(p["smile"], 0.0)
    tilt = np.radians(p["eye_tilt"])
    dx, dy = x * side - cx, y
    along = (dx * np.cos(tilt) + dy * np.sin(tilt)) / p["eye_width"]  # -1 inner corner, +1 outer corner
    v = dy * np.cos(tilt) - dx * np.sin(tilt)
    upper = 0.53 * p["eye_open"] * (1 - 0.10 * squint) + 0.10 * max(p["brow"], 0.0) - 0.05 * max(-p["brow"], 0.0)
    lower = 0.46 * (0.75 + 0.25 * p["eye_open"]) * (1 - 0.30 * squint)
    bent = along + 0.16 * (1 - along**2)  # highest a little towards the nose
    inside = np.maximum(1 - np.abs(bent) ** 2.2, 0)
    inside_low = np.maximum(1 - np.abs(along - 0.12 * (1 - along**2)) ** 2.3, 0)
    lid_up, lid_low = upper * inside**0.72 - 0.02, -lower * inside_low**0.85
    d_up, d_low = lid_up - v, v - lid_low
    span = step(1.06, 0.96, np.abs(along))
    opening = step(0.0, 0.09, d_up) * step(0.0, 0.08, d_low) * span

    # Height: a lid-covered ball in the socket, the opening a little behind the lids.
    ball = 1.5**2 - (dx * 0.86) ** 2 - (dy - 0.02) ** 2
    lid = np.sqrt(np.maximum(ball, 0.01)) - 1.5 + 0.12
    blend = step(1.75, 0.55, np.sqrt((dx / 1.1) ** 2 + (dy / 0.72) ** 2))
    z += (np.maximum(z, lid) - z) * blend
    z -= 0.12 * opening

    # Skin round the eye: crease, lid shade, lower-lid line, bags, crow's feet.
    crease_gap = p["eye_crease"] * (1 - 0.25 * max(p["brow"], 0)) * (0.9 - 0.5 * old)
    above = v - lid_up
    crease = np.exp(-(((above - crease_gap * (0.55 + 0.45 * inside)) / 0.10) ** 2)) * step(1.25, 0.85, np.abs(along))
    cavity *= 1 - (0.42 + 0.15 * female * p["makeup"]) * crease
    lid_zone = (
        step(0.0, 0.06, above) * step(crease_gap + 0.05, crease_gap - 0.05, above) * step(1.1, 0.8, np.abs(along))
    )
    shadow_colour = np.array([0.42, 0.36, 0.36], np.float32)
    albedo *= mix(1.0, shadow_colour, 0.55 * p["makeup"] * np.clip(lid_zone + 0.5 * crease, 0, 1))
    cavity *= 1 - 0.16 * lid_zone
    below = lid_low - v
    cavity *= 1 - (0.14 + 0.2 * old) * np.exp(-(((below - 0.42) / 0.12) ** 2)) * step(1.1, 0.6, np.abs(along))
    cavity *= 1 - 0.25 * np.exp(-((along + 1.12) ** 2 / 0.03) - (v / 0.3) ** 2)
    feet = (0.10 * squint + 0.35 * old) * step(1.1, 1.4, along) * step(2.5, 1.7, along)
    rays = np.cos(np.arctan2(v + 0.05, along - 0.6) * 13 + rng.uniform(0, 6)) ** 8
    cavity *= 1 - np.clip(feet * rays, 0, 0.6) * 0.45

    # The eye itself.
    gaze = np.array([0.13 * p["gaze_x"] - 0.012 * p["yaw"] * 0.6, 0.05 * p["gaze_y"] + 0.03])
    ix, iy = x - side * cx - gaze[0], y - gaze[1]
    radius = np.sqrt(ix**2 + iy**2)
    angle = np.arctan2(iy, ix)
    iris_radius = 0.62
    colour = np.array(IRIS_COLOURS[p["eye_colour"]], np.float32)
    fibres = 1 + 0.22 * strands(rng, 1.0, angle * 5.0, 1.0, 0.5) + 0.35 * (iy < 0) * (radius < 0.5)
    iris = colour * np.clip(fibres, 0.3, 2)[..., None]
    iris = mix(iris, colour * np.array([1.5, 1.1, 0.7]), 0.4 * step(0.36, 0.24, radius))
    iris = mix(iris, colour * 0.25, step(iris_radius * 0.80, iris_radius, radius))
    iris = mix(iris, 0.006, step(0.27, 0.22, radius))
    white_shade = 1 - 0.58 * p["melanin"]
    veins = 1 - 0.10 * np.abs(along) ** 2
    sclera = np.array([0.345, 0.30, 0.265], np.float32) * white_shade * (0.92 + 0.08 * veins[..., None])
    sclera = mix(sclera, [0.55, 0.26, 0.22], 0.8 * step(-0.72, -0.98, along))
    sclera = mix(sclera, [0.50, 0.34, 0.28], 0.35 * step(0.6, 1.0, np.abs(along)))
    eye_colour = mix(sclera, iris, step(iris_radius + 0.05, iris_radius - 0.05, radius))
    shade = (1 - 0.72 * np.exp(-((np.maximum(d_up, 0) / 0.26) ** 2))) * (1 - 0.22 * np.exp(-((d_low / 0.10) ** 2)))
    shade *= 1 - 0.35 * np.clip(np.abs(along), 0, 1) ** 3
    albedo += (eye_colour - albedo) * opening[..., None]
    cavity += (shade - cavity) * opening
    gloss += (0.0 - gloss) * opening
    # Water line and lashes.
    waterline = np.exp(-(((d_low - 0.03) / 0.05) ** 2)) * span
    albedo += (np.array([0.50, 0.30, 0.25]) * (0.5 + paint["albedo"].mean()) - albedo) * (0.30 * waterline)[..., None]
    thick = (0.075 + 0.04 * p["makeup"]) * (0.7 + 0.5 * step(-0.8, 0.9, along))
    lash = np.exp(-(np.clip((d_up + 0.03) / thick, -9, 9) ** 2)) * step(1.22 + 0.12 * p["makeup"], 0.95, along)
    lash *= step(-1.05, -0.85, along)
    fan = np.clip(strands(rng, above, along + 0.15 * above, 3.0, 0.07), 0, 1.5) * step(0.25, 0.0, above)
    lash = np.clip(lash * (0.75 + 0.25 * p["makeup"]) + 0.5 * fan * step(0, 0.05, above) * step(0.1, 0.7, along) * (
        0.25 + p["makeup"]) * span, 0, 0.96)  # fmt: skip
    low_lash = np.exp(-(((below - 0.02) / 0.06) ** 2)) * step(-0.7, 0.6, along) * span * (0.36 + 0.34 * p["makeup"])
    dark = np.array([0.018, 0.013, 0.011], np.float32) if p["hair_grey"] < 0.6 or female else 0.08
    cover = np.clip(lash + low_lash, 0, 0.95)[..., None]
    albedo += (dark - albedo) * cover
    gloss *= 1 - 0.8 * cover[..., 0]
    # Catchlight, on the side the light comes from.
    lx = gaze[0] + 0.20 * np.sin(np.radians(p["light_azimuth"]))
    ly = gaze[1] + 0.10 + 0.14 * np.sin(np.radians(p["light_elevation"]))
    glint = np.exp(-(((x - side * cx - lx) / 0.12) ** 2) - (((y - ly) / 0.12) ** 2)) * opening
    paint["glint"][part] += 0.85 * glint


def brow(p, rng, shape, paint, side, colour):
    """Paint one eyebrow as hair strokes on skin."""
    x, y, z, albedo, cavity, gloss, _ = skin_window(shape, paint, *sorted((side * 0.4, side * 6.4)), 0.4, 4.2)
    a = x * side
    raised, frown = max(p["brow"], 0.0), max(-p["brow"], 0.0)
    start, end = 1.15 - 0.25 * frown + rng.normal(0, 0.08), 5.15 + rng.normal(0, 0.12)
    t = np.clip((a - start) / (end - start), -0.2, 1.2)
    arch = p["brow_arch"]
    line = p["brow_height"] - 0.30 + 0.55 * raised - 0.25 * frown * (1.4 - t)
    line = line + (0.25 + arch) * np.sin(np.clip(t / 0.66, 0, 1) * np.pi / 2) - (0.55 + arch) * np.clip(
        (t - 0.62) / 0.38, 0, 1.5) ** 1.5  # fmt: skip
    thick = p["brow_thickness"] * (1.0 - 0.72 * np.clip((t - 0.35) / 0.65, 0, 1)) * (0.75 + 0.25 * step(0, 0.2, t))
    d = (y - line) / thick
    hair = strands(rng, a + 0.4 * (y - line), (y - line) - 0.30 * a * step(1, 0.2, t), 0.9, 0.10)
    hair = hair + 0.8 * strands(rng, a, y - 0.6 * a, 0.5, 0.16)
    density = step(1.25, 0.35, np.abs(d) + 0.16 * hair) * step(-0.06, 0.12, t) * step(1.03, 0.85, t)
    cover = np.clip(density * p["brow_density"] * (1 - 0.4 * p["hair_grey"]) * (0.86 + 0.18 * hair), 0, 0.95)
    albedo += (colour - albedo) * cover[..., None]
    gloss *= 1 - cover
    z += 0.06 * cover
    cavity *= 1 - 0.10 * np.exp(-(((y - line) / 0.6) ** 2)) * step(-0.1, 0.1, t) * step(1.1, 0.9, t)


def mouth(p, rng, shape, paint, skin_colour):
    """Lips, teeth and the dark of the mouth."""
    smile, opened = p["smile"], p["mouth_open"]
    happy = max(smile, 0.0)
    half = p["mouth_width"] * (1 + 0.27 * happy) * (1 - 0.08 * max(opened - 0.3, 0) * (smile < 0.4))
    centre = -p["mouth_height"] + 0.12 * happy
    x, y, z, albedo, cavity, gloss, _ = skin_window(shape, paint, -4.6, 4.6, centre - 3.6, centre + 2.4)
    ax = np.abs(x)
    t = np.clip(ax / half, 0, 1.3)
    inside = np.maximum(1 - t**2, 0)
    teeth = smile > 0.4 and opened > 0
    corner = (0.72 * smile) * np.clip(t, 0, 1.2) ** 2 - 0.10 * np.exp(-(((t - 1) / 0.2) ** 2)) * (smile < 0.3)
    mid = centre + corner - 0.06 * np.exp(-((ax / 0.45) ** 2)) + 0.05 * np.exp(-(((ax - 0.9) / 0.5) ** 2))
    gap_up = opened * (0.55 if teeth else 0.30) * inside**0.75
    gap_low = opened * (1.60 if teeth else 1.15) * inside ** (0.85 if teeth else 0.65)
    upper = p["lip_upper"] * (1 - 0.25 * happy) * (1 - 0.15 * opened)
    lower = p["lip_lower"] * (1 - 0.32 * happy)
    bow = 1 - 0.22 * np.exp(-((ax / 0.30) ** 2)) + 0.08 * np.exp(-(((ax - 0.55) / 0.4) ** 2))
    top = mid + gap_up + upper * inside**0.80 * bow
    bottom = mid - gap_low - lower * np.maximum(1 - t**2.4, 0) ** 0.80
    above_gap, below_gap = y - (mid + gap_up), (mid - gap_low) - y
    soft_edge = 0.16 - 0.06 * p["lipstick"]
    lip_up = step(0, 0.06, above_gap) * step(-soft_edge / 2, soft_edge, top - y) * (t < 1)
    lip_low = step(0, 0.06, below_gap) * step(-soft_edge / 2, soft_edge * 1.2, y - bottom) * (t < 1)
    gap = step(0, -0.06, above_gap) * step(0, -0.06, below_gap) * step(1.0, 0.96, t)

    # Height: two rolls, a groove between them, the surface sinks at the corners.
    rise_up = np.clip(above_gap / np.maximum(top - mid - gap_up, 0.08), 0, 1)
    rise_low = np.clip(below_gap / np.maximum(mid - gap_low - bottom, 0.08), 0, 1)
    z += 0.30 * np.sqrt(np.maximum(rise_up * (1.35 - rise_up), 0)) * lip_up * inside**0.4
    z += 0.42 * np.sqrt(np.maximum(rise_low * (1.15 - rise_low), 0)) * lip_low * inside**0.4
    z -= 0.15 * np.exp(-(((ax - half) / 0.35) ** 2) - ((y - mid) / 0.4) ** 2)
    z -= 0.25 * gap
    z -= 0.22 * np.exp(-(((bottom - y - 0.35) / 0.35) ** 2)) * np.exp(-((ax / 1.6) ** 2))

    dark = p["melanin"]
    natural = skin_colour * np.array([0.90, 0.47, 0.50]) + np.array([0.03, 0.004, 0.008]) * (1 - dark)
    stick = np.array([[0.42, 0.045, 0.06], [0.33, 0.09, 0.10], [0.38, 0.12, 0.12], [0.22, 0.03, 0.05]])[
        rng.integers(4)] * (1 - 0.45 * dark)  # fmt: skip
    colour = mix(natural, stick, 0.75 * p["lipstick"])
    texture = 1 + 0.07 * strands(rng, y, x + 0.1 * y, 1.2, 0.12)
    lips = np.clip(lip_up + lip_low, 0, 1)
    shade = np.where(lip_up > lip_low, 0.80, 1.0)[..., None]
    cover = lips * (0.72 + 0.25 * p["lipstick"])
    albedo += (colour * shade * texture[..., None] - albedo) * cover[..., None]
    gloss += (0.75 + 0.5 * p["lipstick"] - gloss) * (lip_low * 0.9 + 0.4 * lip_up)
    line_width = 0.075 + 0.03 * (1 - t)
    line = np.exp(-(((y - mid) / line_width) ** 2)) * step(1.08, 0.9, t) * (opened == 0)
    cavity *= 1 - 0.80 * line
    cavity *= 1 - 0.45 * np.exp(-(((ax - half) / 0.22) ** 2) - ((y - mid) / 0.16) ** 2)
    cavity *= 1 - 0.20 * np.exp(-(((bottom - y - 0.22) / 0.22) ** 2)) * np.exp(-((ax / 1.7) ** 2))

    if opened > 0:
        inner = np.array([0.075, 0.022, 0.02]) * np.ones_like(albedo)
        tongue = np.exp(-((ax / 1.4) ** 2)) * step(0.35, 0.0, y - (mid - gap_low))
        inner = mix(inner, [0.22, 0.07, 0.065], 0.7 * tongue)
        widths = np.array([0.0, 0.43, 0.80, 1.18, 1.52, 1.85, 2.15, 2.45])  # edges between teeth, centimetres
        number = np.clip(np.searchsorted(widths, ax[0]) - 1, 0, 6)
        left, right = widths[number], widths[number + 1]
        place = (ax[0] - left) / (right - left) * 2 - 1
        edge = mid + gap_up - (0.92 - 0.10 * (number == 1) - 0.05 * number) * (0.9 + 0.1 * happy)
        edge = edge + 0.12 * (np.abs(place) ** 4)[None, :] + 0.16 * np.clip(t, 0, 1) ** 2
        tooth = step(0.0, 0.09, y - edge) * (1 - 0.42 * np.abs(place[None, :]) ** 7)
        white = np.array([0.70, 0.64, 0.545], np.float32) * (1 - 0.22 * p["age"] / 85)
        fall = (1 - 0.75 * np.clip(t, 0, 1) ** 1.8) * (1 - 0.45 * np.exp(-((above_gap / 0.20) ** 2)))
        inner = mix(inner, white * fall[..., None], tooth * step(0.95, 0.62, t))
        if opened > 0.45 and rng.random() < 0.5:  # lower teeth show a little
            low = step(0.30, 0.15, y - (mid - gap_low)) * step(0.75, 0.5, t)
            inner = mix(inner, white * 0.55 * np.ones_like(albedo), 0.7 * low)
        albedo += (inner - albedo) * gap[..., None]
        cavity += (1.0 - cavity) * gap
        gloss += (0.15 - gloss) * gap
        rim = np.exp(-((above_gap / 0.06) ** 2)) * step(1.0, 0.9, t) + np.exp(-((below_gap / 0.06) ** 2)) * (t < 0.95)
        cavity *= 1 - 0.35 * np.clip(rim, 0, 1)


def nostrils(p, shape, paint):
    """Dark nostrils, shade under the tip, and the grooves of the wings."""
    base = shape["nose_base"]
    x, y, z, albedo, cavity, gloss, _ = skin_window(shape, paint, -2.8, 2.8, base - 1.2, base + 2.2)
    ax = np.abs(x)
    width = p["nose_width"]
    cx, cy = 0.43 * width + 0.02, base + 0.02
    tilt = y - cy + 0.22 * (ax - cx)
    hole = np.exp(-((((ax - cx) / (0.22 * width)) ** 2 + (tilt / 0.15) ** 2) ** 1.5))
    cavity *= 1 - 0.74 * hole
    cavity *= 1 - 0.12 * np.exp(-(((y - base + 0.02) / 0.18) ** 2)) * step(width + 0.1, width - 0.4, ax)
    groove = np.exp(-(((np.sqrt(((ax - width + 0.45) / 0.66) ** 2 + ((y - base - 0.42) / 0.70) ** 2) - 1) / 0.24) ** 2))
    cavity *= 1 - 0.26 * groove * step(width - 0.75, width - 0.2, ax)
    gloss += 0.35 * blob(0.0, base + 0.75, 0.5, 0.45)[window(-2.8, 2.8, base - 1.2, base + 2.2)]
