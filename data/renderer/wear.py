"""Things people wear: clothes painted on the shoulders, glasses, hats, earrings."""

import cv2
import numpy as np

from .canvas import FLOOR, SIZE, abs_x, blur, curve, fractal, mix, noise, step, strands, xx, yy


def cloth_colour(rng):
    """A plausible dye, linear RGB."""
    hue = rng.uniform(0, 180)
    saturation = np.clip(rng.normal(90, 60), 0, 230)
    value = np.clip(rng.normal(150, 65), 20, 250)
    rgb = cv2.cvtColor(np.array([[[hue, saturation, value]]], np.uint8), cv2.COLOR_HSV2RGB)[0, 0] / 255.0
    return (rgb**2.2).astype(np.float32)


def clothes(p, rng, shape, paint):
    """Paint clothes on the lower part of the body map and raise them a little above the skin."""
    kind = p["clothes"]
    neck = p["neck_width"]
    drop = {"t-shirt": 2.6, "shirt": 3.6, "suit": 4.2, "sweater": 1.6, "turtleneck": -0.6, "patterned": 2.6,
            "low neckline": 6.0, "coat": 3.0}[kind]  # fmt: skip
    rise = {"shirt": 2.2, "suit": 2.0, "coat": 2.6, "turtleneck": 2.4, "sweater": 0.7}.get(kind, 0.0)
    lift = rng.normal(1.5, 0.6)
    shoulder = curve(abs_x[0], [(0, -13.2), (neck, -13.4), (neck + 2, -14.4), (neck + 5, -15.6), (16, -18.0)])[None, :]
    shoulder = shoulder + lift + rise * np.exp(-(((abs_x - neck - 0.3) / 1.5) ** 2))
    neckline = shoulder - drop * np.maximum(1 - (abs_x / (neck + 0.4)) ** 2, 0) ** (1.0 if drop < 3 else 0.7)
    if kind in ("shirt", "suit", "coat"):  # open collar: a V
        neckline = shoulder - drop * np.maximum(1 - abs_x / (neck + 0.4), 0)
    if kind == "turtleneck":
        neckline = -12.4 + 0.3 * lift + 0.02 * (abs_x - neck)
        neckline = np.where(abs_x > neck + 0.7, shoulder, neckline)
    cover = step(-0.06, 0.08, neckline - yy)
    z_cloth = (
        -4.3 - 0.018 * abs_x**2 + 0.10 * (neckline - yy) - 1.2 * np.exp(-((np.maximum(neckline - yy, 0) / 0.5) ** 2))
    )
    wrinkle = 0.22 * noise(rng, 34) + 0.10 * noise(rng, 14) + 0.18 * strands(rng, xx + yy * 0.6, yy - 0.5 * xx, 9, 1.5)
    z_cloth = np.maximum(z_cloth, shape["z"] * (shape["alpha"] > 0.5) + FLOOR * (shape["alpha"] <= 0.5) + 0.25)
    z_cloth = z_cloth + 0.5 * wrinkle
    cover = cover * (1 - shape["head"] * (yy > -13.5))
    colour = cloth_colour(rng)
    pattern = np.ones((SIZE, SIZE, 3), np.float32) * colour
    if kind == "suit":
        colour = cloth_colour(rng) * 0.25 + 0.01
        lapel = np.abs(abs_x - 3.6)
        shirt = step(0.2, -0.2, abs_x - (2.2 + 0.5 * (yy + 17)))
        pattern = mix(colour * np.ones_like(pattern), [0.68, 0.68, 0.70], shirt)
        pattern *= 1 - 0.35 * np.exp(-((lapel / 0.15) ** 2))[..., None]
    elif kind == "patterned":
        second = cloth_colour(rng)
        choice = rng.integers(4)
        if choice == 0:
            wave = np.sin(yy * rng.uniform(3, 8) + 0.3 * wrinkle)
        elif choice == 1:
            wave = np.sin(xx * rng.uniform(4, 9) + 0.3 * wrinkle)
        elif choice == 2:
            rate = rng.uniform(3, 6)
            wave = np.sin(xx * rate) * 0.8 + np.sin(yy * rate) * 0.8
        else:
            wave = fractal(rng, 16, 2) * 2
        pattern = mix(pattern, second, step(-0.3, 0.3, wave + 0 * xx))
    elif kind in ("shirt", "coat"):
        rim = np.exp(-(((neckline - yy - 1.3) / 0.16) ** 2)) * step(neck + 3, neck, abs_x)
        pattern *= (1 - 0.35 * rim)[..., None]
    elif kind == "turtleneck" or kind == "sweater":
        knit = np.sin(xx * 9.0 + 0.4 * noise(rng, 20)) * 0.12
        pattern *= (1 + knit)[..., None]
    weave = np.exp(0.05 * noise(rng, 1.6))
    seam = np.exp(-(((neckline - yy - 0.35) / 0.12) ** 2)) * (kind in ("t-shirt", "sweater", "patterned"))
    pattern = pattern * (weave * (1 - 0.25 * seam))[..., None]
    # Beyond the neck there is nothing but cloth; its paint reaches past its edge, so that no skin rim shows.
    beyond = step(neck + 0.2, neck + 0.9, abs_x) * (1 - shape["head"])
    painted = np.maximum(cover, beyond * step(-1.2, -0.8, neckline - yy))
    paint["albedo"] += (pattern - paint["albedo"]) * painted[..., None]
    paint["cavity"] += (1 - paint["cavity"]) * cover
    paint["gloss"] *= 1 - 0.95 * cover
    solid = cover > 0.5
    shape["z"] = np.where(solid, z_cloth, shape["z"]).astype(np.float32)
    shape["alpha"] = mix(np.maximum(shape["alpha"], cover), cover, beyond).astype(np.float32)
    shape["cloth"] = cover.astype(np.float32)


