"""The head as a height field: z(x, y) in centimetres, seen from the front, plus neck and shoulders."""

import numpy as np

from .canvas import FLOOR, SIZE, abs_x, blob, blur, bump, curve, step, union, yy

BACK = -10.0  # depth of the widest part of the head behind the pupils, centimetres


def outline(p):
    """Half width of the head at each row of the map (SIZE, 1), in centimetres; 0 above and below the head."""
    length, width = p["face_length"], p["face_width"]
    jaw, chin, weight = p["jaw_width"], p["chin_width"], p["weight"]
    points = [
        (12.3, 0.0), (11.9, 2.6), (11.0, 4.5), (9.6, 6.0), (7.8, 6.95), (5.8, 7.45), (3.8, 7.5), (1.8, 7.3),
        (0.0, 7.05), (-2.0, 6.85 + 0.15 * weight), (-4.0, 6.5 + 0.4 * weight),
        (-6.0, 6.15 * jaw + 0.6 * weight), (-7.6, 5.6 * jaw + 0.7 * weight), (-9.0, 4.65 * jaw + 0.6 * weight),
        (-10.1, 3.45 * chin + 0.35 * weight), (-10.9, 2.3 * chin + 0.2 * weight), (-11.5, 0.0),
    ]  # fmt: skip
    y = yy[:, 0]
    half = curve(y / length, points) * width
    low = y < 3.0  # below the temples the outline only narrows: no bulging jaws
    half[low] = np.minimum.accumulate(half[low])
    return np.clip(half, 0.0, None)[:, None].astype(np.float32), -11.5 * length, 12.3 * length


def profile(p):
    """Height of the middle line at each row (SIZE, 1): forehead, mid-face, chin, without nose and lips."""
    chin = 0.25 * (p["chin_width"] - 1.0) * 4
    ridge = p["brow_ridge"]
    points = [
        (12.3, BACK), (11.9, -7.9), (11.0, -5.6), (9.8, -3.5), (8.2, -1.45), (6.6, -0.1), (5.0, 0.65),
        (3.4, 0.95 + 0.2 * ridge), (2.0, 1.05 + 0.6 * ridge), (0.6, 0.55), (-1.0, 0.75), (-3.0, 1.05), (-5.0, 1.45),
        (-7.2, 1.55), (-8.7, 1.1), (-10.0, 1.15 + chin), (-10.8, 0.5 + chin), (-11.3, -1.6), (-11.5, -4.0),
    ]  # fmt: skip
    return curve(yy[:, 0] / p["face_length"], points)[:, None]


def face(p):
    """Height of the head without ears, and its mask."""
    half, bottom, top = outline(p)
    ratio = abs_x / np.maximum(half, 0.05)
    power = 2.2
    dome = np.maximum(1.0 - np.minimum(ratio, 1.0) ** power, 0.0) ** (1.0 / power)
    z = BACK + (profile(p) - BACK) * dome
    mask = step(1.0, 0.985, ratio) * (yy > bottom) * (yy < top)

    # Large forms: temples in, cheekbones out, hollow or full cheeks, muzzle round the mouth, chin, brow ridge.
    weight, ridge = p["weight"], p["brow_ridge"]
    old = np.clip((p["age"] - 40) / 40, 0, 1)
    z = z - 0.45 * blob(6.2, 3.0, 1.3, 2.2)
    z = z + p["cheekbone"] * 1.15 * blob(5.0, -2.3, 1.5, 1.2)
    z = z + (0.15 + 0.45 * weight) * blob(4.2, -5.6, 1.7, 2.0) - 0.25 * old * blob(4.6, -5.2, 1.1, 1.6)
    z = z + 0.45 * blob(0.0, -7.2, 2.6, 1.9)
    z = z + 0.28 * blob(0.0, -10.0, 1.3 * p["chin_width"], 0.8) - 0.30 * blob(0.0, -8.95, 1.5, 0.42)
    z = z + 0.42 * ridge * blob(2.7, 1.75, 1.7, 0.6) + 0.35 * ridge * blob(0.0, 1.7, 1.0, 0.6)
    z = z - 0.10 * ridge * blob(0.0, 3.2, 3.5, 0.7)
    z = z + 0.30 * (old + 0.5 * max(weight, 0)) * blob(3.6, -8.8, 0.8, 1.0)  # jowls
    # Eye sockets: deep beside the nose, shallower outside.
    z = z - 0.85 * blob(2.95, 0.35, 1.65, 1.05) - 0.55 * blob(1.55, 0.45, 0.65, 0.8)
    # A smile lifts and rounds the cheeks.
    smile = max(p["smile"], 0.0)
    z = z + 0.55 * smile * blob(3.9, -3.5, 1.2, 1.0)
    return z, mask


