"""Skin paint: melanin and blood mixed in log space, zones of the face, age, freckles, beard."""

import numpy as np

from .canvas import SIZE, TEXEL, abs_x, blob, blur, bump, fractal, mix, noise, step, strands, xx, yy

PALE = np.log(np.array([0.84, 0.61, 0.44], np.float32))  # skin without pigment, linear RGB
MELANIN = np.array([1.78, 2.17, 2.44], np.float32)  # optical density of a full dose of melanin
BLOOD = np.array([0.06, 0.48, 0.40], np.float32)  # optical density of a full dose of blood


def skin_colour(melanin, blood):
    """Linear RGB reflectance of skin. Densities add in log space, as pigments do (linear mixing turns orange)."""
    melanin, blood = np.asarray(melanin, np.float32)[..., None], np.asarray(blood, np.float32)[..., None]
    return np.exp(PALE - MELANIN * melanin - BLOOD * blood)


def paint_skin(p, rng, shape):
    """Return the paint maps: albedo (linear RGB), cavity (baked small shade), gloss, glint."""
    old = np.clip((p["age"] - 35) / 45, 0, 1)
    male = p["sex"] == "male"
    base = shape["nose_base"]
    red = 0.34 * blob(4.2, -3.3, 1.9, 1.5) * (1 - 0.3 * male) + 0.42 * blob(0, base + 0.9, 1.2, 0.9)
    red = red + 0.22 * blob(0, -9.9, 1.6, 1.0) + 0.07 * blob(3.0, -1.0, 1.2, 0.6) + 0.10 * blob(0, -7.2, 3.2, 1.4)
    red = red + 0.04 * blob(2.9, 0.7, 1.3, 0.5) - 0.12 * blob(0, 4.8, 5.0, 2.0)
    red = red * (0.8 + 0.5 * p["makeup"] * (1 - p["melanin"])) + 0.40 * shape["ear"] - 0.10 * (yy < -12.2)
    blotch = fractal(rng, 46, 3)
    blood = (
        p["blood"] * (1 - 0.35 * p["melanin"]) + red * (1 - 0.45 * p["melanin"]) + 0.10 * blotch * (0.6 + 0.35 * old)
    )
    pigment = p["melanin"] + (0.035 + 0.05 * p["melanin"]) * fractal(rng, 60, 3)
    pigment = pigment + (0.05 + 0.08 * p["melanin"]) * (
        0.8 * blob(2.6, -0.9, 1.2, 0.5) + 0.6 * blob(0, -7.2, 2.6, 1.3) + 0.5 * blob(6.3, 2.0, 1.4, 4.0))  # fmt: skip
    pigment = pigment - 0.05 * p["melanin"] * (blob(3.8, -2.6, 1.6, 1.2) + blob(0, 4.0, 2.5, 1.5))
    if p["freckles"] > 0:
        spots = step(1.1, 1.7, noise(rng, 3.0)) * (0.5 + 0.5 * noise(rng, 14))
        zone = np.clip(blob(2.8, -2.6, 2.6, 1.6) + blob(0, -2.4, 1.6, 1.3) + 0.35 * blob(0, 3.5, 5, 3), 0, 1)
        pigment = pigment + 0.20 * p["freckles"] * np.clip(spots, 0, 1) * zone
    if old > 0.35:
        pigment = pigment + 0.09 * (old - 0.3) * step(1.7, 2.3, noise(rng, 9)) * (abs_x > 2)
    for _ in range(int(rng.poisson(1.3))):  # moles
        mx, my = rng.uniform(-6, 6), rng.uniform(-10, 5)
        pigment = pigment + rng.uniform(0.2, 0.5) * bump(xx, mx, 0.12) * bump(yy, my, 0.12)
    albedo = skin_colour(np.clip(pigment, 0, 1.08), np.clip(blood, 0, 1.6)).astype(np.float32)
    cavity = np.ones((SIZE, SIZE), np.float32)
    cavity *= 1 - 0.50 * shape["folds"] - 0.40 * shape["ear_hollow"]
    cavity *= 1 - 0.24 * blob(1.65, 0.55, 0.5, 0.9) - (0.06 + 0.10 * old) * blob(2.7, -1.15, 1.2, 0.35)
    _wrinkles(p, rng, cavity, old)
    oil = 0.30 + 0.60 * blob(0, 4.2, 3.2, 1.8) + 0.65 * blob(0, base + 1.4, 0.8, 1.6) + 0.60 * blob(3.9, -2.0, 1.3, 0.9)
    gloss = ((oil + 0.2 * blob(0, -10.0, 1, 0.6)) * (0.75 + 0.5 * p["blood"])).astype(np.float32)
    # Pores and fine relief: heights in centimetres, small because steep bumps look like carved wood.
    relief = 0.003 * noise(rng, 1.6) + 0.006 * noise(rng, 3.5) + 0.014 * noise(rng, 9.0)
    shape["z"] += relief * (0.5 + p["skin_roughness"])
    mottle = np.exp(0.028 * (0.5 + p["skin_roughness"]) * (noise(rng, 2.6) + 0.6 * noise(rng, 6.0)))
    albedo *= mottle[..., None]
    return {"albedo": albedo, "cavity": cavity, "gloss": gloss, "glint": np.zeros((SIZE, SIZE), np.float32)}