def hat(p, rng, shape, width, top):
    """A hat as one more layer over the hair, or None."""
    kind = p["hat"]
    if kind == "none":
        return None
    colour = cloth_colour(rng) * 0.8 + 0.01
    brim = {"beanie": 4.6, "cap": 4.9, "headband": 6.0}[kind] + rng.normal(0, 0.25)
    edge = brim - 0.055 * xx**2 * (0.6 if kind == "beanie" else 0.8)
    radius = np.sqrt((xx / (width + 0.9)) ** 2 + (np.maximum(yy - 2.5, 0) / (top - 1.3)) ** 2)
    cover = step(1.0, 0.975, radius) * step(-0.05, 0.1, yy - edge)
    z = -10 + 12.0 * np.maximum(1 - radius**2.2, 0) ** 0.45
    albedo = np.ones((SIZE, SIZE, 3), np.float32) * colour
    if kind == "headband":
        cover = cover * step(0.05, -0.05, yy - edge - 2.2)
        z = z + 0.15 * np.cos((yy - edge - 1.1) * 2)
    elif kind == "beanie":
        ribs = np.sin(xx / (1.15 - 0.03 * (yy - 5)) * 8)
        z = z + 0.10 * ribs + 0.55 * step(2.6, 2.3, yy - edge) + 0.10 * noise(rng, 20)
        albedo = albedo * (1 + 0.12 * ribs)[..., None]
    else:  # cap: a visor that stands out over the brow
        visor = step(0.1, -0.1, yy - edge - 1.9 + 0.03 * xx**2) * step(6.6, 6.3, abs_x)
        z = z + 3.2 * visor * np.maximum(1 - (xx / 7) ** 2, 0)
        albedo = albedo * (1 - 0.3 * np.exp(-(((yy - edge - 1.9 + 0.03 * xx**2) / 0.15) ** 2)))[..., None]
    z = np.maximum(z, shape["z"] + 0.6 * (cover > 0.5))
    albedo = albedo * np.exp(0.06 * noise(rng, 1.8))[..., None]
    return {"z": blur(z.astype(np.float32), 1.2), "alpha": cover.astype(np.float32), "albedo": albedo}


