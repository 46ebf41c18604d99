"""Light on the map: soft key light, sky-like ambient, occlusion, soft shadows, sub-surface blur, hair highlights."""

import cv2
import numpy as np

from .canvas import SIZE, TEXEL, blur, step

SMALL = SIZE // 3  # shadows and occlusion are soft, so a third of the resolution is enough


def direction(azimuth, elevation):
    """Unit vector towards a light; degrees; azimuth 0 = from the camera, positive = from the right."""
    a, e = np.radians(azimuth), np.radians(elevation)
    return np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)], np.float32)


def normals(z):
    """Unit normals (H, W, 3) of a height field in centimetres."""
    dx = cv2.Sobel(z, cv2.CV_32F, 1, 0, ksize=3) / (8 * TEXEL)
    dy = -cv2.Sobel(z, cv2.CV_32F, 0, 1, ksize=3) / (8 * TEXEL)
    inverse = 1.0 / np.sqrt(dx * dx + dy * dy + 1.0)
    return np.dstack([-dx * inverse, -dy * inverse, inverse])


def shrink(image):
    """Reduce a map for soft effects."""
    return cv2.resize(image, (SMALL, SMALL), interpolation=cv2.INTER_AREA)


def enlarge(image):
    """Bring a reduced map back to full size."""
    return cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR)


def occlusion(z, top):
    """Share of the sky that reaches height `z` under and beside the scene's top surface `top` (0..1)."""
    small, high = shrink(z), shrink(top)
    total = np.zeros_like(small)
    for reach, weight in ((0.5, 0.20), (1.2, 0.32), (2.6, 0.40), (5.5, 0.30)):  # centimetres
        near = blur(np.maximum(high, small.min()), reach / (3 * TEXEL))
        total += weight * np.clip((near - small) / reach, 0.0, 1.6)
    return enlarge(np.exp(-1.25 * total))


def shadow(z, top, light, softness):
    """Soft shadow (0 dark .. 1 lit) of the surface `top` on the heights `z` along a light direction."""
    small, high = shrink(z), shrink(top)
    reach = np.geomspace(0.25, 11.0, 15)  # centimetres along the light
    worst = np.zeros_like(small)
    for distance in reach:
        shift_x = light[0] * distance / (3 * TEXEL)
        shift_y = -light[1] * distance / (3 * TEXEL)
        moved = cv2.warpAffine(high, np.float32([[1, 0, -shift_x], [0, 1, -shift_y]]), (SMALL, SMALL),
                               borderMode=cv2.BORDER_CONSTANT, borderValue=-30.0)  # fmt: skip
        above = moved - (small + light[2] * distance + 0.05)
        worst = np.maximum(worst, above / (softness * distance + 0.25))
    return enlarge(blur(step(0.9, -0.1, worst), 0.8))


def scene_lights(p, rotation):
    """Lights of the photograph, turned into head coordinates."""
    warm = p["light_warmth"]
    key_colour = np.array([1 + 0.14 * warm, 1.0, 1 - 0.19 * warm], np.float32)
    sky_colour = np.array([1 - 0.07 * warm, 1.0, 1 + 0.09 * warm], np.float32)
    towards = rotation.T
    return {
        "key": towards @ direction(p["light_azimuth"], p["light_elevation"]),
        "key_colour": key_colour * p["light_ratio"],
        "fill": towards @ direction(-0.6 * p["light_azimuth"] - 10, 5),
        "rim": towards @ direction(-np.sign(p["light_azimuth"] + 0.01) * 125, 30),
        "rim_colour": np.array([1.0, 0.98, 0.95], np.float32) * 1.6 * p["rim_light"],
        "sky_colour": sky_colour,
        "up": towards @ np.array([0, 1, 0], np.float32),
        "view": towards @ np.array([0, 0, 1], np.float32),
        "softness": 0.15 + 0.75 * p["light_softness"],
    }


def light_skin(p, shape, paint, lights, top):
    """Radiance (linear RGB) of the body layer."""
    z = shape["z"]
    n = normals(z)
    cloth = shape["cloth"]
    lit = n @ lights["key"]
    wrap = 0.06 + 0.20 * p["light_softness"]
    lit = np.clip((lit + wrap) / (1 + wrap), 0, None)
    shade = shadow(z, top, lights["key"], lights["softness"])
    open_sky = occlusion(z, top)
    key = lit * shade
    ambient = open_sky * (0.74 + 0.26 * (n @ lights["up"])) * 0.72
    ambient = ambient + 0.25 * np.clip(n @ lights["fill"], 0, None) * (0.3 + 0.7 * open_sky)
    irradiance = key[..., None] * lights["key_colour"] + ambient[..., None] * lights["sky_colour"]
    rim = np.clip(n @ lights["rim"] + 0.15, 0, None) ** 1.5
    irradiance += rim[..., None] * lights["rim_colour"]
    # Light that enters the skin leaves it a little further on: blur what arrives, red the widest.
    for channel, centimetres in enumerate((0.25, 0.14, 0.09)):
        wide = blur(irradiance[..., channel], centimetres / TEXEL)
        irradiance[..., channel] += (wide - irradiance[..., channel]) * (1 - 0.8 * cloth)
    radiance = paint["albedo"] * irradiance * paint["cavity"][..., None]

    def highlight(sharpness):
        h = lights["key"] + lights["view"]
        h /= np.linalg.norm(h)
        return np.clip(n @ h, 0, 1) ** sharpness * (sharpness + 8) / 25

    facing = np.clip(n @ lights["view"], 0, 1)
    fresnel = 0.6 + 2.2 * (1 - facing) ** 4
    sheen = (0.55 * highlight(9) + 0.45 * highlight(32)) * (0.35 + 0.65 * shade) * fresnel
    sheen = sheen + 0.45 * rim * p["rim_light"] + 0.10 * open_sky * (1 - facing) ** 3
    spec = 0.074 * paint["gloss"] * sheen * paint["cavity"]
    radiance += spec[..., None] * (0.35 * lights["key_colour"] + 0.3)
    radiance += (paint["glint"] * (0.55 + 0.35 * p["light_ratio"]))[..., None] * 0.8
    return radiance.astype(np.float32)