def nose(p, z):
    """Add the nose to the height field; returns the new heights and the y of the nose base."""
    base = -p["nose_length"]
    tip_y, width, tip = base + 0.52, p["nose_width"], p["nose_tip"]
    height = p["nose_height"]
    y = yy[:, 0]
    bridge_height = 0.55 * height * (0.6 + 0.6 * p["bridge"])
    points = [
        (2.2, 0.0), (1.2, 0.10), (0.3, 0.45 * p["bridge"] + 0.1), (-1.5, bridge_height), (tip_y + 0.35, height * 0.95),
        (tip_y - 0.25, height * 0.74), (base - 0.12, height * 0.15), (base - 0.45, 0.0), (base - 0.9, 0.0),
    ]  # fmt: skip
    ridge = curve(y, points)
    half = curve(y, [(2.2, 0.85), (0.3, 0.72), (-1.5, 0.92), (tip_y + 0.6, 1.05 * tip + 0.25), (base, 1.0)])
    ridge, half = np.maximum(ridge, 0)[:, None], half[:, None]
    before = z
    bridge_shape = 1.0 / (1.0 + (abs_x / half) ** 3.2)  # flat back, then a flank
    z = z + ridge * bridge_shape
    z = z + 0.44 * np.sqrt(
        np.maximum(1 - (abs_x / (tip * 1.25)) ** 2 - ((yy - tip_y) / 0.72) ** 2, 0)
    )  # ball of the tip
    z = z + 0.48 * blob(0.72, base + 0.42, 0.45, 0.45)  # fills the gap between ball and wings
    # Wings (alae): rounded, set back, with a groove above and outside.
    wing = np.sqrt(np.maximum(1 - ((abs_x - width + 0.58) / 0.68) ** 2 - ((yy - base - 0.42) / 0.66) ** 2, 0))
    z = np.where(wing > 0, union(z, before + 0.10 + (0.28 + 0.36 * height) * wing, 0.2), z)
    z = z - 0.12 * blob(width + 0.20, base + 0.45, 0.25, 0.55) - 0.08 * blob(width - 0.25, base + 1.2, 0.45, 0.25)
    # Philtrum: a shallow groove with two ridges.
    z = z - 0.05 * blob(0.0, base - 0.75, 0.20, 0.5) + 0.02 * blob(0.42, base - 0.75, 0.18, 0.5)
    return z, base


def folds(p, z):
    """Nasolabial folds, marionette lines and bags, as small steps in the height field; also returns a dark mask."""
    old = np.clip((p["age"] - 30) / 45, 0, 1)
    smile = max(p["smile"], 0.0)
    depth = 0.02 + 0.16 * old + 0.15 * smile + 0.06 * max(p["weight"], 0)
    base = -p["nose_length"]
    t = np.clip((base + 0.5 - yy) / 3.6, 0, 1)  # 0 at the wing of the nose, 1 beside the mouth
    fold_x = p["nose_width"] + 0.25 + (1.45 + 0.35 * smile) * t**1.15
    along = step(0.0, 0.15, t) * step(1.0, 0.6, t)
    line = np.exp(-(((abs_x - fold_x) / 0.20) ** 2)) * along
    outside = step(-0.1, 0.9, abs_x - fold_x) * np.exp(-(((abs_x - fold_x) / 1.6) ** 2)) * along
    z = z + depth * (1.1 * outside - 0.5 * line)
    bag = (0.04 + 0.20 * old) * np.exp(-(((yy + 1.25 - 0.10 * (abs_x - 3.1) ** 2) / 0.28) ** 2)) * bump(abs_x, 3.0, 1.2)
    z = z + bag
    return z, line * depth * 2.2 + 0.5 * old * np.roll(bag, 4, axis=0)