def glasses(p, rng):
    """Glasses on a flat sheet in front of the face.

    Returns None or a dict of map-sized fields: frame cover, lens cover, colours, and the sheet's height (cm).
    """
    kind = p["glasses"]
    if kind == "none":
        return None
    cx = p["eye_distance"] + 0.12 + rng.normal(0, 0.06)
    wide, high, corner, drop = {
        "rectangle": (2.55, 1.60, 0.65, -0.25), "round": (2.30, 2.15, 2.0, -0.35), "oval": (2.50, 1.65, 1.4, -0.25),
        "browline": (2.55, 1.85, 1.0, -0.25), "cat-eye": (2.65, 1.75, 1.0, -0.15), "rimless": (2.5, 1.55, 0.8, -0.25),
        "sunglasses": (2.85, 2.2, 1.3, -0.25)}[kind]  # fmt: skip
    wide, high = wide * rng.uniform(0.96, 1.05), high * rng.uniform(0.93, 1.1)
    x, y = abs_x - cx, yy - drop
    y = y - {"cat-eye": 0.22, "sunglasses": 0.10}.get(kind, 0.0) * x  # some frames rise outwards
    taper = 1 - 0.10 * step(0.5, -1.5, y)  # lenses narrow downwards
    qx, qy = np.abs(x) - (wide * taper - corner), np.abs(y) - (high - corner)
    d = np.hypot(np.maximum(qx, 0), np.maximum(qy, 0)) + np.minimum(np.maximum(qx, qy), 0) - corner
    thick = {"rimless": 0.03, "rectangle": 0.11, "browline": 0.09, "sunglasses": 0.14}.get(kind, 0.09)
    thick = thick * rng.uniform(0.6, 1.5)
    thickness = thick * (1 + 1.3 * step(0, 0.8, y) * (kind == "browline"))
    rim = step(0.06, -0.02, np.abs(d) - thickness)
    bridge_y = yy - drop - 0.55 + 0.14 * xx**2
    bridge = step(0.06, -0.02, np.abs(bridge_y) - 0.12 - 0.4 * thick) * (abs_x < cx - wide + 0.35)
    hinge = (
        step(0.06, -0.02, np.abs(yy - drop - 0.75) - 0.14 - thick * 0.5)
        * (abs_x > cx + wide)
        * (abs_x < cx + wide + 0.45)
    )
    frame = np.clip(rim * (0.55 if kind == "rimless" else 1.0) + bridge + hinge, 0, 1)
    tint = 0.93 if kind == "sunglasses" else 0.05
    colours = [(0.012, 0.011, 0.010), (0.05, 0.025, 0.012), (0.10, 0.05, 0.02), (0.30, 0.28, 0.25), (0.32, 0.24, 0.12),
               (0.10, 0.02, 0.025), (0.03, 0.04, 0.09)]  # fmt: skip
    colour = np.array(colours[rng.integers(len(colours)) if kind != "rimless" else 3], np.float32)
    if rng.random() < 0.35:
        colour = np.array(colours[0], np.float32)
    lens = step(0.03, -0.03, d)
    glare = step(0.25, 0.9, np.sin(0.8 * xx + 0.55 * yy + rng.uniform(0, 6))) * rng.uniform(0.0, 0.10)
    if kind == "sunglasses":
        glare = 0.05 * step(-1.8, 2.0, yy) + 0.03 * noise(rng, 30) ** 2 * (yy > -0.5) + 0.5 * glare
    # The sheet: bent slightly backwards at the sides; the temples are hidden by hair or foreshortened.
    z = 1.6 - 0.042 * abs_x**2 + 0 * yy
    return {"z": z.astype(np.float32), "frame": frame.astype(np.float32), "lens": lens.astype(np.float32),
            "colour": colour, "tint": tint, "glare": (glare * lens).astype(np.float32),
            "arm": 4 if thick > 0.12 else 3 if thick > 0.06 else 2,
            "hinge": (float(cx + wide + 0.35), float(drop + 0.75)),
            "lens_colour": np.array([0.012, 0.012, 0.014], np.float32)}  # fmt: skip


def earrings(p, rng, shape):
    """Earrings as a small layer under the ear lobes, or None."""
    kind = p["earrings"]
    if kind == "none":
        return None
    gold = np.array([0.75, 0.52, 0.22]) if rng.random() < 0.55 else np.array([0.70, 0.70, 0.72])
    lobe_x, lobe_y = 6.8 * p["face_width"], -4.15 * p["ear_size"]
    x, y = abs_x - lobe_x, yy - lobe_y
    if kind == "stud":
        cover = step(0.36, 0.26, np.sqrt(x * x + y * y))
    elif kind == "hoop":
        size = rng.uniform(0.8, 1.7)
        cover = step(0.18, 0.08, np.abs(np.sqrt((x * 1.25) ** 2 + (y + size) ** 2) - size))
    else:
        drop = rng.uniform(1.2, 3.2)
        cover = step(0.12, 0.04, np.abs(x)) * (y < 0) * (y > -drop)
        cover = np.maximum(cover, step(0.5, 0.35, np.sqrt(x * x + ((y + drop) / 1.4) ** 2)))
    shine = 0.75 + 0.9 * np.clip(noise(rng, 3), -0.6, 1.6)
    albedo = (gold * np.clip(shine, 0.15, 2)[..., None]).astype(np.float32)
    z = np.full((SIZE, SIZE), -7.0, np.float32)
    return {"z": z, "alpha": cover.astype(np.float32), "albedo": albedo}