def light_layer(layer, lights, top):
    """Radiance of a hat or another plain layer."""
    z = layer["z"]
    n = normals(z)
    lit = np.clip((n @ lights["key"] + 0.2) / 1.2, 0, None) * shadow(z, top, lights["key"], lights["softness"])
    ambient = occlusion(z, top) * (0.6 + 0.4 * (n @ lights["up"])) * 0.85
    irradiance = lit[..., None] * lights["key_colour"] + ambient[..., None] * lights["sky_colour"]
    return (layer["albedo"] * irradiance).astype(np.float32)


def light_back_hair(p, layer):
    """Radiance of the hair behind the neck: always in the shade of the head."""
    shade = 0.42 * (0.6 + 0.3 * p["light_ratio"]) * np.exp(0.25 * layer["strand"])
    return (layer["albedo"] * shade[..., None]).astype(np.float32)


def light_hair(p, layer, fields, lights, top):
    """Radiance of the front hair: strands lit like thin cylinders (Kajiya and Kay)."""
    z = layer["z"]
    rounded = blur(z, 3.5)
    n = normals(rounded)
    dx, dy = layer["dx"], layer["dy"]
    slope_x, slope_y = -n[..., 0] / n[..., 2], -n[..., 1] / n[..., 2]
    tz = np.clip(dx * slope_x + dy * slope_y, -3, 3)
    inverse = 1 / np.sqrt(dx * dx + dy * dy + tz * tz)
    tangent = np.dstack([dx * inverse, dy * inverse, tz * inverse])
    shift = 0.10 * fields[..., 1] + 0.06 * fields[..., 0]
    tangent = tangent + shift[..., None] * n  # strands do not lie exactly side by side
    tangent /= np.linalg.norm(tangent, axis=2, keepdims=True)
    shade = shadow(z, top, lights["key"], lights["softness"] + 0.2)
    open_sky = occlusion(z, top)
    pale = np.clip(layer["albedo"].mean() * 2.2, 0, 1)
    self_shade = np.clip(0.85 + (1 - 0.6 * pale) * (0.17 * fields[..., 1] + 0.14 * fields[..., 2]), 0.25, 1.4)

    def sine(vector):
        return np.sqrt(np.clip(1 - (tangent @ vector) ** 2, 0, 1))

    lit = np.clip((n @ lights["key"] + 0.35) / 1.35, 0, None)
    diffuse = (0.35 + 0.65 * sine(lights["key"])) * lit * shade
    half = lights["key"] + lights["view"]
    half /= np.linalg.norm(half)
    gloss = {"straight": 1.0, "wavy": 0.8, "curly": 0.45, "coily": 0.2}[p["hair_curl"]] * (1 - 0.5 * p["hair_grey"])
    narrow = sine(half) ** 60 * lit * shade * np.clip(1 + 0.5 * fields[..., 0] + 0.5 * fields[..., 1], 0, 3)
    wide = sine(half) ** 14 * lit * shade
    rim = np.clip(n @ lights["rim"] + 0.35, 0, None) ** 1.5
    irradiance = diffuse[..., None] * lights["key_colour"]
    irradiance += (open_sky * (0.65 + 0.35 * (n @ lights["up"])) * 0.80)[..., None] * lights["sky_colour"]
    irradiance += (rim * 0.8)[..., None] * lights["rim_colour"]
    albedo = layer["albedo"]
    radiance = albedo * irradiance * self_shade[..., None]
    tint = np.sqrt(albedo)
    radiance += (0.085 * gloss * narrow)[..., None] * lights["key_colour"] * (0.5 + 0.5 * tint)
    radiance += (0.22 * gloss * wide)[..., None] * tint**1.6 * lights["key_colour"] * 0.5
    radiance += (0.06 * rim * (1 + 0.6 * np.clip(fields[..., 0], -1, 2)))[..., None] * lights["rim_colour"]
    # A weak sky sheen keeps black hair from becoming a hole.
    radiance += (0.010 * gloss * open_sky * np.clip(1 + 0.7 * fields[..., 1], 0, 3))[..., None] * lights["sky_colour"]
    return radiance.astype(np.float32)