def ears(p, z, mask):
    """Add the ears behind the face; returns heights, mask and the ear-only mask."""
    size = p["ear_size"]
    centre_x, centre_y = 7.15 * p["face_width"], -1.4
    u = (abs_x - centre_x - 0.16 * (yy - centre_y)) / (0.88 * size)
    v = (yy - centre_y) / (2.9 * size)
    u = u + 0.35 * v * (v < 0) * -1.0  # the lobe lies closer to the head
    radius = np.sqrt(u * u + v * v)
    ear = step(1.03, 0.95, radius)
    rim = np.exp(-(((radius - 0.84) / 0.13) ** 2)) * step(-0.9, -0.2, v)
    inner = np.exp(-(((radius - 0.50) / 0.15) ** 2)) * step(-0.5, 0.3, v) * 0.6
    ear_z = -7.6 - 0.5 * u + 0.45 * rim + 0.3 * inner - 0.55 * bump(radius, 0.15, 0.3)
    show = ear * (ear_z > z)
    z = np.where(show > 0.5, ear_z, z)
    hollow = step(0.62, 0.2, radius) * 0.9 + 0.35 * np.exp(-(((radius - 0.68) / 0.07) ** 2)) * (v > -0.3)
    return z, np.maximum(mask, ear), show, np.clip(hollow, 0, 1)


def neck_and_shoulders(p):
    """Heights of neck and shoulders (centimetres) and their mask; the clothes are put on later."""
    width = p["neck_width"]
    y = yy[:, 0]
    half = curve(y, [(-3, width), (-9, width), (-12.5, width * 1.02), (-14, width * 1.18), (-15.2, width * 1.6),
                     (-16.5, width * 2.3), (-18, width * 3.2)])[:, None]  # fmt: skip
    ratio = np.minimum(abs_x / half, 1.0)
    front = curve(y, [(-3, -3.2), (-10, -3.4), (-13, -3.7), (-15, -4.6), (-18, -4.4)])[:, None]
    depth = curve(y, [(-3, 6.2), (-13, 6.2), (-18, 6.0)])[:, None]
    z = front - depth * (1 - np.sqrt(np.maximum(1 - ratio**2.2, 0)))
    cord = np.exp(-(((abs_x - 1.2 - 0.33 * (yy + 17.5)) / 0.6) ** 2))  # the neck muscles run from collarbone to ear
    age_cords = 0.10 + 0.15 * np.clip((p["age"] - 55) / 25, 0, 1)
    z = z + age_cords * cord + (0.18 if p["sex"] == "male" else 0.0) * blob(0, -14.0, 0.6, 0.6)
    mask = step(1.0, 0.99, abs_x / half) * (yy < -4)
    return z.astype(np.float32), mask.astype(np.float32)


def build(p):
    """The whole body: heights (centimetres) and masks by name, before eyes and mouth are added."""
    z, mask = face(p)
    z, base = nose(p, z)
    z = blur(z.astype(np.float32), 2.2)  # skin rounds every crease of the construction
    z, fold_mask = folds(p, z)
    z, mask, ear, hollow = ears(p, z, mask)
    neck, neck_mask = neck_and_shoulders(p)
    head_wins = (mask > 0.5) & ((z > neck) | (neck_mask < 0.5))
    body = np.where(mask > 0.5, np.where(neck_mask > 0.5, union(z, neck, 0.25), z),
                    np.where(neck_mask > 0.5, neck, FLOOR))  # fmt: skip
    shape = {
        "z": np.broadcast_to(body, (SIZE, SIZE)).astype(np.float32).copy(),
        "alpha": np.maximum(mask, neck_mask).astype(np.float32),
        "head": head_wins.astype(np.float32),
        "ear": ear.astype(np.float32) * head_wins,
        "ear_hollow": hollow.astype(np.float32) * ear,
        "folds": np.clip(fold_mask, 0, 1).astype(np.float32),
        "nose_base": base,
    }
    return shape