def _wrinkles(p, rng, cavity, old):
    """Forehead lines, frown lines and fine neck lines, as soft dark strokes."""
    raised = max(p["brow"], 0.0)
    strength = 0.32 * old + 0.26 * raised
    if strength > 0.03:
        for level in range(rng.integers(2, 5)):
            y0 = p["brow_height"] + 1.0 + 0.75 * level + rng.normal(0, 0.1)
            wave = y0 - 0.25 * np.cos(xx * 0.75 + rng.uniform(-0.3, 0.3)) + 0.12 * np.sin(xx * 1.9 + rng.uniform(0, 6))
            reach = rng.uniform(3.0, 4.8)
            cavity *= 1 - strength * np.exp(-(((yy - wave) / 0.11) ** 2)) * step(reach, reach - 2, abs_x)
    frown = 0.22 * old + 0.4 * max(-p["brow"], 0.0)
    cavity *= 1 - frown * np.exp(-(((abs_x - 0.42 + 0.1 * (yy - 1.8)) / 0.10) ** 2)) * bump(yy, 1.9, 0.7)
    for _ in range(2):
        y0 = rng.uniform(-15, -12.4)
        cavity *= 1 - (0.05 + 0.22 * old) * np.exp(-(((yy - y0 - 0.03 * xx**2) / 0.13) ** 2))


def beard(p, rng, shape, paint, colour):
    """Stubble or beard on the lower face. Returns its cover map (0..1)."""
    kind = p["beard"]
    if kind == "none" and p["sex"] == "female":
        return None
    base, mouth_y = shape["nose_base"], -p["mouth_height"]
    # Signed distance-like fields of the three zones: jaw and chin, moustache, chin only.
    cheek_line = -4.3 - 0.55 * (6.6 - abs_x) * (abs_x < 6.6) + 0.35 * np.sin(np.clip((abs_x - 2.5) / 4, 0, 1) * np.pi)
    cheek_line = np.where(abs_x > 5.6, cheek_line + (abs_x - 5.6) * 3.5, cheek_line)
    ragged = 0.28 * noise(rng, 5) + 0.18 * strands(rng, yy + 0 * xx, xx + 0 * yy, 0.7, 0.16)
    around_mouth = np.sqrt((abs_x / (p["mouth_width"] + 0.55)) ** 2 + ((yy - mouth_y + 0.1) / 1.35) ** 2)
    jaw = step(-0.3, 1.7, cheek_line - yy + ragged) * step(0.86, 1.12, around_mouth + 0.12 * ragged)
    moustache = step(base - 0.30, base - 0.75, yy + 0.4 * ragged + 0.16 * abs_x) * step(
        mouth_y - 0.5, mouth_y + 0.2, yy
    )
    moustache = moustache * step(
        p["mouth_width"] + 0.55, p["mouth_width"] - 0.75, abs_x + 0.9 * (mouth_y + 1.1 - yy) * 0.4
    )
    moustache = moustache * (1 - 0.35 * bump(xx, 0, 0.22))
    soul = bump(xx, 0, 0.5) * step(mouth_y - 0.7, mouth_y - 1.4, yy)
    chin = step(1.0, 0.6, np.sqrt((abs_x / 2.6) ** 2 + ((yy + 10.2) / 2.0) ** 2) + 0.2 * ragged)
    neck_fade = step(-14.5, -12.3, yy)
    jaw = np.maximum(jaw, soul * 0.8) * neck_fade * shape["alpha"] * (1 - shape["ear"])
    if kind == "moustache":
        zone, growth = moustache, 0.85
    elif kind == "goatee":
        link = step(1.0, 0.55, np.abs(abs_x - p["mouth_width"] - 0.35) / 0.75) * step(-10.5, -9.0, yy) * (yy < base - 1)
        zone, growth = np.maximum(np.maximum(moustache, chin * step(0.85, 1.05, around_mouth)), 0.9 * link), 0.75
    else:
        zone = np.maximum(jaw, moustache)
        growth = {"none": 0.0, "stubble": 0.30, "short": 0.68, "full": 0.93}[kind]
    # Roots under the skin: a cool darkening, even when shaved.
    shaved = (0.16 if kind == "none" else 0.34) * np.maximum(jaw, moustache * 0.8) * (1 - 0.6 * p["hair_grey"])
    cool = np.array([0.62, 0.66, 0.74], np.float32) ** (1.0 - 0.3 * p["melanin"])
    paint["albedo"] *= mix(1.0, cool, blur(shaved.astype(np.float32), 2.5) * (1 - 0.3 * p["melanin"]))
    if growth == 0:
        return None
    flow = xx * 0.35 * np.sign(xx)
    hair = (
        strands(rng, yy - flow, xx + 0.25 * yy * np.sign(xx), 0.8, 0.13) + 0.4 * noise(rng, 1.5) + 0.5 * noise(rng, 4)
    )
    if p["hair_curl"] in ("coily", "curly"):
        hair = 0.6 * noise(rng, 2.2) + 0.6 * noise(rng, 4)
    edge = blur(zone.astype(np.float32), 4.5)
    cover = np.clip(growth * 1.15 * edge * (1 + 0.30 * hair * (1.25 - growth)), 0, 0.97)
    cover = cover * step(0.0, 0.45, edge + 0.12 * hair)
    shade = np.exp(0.30 * hair)[..., None]
    paint["albedo"] += (colour * shade - paint["albedo"]) * cover[..., None]
    paint["gloss"] *= 1 - 0.85 * cover
    bulk = {"stubble": 0.02, "short": 0.15, "full": 0.6}.get(kind, 0.25)
    shape["z"] += bulk * blur(cover.astype(np.float32), 4) + 0.05 * min(bulk, 0.3) / 0.3 * cover * hair
    if kind == "full":  # hair below the jaw hides the edge between chin and neck
        below = step(-13.6, -11.2, yy) * step(5.2, 3.2, abs_x) * edge
        shape["z"] += 1.2 * blur(below.astype(np.float32), 8 * TEXEL / TEXEL)
    return cover
