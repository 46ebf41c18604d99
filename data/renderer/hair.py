"""Scalp hair as layers over and behind the head: cover, height, strand direction and strand texture."""

import cv2
import numpy as np

from .canvas import (
    FLOOR,
    SIZE,
    abs_x,
    blur,
    bump,
    curve,
    mix,
    noise,
    step,
    xx,
    yy,
)
from .people import HAIR_COLOURS

COLUMNS, ROWS = np.meshgrid(np.arange(SIZE, dtype=np.float32), np.arange(SIZE, dtype=np.float32))


def hair_colour(p, rng):
    """Linear RGB of the person's hair, after greying."""
    colour = np.array(HAIR_COLOURS[p["hair_colour"]], np.float32) * np.exp(rng.normal(0, 0.12))
    grey = mix([0.30, 0.29, 0.275], [0.62, 0.61, 0.59], np.clip((p["hair_grey"] - 0.5) * 2, 0, 1))
    return mix(colour, grey, p["hair_grey"] ** 1.3)


def comb(texture, dx, dy, length):
    """Line-integral convolution: smear `texture` along the direction field (dx, dy; y up) over `length` texels.

    Doubling trick: average each texel with the one a step ahead, then with the one two steps ahead, four, ...
    """
    step_x, step_y = dx.astype(np.float32), -dy.astype(np.float32)
    for _ in range(max(1, int(np.log2(length)))):
        map_x, map_y = COLUMNS + step_x, ROWS + step_y
        ahead = cv2.remap(texture, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        texture = 0.5 * (texture + ahead)
        both = cv2.merge([step_x, step_y])
        further = cv2.remap(both, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
        step_x, step_y = step_x + further[..., 0], step_y + further[..., 1]
    return texture


def strand_texture(p, rng, dx, dy):
    """Three strand fields (fine, middle, broad), each mean 0 and standard deviation 1."""
    curl = p["hair_curl"]
    if curl != "straight":  # waves: turn the direction field with noise
        amount, cell = {"wavy": (0.45, 26), "curly": (1.2, 13), "coily": (2.6, 7)}[curl]
        turn = amount * noise(rng, cell)
        cos, sin = np.cos(turn), np.sin(turn)
        dx, dy = cos * dx - sin * dy, sin * dx + cos * dy
    length = {"straight": 64, "wavy": 48, "curly": 16, "coily": 5}[curl]
    fields = cv2.merge([noise(rng, 1.4), noise(rng, 3.0), noise(rng, 8.0)])
    fields = comb(fields, dx, dy, length)
    fields /= fields.reshape(-1, 3).std(axis=0) + 1e-6
    return fields, dx, dy


def unit(dx, dy):
    """Scale a direction field to length 1."""
    dx, dy = np.broadcast_arrays(dx + 0 * yy, dy + 0 * xx)
    size = np.sqrt(dx * dx + dy * dy) + 1e-6
    return dx / size, dy / size


def measures(p, rng):
    """What the style means in centimetres: hairline, thickness, parting, and the outline of the hair."""
    style, curls = p["hair_style"], p["hair_curl"] in ("curly", "coily")
    male = p["sex"] == "male"
    m = {"style": style, "side": p["hair_side"], "width": 7.5 * p["face_width"], "top": 12.3 * p["face_length"]}
    m["line"] = line = p["hairline"] * p["face_length"]
    m["falls"] = style in ("long parted", "long side part", "medium", "bob") or (
        style in ("curly", "fringe") and not male
    )
    m["part_x"] = 0.0 if style == "long parted" else p["hair_side"] * (1.4 + 1.6 * p["hair_length"])
    thick = {"buzz": 0.15, "bald": 0.1, "receding": 0.5, "short": 0.7, "side part": 0.9, "swept back": 1.0,
             "fringe": 1.0, "tied back": 0.45, "long parted": 0.9, "long side part": 1.1, "medium": 1.1, "bob": 1.1,
             "curly": 1.9, "afro": 3.2}[style] * (0.65 + 0.7 * p["hair_volume"])  # fmt: skip
    if curls and style not in ("buzz", "bald", "tied back", "afro"):
        thick *= 1.3
    m["thick"] = thick

    # Hairline on the forehead: (|x|, y) with the corners and the way down to the sideburns.
    recede = {"receding": 2.6, "bald": 5.0}.get(style, 0.5 if male else 0.1)
    temple = m["width"] * 0.80
    points = [(0, line + (1.8 if style == "receding" else 0)), (2.5, line + 0.05 + 0.3 * recede),
              (temple * 0.78, line - 0.7 + recede), (temple, line - 2.6 + 0.3 * recede), (temple + 0.35, 1.8),
              (temple + 0.8, -0.6), (m["width"] + 3, -2.5)]  # fmt: skip
    m["wobble"] = 0.25 * noise(rng, 40) + 0.12 * noise(rng, 12)
    m["inside"] = yy - curve(abs_x[0], points)[None, :] + m["wobble"]  # > 0 where scalp hair grows

    # Outline: an ellipse round the head, lumpy if curly; roughly centimetres inside the outline.
    m["lump"] = (0.10 * noise(rng, 30) + 0.05 * noise(rng, 10)) * (2.2 if curls and style != "buzz" else 1.0)
    reach_x, reach_y = m["width"] + 0.25 + 0.8 * thick, m["top"] - 2.5 + thick
    m["outline"] = 8 * (1 - np.sqrt((xx / reach_x) ** 2 + ((yy - 2.5) / reach_y) ** 2))
    m["outline"] += m["lump"] * min(thick, 1.6)
    if not m["falls"]:  # short hair thins out towards the ears
        m["outline"] -= 0.85 * max(thick - 0.6, 0) * step(3.5, -1.0, yy)
    return m


def strand_direction(m, rng):
    """Combing direction of every texel as a unit field (dx, dy), y up."""
    style, side, part_x = m["style"], m["side"], m["part_x"]
    away_from_part = np.where(xx - part_x >= 0, 1.0, -1.0)
    if style in ("short", "buzz", "receding", "bald", "curly", "afro") and not m["falls"]:
        dx, dy = 0.35 * xx + 0.2 * side + 0.35 * side * bump(xx, 0, 5), 1.0 - 1.6 * step(4.5, 7.0, abs_x)
    elif style == "side part":
        dx, dy = away_from_part, 0.55 - 0.30 * np.abs(xx - part_x)
    elif style in ("swept back", "tied back"):
        dx, dy = 0.18 * xx + 0.25 * side, 1.0 - 0.9 * step(4.0, 7.2, abs_x)
    elif style == "fringe":
        dx, dy = mix(xx / 9 + 0.10 * side, 0.12 * np.sign(xx), step(5.2, 6.8, abs_x)), -1.0
    else:  # from the parting round the face, then down
        across, down = away_from_part * (yy - 1.0) / (m["top"] - 1.0), -np.abs(xx) / m["width"] * m["top"] - 0.15
        across, down = unit(across * m["width"], down)
        falling = step(2.0, -4.0, yy)
        dx, dy = mix(across, 0.10 * np.sign(xx) * np.sin(yy * 0.5), falling), mix(down, -1.0, falling)
    dx, dy = unit(dx, dy)
    swirl = 0.20 * noise(rng, 60)
    return unit(dx - swirl * dy, dy + swirl * dx)


def scalp_cover(p, rng, m, strand, fields):
    """Cover and height offset (cm above the skin) of hair that lies on the scalp, with fringe or parting."""
    style, thick, line, volume = m["style"], m["thick"], m["line"], p["hair_volume"]
    fine, middle, broad = fields[..., 0], fields[..., 1], fields[..., 2]
    edge = 0.30 * strand * (0.5 if style == "buzz" else 1.0)
    soft_line = {"buzz": 1.1, "receding": 1.8}.get(style, 0.7)
    sideburn = -1.2 - 1.3 * (p["sex"] == "male") * p["hair_length"]
    shell = step(-0.25, 0.35, m["outline"] + 0.30 * edge)
    cover = step(-0.2, soft_line, m["inside"] + edge) * shell * step(sideburn - 0.3, sideburn + 0.7, yy + 0.3 * strand)
    offset = thick * step(-0.1, 2.2, m["inside"])
    if style == "buzz" or (style == "receding" and p["hair_length"] < 0.5):
        cover = cover * np.clip(0.80 + 0.20 * noise(rng, 1.5), 0, 1)
    if style == "fringe":
        hem = 2.75 + 0.10 * xx * m["side"] + 0.7 * (1 - volume) + 0.035 * xx**2
        hem = hem - 0.25 * middle - 0.35 * broad - 0.25 * fine
        bangs = step(0.0, 0.35, yy - hem) * step(7.2, 6.4, abs_x) * shell
        thin = np.clip(0.95 + 0.15 * middle - 0.25 * step(1.5, 0.2, yy - hem), 0, 1)
        cover, offset = np.maximum(cover, bangs * thin), np.maximum(offset, 0.8 * thick * bangs)
    if style in ("side part", "long side part", "medium"):  # hair swept across the forehead from the parting
        beyond = (m["part_x"] - xx) * np.sign(m["part_x"])
        hem = line + 0.6 - 0.055 * np.clip(beyond + 1, 0, None) ** 2 * (0.35 if style == "side part" else 1.0)
        swept = step(0.0, 0.5, yy - hem + 0.25 * strand) * (beyond > -0.6) * shell * (yy > 0.5)
        cover, offset = np.maximum(cover, 0.96 * swept), np.maximum(offset, 0.7 * thick * swept)
    if style in ("long parted", "long side part", "bob"):  # a thin line of scalp along the parting
        parting = np.exp(-(((xx - m["part_x"]) / 0.16) ** 2)) * step(line - 0.3, line + 0.4, yy) * (yy < 9.5)
        cover = cover * (1 - 0.55 * parting)
    return cover, offset, shell


def curtains(p, rng, m, strand, fields, shell):
    """Hair that falls beside the face: cover in front, cover behind, and inner and outer edges (cm from the middle)."""
    middle, broad = fields[..., 1], fields[..., 2]
    length, volume = p["hair_length"], p["hair_volume"]
    hem_y = {"bob": -7.5 - 3.5 * length, "medium": -8.5 - 5 * length, "curly": -7 - 7 * length,
             "fringe": -6 - 12 * length}.get(m["style"], -15 - 8 * length)  # fmt: skip
    flare = curve(yy[:, 0], [(13, 0), (4, 0.2), (0, 0.7), (-5, 1.2), (-9, 1.5), (-17, 2.4)])[:, None]
    flare = flare * (0.45 + 0.9 * volume) * (1.5 if p["hair_curl"] in ("curly", "coily") else 1.0)
    outer = m["width"] + 0.3 + 0.75 * m["thick"] + flare + 0.09 * broad + m["lump"]
    if m["style"] == "bob":
        outer = outer - 0.9 * step(-5, -11, yy)
    # How far the curtain covers the cheek; either side may be tucked behind the ear.
    tuck = np.where(np.sign(xx) == m["side"], rng.random() < 0.35, rng.random() < 0.25)
    points = [(13, 0.0), (7, 3.5), (5, 5.2), (3, 6.2), (0, 6.75), (-4, 6.55), (-8, 5.9), (-11, 5.4), (-17, 5.0)]
    inner = curve(yy[:, 0], points)[:, None] * p["face_width"] + 0.5 * (0.5 - volume) + tuck
    inner = inner + 0.20 * middle + 0.20 * broad + 0.8 * m["wobble"]
    above_hem = step(-0.5, 1.0, yy - hem_y + 0.7 * broad + 0.4 * middle)
    below_crown = np.where(yy > 2.5, shell, 1.0)
    front = step(-0.15, 0.3, outer - abs_x + 0.18 * strand) * step(-0.1, 0.45, abs_x - inner)
    front = front * above_hem * below_crown * (yy < 9.0)
    back = step(-0.1, 0.25, outer - 0.3 - abs_x + 0.15 * strand) * above_hem * below_crown
    return front, back, inner, outer


def layer_height(p, m, skull, on_head, offset, curtain, edges):
    """Heights (cm) of the front hair: the skin plus the hair's thickness, an outer shell, and the curtains."""
    thick = m["thick"]
    dome = 1 - (xx / (m["width"] + 0.3 + thick)) ** 2 - (np.maximum(yy - 2.0, 0) / (m["top"] - 1.8 + thick)) ** 2
    shell = -11.7 + 0.6 * thick + (10.6 + 0.4 * thick) * np.maximum(dome, 0) ** 0.42
    lowest = -11.0
    z = np.maximum(np.where(on_head, skull + offset, lowest), shell)
    z = np.where(m["inside"] > -0.5, z, np.maximum(skull + 0.5 * offset, lowest))
    if curtain is not None:
        inner, outer = edges
        roll = np.clip((abs_x - inner) / (outer - inner + 0.1), 0, 1)  # rounded like a roll of cloth
        fall = curve(yy[:, 0], [(13, -6), (6, -4.2), (0, -5.6), (-6, -6.0), (-12, -5.0), (-17, -4.0)])[:, None]
        fall = fall + 1.9 * np.sqrt(np.maximum(roll * (1.3 - roll), 0)) - 1.6 * roll**2
        fall = np.maximum(fall, np.where(abs_x < outer - 0.4, skull + 0.3 * step(0, 0.8, abs_x - inner), FLOOR))
        z = np.where((curtain > 0.02) & (m["inside"] < 0.3), fall, z)
    return blur(np.maximum(z, -12.0).astype(np.float32), 2.0)


def strand_colour(p, rng, colour, fields):
    """Linear RGB of the strands: variation from strand to strand, single grey hairs, dyed streaks."""
    fine, middle, broad = fields[..., 0], fields[..., 1], fields[..., 2]
    pale = float(np.clip(colour.mean() * 2.2, 0, 1))  # pale hair lets light through: less contrast
    contrast = (1 - 0.6 * pale) * (0.6 if p["hair_curl"] == "coily" else 1.0)
    vary = np.exp((0.24 * fine + 0.17 * middle + 0.13 * broad) * contrast)[..., None]
    albedo = colour * vary
    half_grey = 4 * p["hair_grey"] * (1 - p["hair_grey"])  # grey and coloured hairs side by side
    lighter = np.clip(0.5 + 0.6 * fine + 0.4 * middle, 0, 1) * half_grey
    albedo = mix(albedo, np.array([0.40, 0.39, 0.375]) * vary, 0.32 * lighter)
    dyed = p["hair_colour"] in ("brown", "light brown", "blond", "dark brown") and p["sex"] == "female"
    if dyed and p["hair_grey"] < 0.3 and rng.random() < 0.4:
        streak = np.clip(0.4 * middle + 0.7 * broad, 0, 1) * step(8, 0, yy)
        albedo = mix(albedo, albedo * np.array([1.8, 1.7, 1.5]), streak)
    return np.clip(albedo, 0.004, 0.85).astype(np.float32)


def build(p, rng, shape):
    """All hair of the head.

    Returns a dictionary: "colour" (linear RGB), "scalp" (cover to paint on the skin), "strands" (strand fields),
    "front" (layer over the head, or None when bald) and "back" (layer behind the neck, or None).
    """
    colour = hair_colour(p, rng)
    m = measures(p, rng)
    fields, dx, dy = strand_texture(p, rng, *strand_direction(m, rng))
    fine, middle, broad = fields[..., 0], fields[..., 1], fields[..., 2]
    strand = 0.55 * fine + 0.40 * middle + 0.30 * broad
    hair = {"colour": colour, "scalp": None, "strands": fields, "front": None, "back": None}
    if m["style"] == "bald":
        rest = step(0.0, 1.2, abs_x - (m["width"] - 0.75)) * step(-1.5, 0.5, yy) * step(5.0, 2.0, yy)
        hair["scalp"] = np.clip(0.45 * rest * (1 + 0.4 * strand) * (rng.random() < 0.6), 0, 0.9)
        return hair

    cover, offset, shell = scalp_cover(p, rng, m, strand, fields)
    albedo = strand_colour(p, rng, colour, fields)
    curtain, edges = None, None
    if m["falls"]:
        curtain, behind, inner, outer = curtains(p, rng, m, strand, fields, shell)
        cover, edges = np.maximum(cover, curtain), (inner, outer)
        hair["back"] = {"alpha": behind.astype(np.float32), "albedo": albedo, "strand": strand}
    z = layer_height(p, m, shape["z"], shape["alpha"] > 0.5, offset, curtain, edges)
    rough = {"straight": 0.05, "wavy": 0.11, "curly": 0.30, "coily": 0.16}[p["hair_curl"]] * min(1, m["thick"] / 0.8)
    z = z + rough * (0.30 * broad + 0.25 * middle + 0.10 * fine)
    cover = np.clip(cover, 0, 1).astype(np.float32)
    hair["front"] = {"z": z.astype(np.float32), "alpha": cover, "albedo": albedo, "dx": dx, "dy": dy}
    # A thin tint of hair colour on the scalp hides the pale line under sparse cover.
    hair["scalp"] = 0.55 * step(0.0, 1.2, m["inside"]) * (m["style"] != "receding")
    return hair
