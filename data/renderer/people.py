"""Who is in the picture: draws one person and one photograph as a flat dictionary of readable values.

Sex, age, melanin, hair and dress are drawn together, one given the other, so that the combination is plausible.
"""

import numpy as np

HAIR_COLOURS = {  # linear RGB reflectance
    "black": (0.020, 0.016, 0.014),
    "dark brown": (0.050, 0.030, 0.019),
    "brown": (0.105, 0.060, 0.034),
    "light brown": (0.20, 0.122, 0.066),
    "blond": (0.42, 0.285, 0.145),
    "platinum": (0.62, 0.50, 0.33),
    "auburn": (0.135, 0.046, 0.022),
    "red": (0.27, 0.098, 0.034),
}
IRIS_COLOURS = {  # linear RGB reflectance
    "dark brown": (0.035, 0.016, 0.008),
    "brown": (0.075, 0.035, 0.015),
    "hazel": (0.115, 0.072, 0.028),
    "green": (0.095, 0.105, 0.058),
    "blue": (0.068, 0.084, 0.102),
    "grey": (0.13, 0.15, 0.165),
}


def pick(rng, table):
    """Draw one key of a {key: weight} table."""
    keys = list(table)
    weights = np.array([max(0.0, float(table[key])) for key in keys])
    return keys[rng.choice(len(keys), p=weights / weights.sum())]


def clipped(rng, mean, deviation, low, high):
    """Normal value kept between low and high."""
    return float(np.clip(rng.normal(mean, deviation), low, high))


def sample_person(rng):
    """Draw everything about one portrait. Lengths in centimetres, angles in degrees, shares in 0..1."""
    p = {}
    p["sex"] = "female" if rng.random() < 0.5 else "male"
    female = p["sex"] == "female"
    p["age"] = float(np.clip(18 + rng.gamma(2.0, 9.5), 18, 85)) if rng.random() < 0.87 else float(rng.uniform(18, 85))
    old = np.clip((p["age"] - 35) / 45, 0, 1)
    group = pick(rng, {"light": 0.46, "medium": 0.30, "dark": 0.24})
    p["melanin"] = float(
        {"light": rng.uniform(0.02, 0.26), "medium": rng.uniform(0.24, 0.56), "dark": rng.uniform(0.55, 0.98)}[group]
    )
    p["skin_tone"] = group
    p["blood"] = clipped(rng, 0.42, 0.18, 0.05, 1.0)
    p["epicanthic_fold"] = clipped(rng, 0.75, 0.2, 0.2, 1) if group != "dark" and rng.random() < 0.2 else 0.0
    _sample_hair(rng, p, female, old)
    _sample_shape(rng, p, female, old)
    _sample_expression(rng, p)
    _sample_wear(rng, p, female)
    _sample_photo(rng, p)
    return p


def photographed_again(p, rng):
    """The same person in another photograph: expression, dress, pose, light and camera drawn anew, the rest kept."""
    other = dict(p)
    _sample_expression(rng, other)
    _sample_wear(rng, other, other["sex"] == "female")
    _sample_photo(rng, other)
    return other


def _sample_hair(rng, p, female, old):
    dark, east = p["melanin"] > 0.55, p["epicanthic_fold"] > 0
    if dark:
        p["hair_curl"] = pick(rng, {"coily": 0.62, "curly": 0.2, "wavy": 0.08, "straight": 0.10})
    elif east:
        p["hair_curl"] = pick(rng, {"straight": 0.85, "wavy": 0.15})
    else:
        p["hair_curl"] = pick(rng, {"straight": 0.48, "wavy": 0.37, "curly": 0.15})
    if dark or east:
        p["hair_colour"] = pick(rng, {"black": 0.75, "dark brown": 0.21, "auburn": 0.04 * female})
    elif p["melanin"] > 0.27:
        p["hair_colour"] = pick(rng, {"black": 0.42, "dark brown": 0.4, "brown": 0.14, "light brown": 0.04})
    else:
        p["hair_colour"] = pick(
            rng,
            {
                "black": 0.08,
                "dark brown": 0.25,
                "brown": 0.27,
                "light brown": 0.17,
                "blond": 0.15,
                "platinum": 0.03 * female,
                "auburn": 0.05,
                "red": 0.04,
            },
        )
    onset = rng.normal(55 if not female else 66, 9)  # age at which hair turns grey
    p["hair_grey"] = float(np.clip((p["age"] - onset) / 22 + 0.15, 0, 1)) if p["age"] > onset - 3 else 0.0
    coily = p["hair_curl"] == "coily"
    if female:
        styles = {
            "long parted": 4.2,
            "long side part": 3.2,
            "medium": 2.2 + old,
            "fringe": 1.7,
            "bob": 1.2 + old,
            "tied back": 1.8,
            "short": 0.5 + 1.2 * old,
            "curly": 1.3,
            "afro": 0.0,
            "buzz": 0.05,
        }
        if coily:
            styles.update({"afro": 3.5, "curly": 3.0, "tied back": 3.2, "buzz": 0.8, "medium": 0.6, "fringe": 0.3})
        if p["hair_curl"] == "curly":
            styles["curly"] = 5.0
    else:
        bald = 0.4 + 3.2 * old
        styles = {
            "short": 3.4,
            "side part": 2.4,
            "swept back": 1.7,
            "buzz": 1.3,
            "bald": 0.75 * bald,
            "receding": 1.4 * bald,
            "fringe": 0.8,
            "curly": 0.5,
            "medium": 0.45,
            "long parted": 0.2,
        }
        if coily:
            styles.update(
                {
                    "buzz": 4.5,
                    "afro": 1.0,
                    "short": 1.5,
                    "side part": 0.2,
                    "swept back": 0.2,
                    "bald": 1.6 * bald,
                    "fringe": 0.0,
                    "medium": 0.1,
                }
            )
        if p["hair_curl"] == "curly":
            styles["curly"] = 3.0
    p["hair_style"] = pick(rng, styles)
    if p["hair_style"] == "afro":
        p["hair_curl"] = "coily"
    if p["hair_style"] == "curly" and p["hair_curl"] not in ("curly", "coily"):
        p["hair_curl"] = "curly"
    p["hair_volume"] = clipped(rng, 0.5, 0.25, 0, 1)
    p["hair_side"] = float(rng.choice([-1, 1]))
    p["hair_length"] = float(rng.uniform(0, 1))
    p["hairline"] = clipped(rng, 6.0 - 0.2 * female + (0.0 if female else 0.9 * old), 0.45, 5.2, 8.0)
    p["beard"] = "none"
    if not female:
        p["beard"] = pick(
            rng, {"none": 4.6, "stubble": 2.3, "short": 1.4, "full": 0.9, "moustache": 0.5, "goatee": 0.7}
        )


def _sample_shape(rng, p, female, old):
    n = rng.standard_normal
    broad = np.clip((p["melanin"] - 0.45) / 0.5, 0, 1)  # only a shift of the mean; the spread stays wide
    p["face_width"] = 0.965 + 0.035 * n() + (-0.035 if female else 0.02)
    p["face_length"] = 0.935 + 0.030 * n() + (-0.03 if female else 0.025)
    p["jaw_width"] = 1.0 + 0.05 * n() + (-0.10 if female else 0.045) + 0.025 * old
    p["chin_width"] = 1.0 + 0.12 * n() + (-0.12 if female else 0.10)
    p["weight"] = float(np.clip(0.30 * n() + 0.25 * old, -0.7, 1.0))
    p["cheekbone"] = 0.35 + 0.16 * n() + 0.05 * female
    p["brow_ridge"] = float(np.clip((0.02 if female else 0.38) + 0.12 * n(), 0, 0.8))
    p["eye_distance"] = 3.2 + 0.11 * n() + (-0.03 if female else 0.03)
    p["eye_width"] = 1.66 + 0.06 * n() + 0.05 * female
    p["eye_open"] = float(
        np.clip(0.99 + 0.07 * n() + 0.05 * female - 0.18 * old - 0.14 * p["epicanthic_fold"], 0.68, 1.22)
    )
    p["eye_tilt"] = 4.0 + 2.5 * n() + 1.5 * female - 3.5 * old + 2.0 * p["epicanthic_fold"]
    p["eye_crease"] = float(np.clip(0.42 + 0.10 * n() - 0.28 * p["epicanthic_fold"], 0.06, 0.7))
    irises = {"dark brown": 0.25 + 3 * (p["melanin"] > 0.3), "brown": 0.6}
    if p["melanin"] < 0.3 and not p["epicanthic_fold"]:
        irises.update({"hazel": 0.3, "green": 0.2, "blue": 0.6, "grey": 0.2})
    p["eye_colour"] = pick(rng, irises)
    p["nose_length"] = 4.08 + 0.26 * n() + (-0.15 if female else 0.12) + 0.15 * old
    p["nose_width"] = 1.54 + 0.12 * n() + (-0.15 if female else 0.06) + 0.26 * broad + 0.1 * p["epicanthic_fold"]
    p["nose_height"] = 1.55 + 0.18 * n() + (-0.20 if female else 0.1) - 0.22 * broad - 0.15 * p["epicanthic_fold"]
    p["bridge"] = float(np.clip(0.62 + 0.16 * n() - 0.22 * broad - 0.25 * p["epicanthic_fold"], 0.15, 1.0))
    p["nose_tip"] = 0.72 + 0.09 * n() + (-0.09 if female else 0.04) + 0.1 * broad
    p["mouth_width"] = 2.52 + 0.16 * n() + (-0.05 if female else 0.1)
    p["mouth_height"] = 6.2 + 0.16 * n()
    p["lip_upper"] = float(np.clip(0.60 + 0.10 * n() + 0.12 * female + 0.22 * broad - 0.24 * old, 0.28, 1.1))
    p["lip_lower"] = float(np.clip(0.92 + 0.12 * n() + 0.09 * female + 0.20 * broad - 0.28 * old, 0.48, 1.4))
    p["brow_thickness"] = float(np.clip((0.38 if female else 0.54) + 0.08 * n(), 0.2, 0.68))
    p["brow_arch"] = (0.30 if female else 0.20) + 0.14 * n()
    p["brow_height"] = 1.76 + 0.15 * n() + (0.10 if female else -0.10)
    p["brow_density"] = float(np.clip(0.78 + 0.12 * n() - 0.25 * old * female, 0.35, 1.0))
    p["ear_size"] = 1.0 + 0.08 * n() + 0.10 * old
    p["neck_width"] = (4.6 if female else 5.6) + 0.30 * n() + 0.5 * p["weight"]
    p["freckles"] = float(rng.random() < 0.18 and p["melanin"] < 0.35) * float(rng.uniform(0.3, 1))
    p["skin_roughness"] = float(np.clip(0.35 + 0.45 * old + 0.15 * n(), 0.1, 1))
    p["makeup"] = float(np.clip(rng.normal(0.55, 0.3), 0, 1)) if female else 0.0
    p["lipstick"] = float(np.clip(rng.normal(0.35, 0.4), 0, 1)) if female else 0.0


def _sample_expression(rng, p):
    p["expression"] = pick(
        rng,
        {"neutral": 3.2, "closed smile": 2.6, "teeth smile": 4.4, "frown": 0.5, "surprise": 0.35, "mouth open": 0.6},
    )
    smile, mouth_open, brow = rng.uniform(0.0, 0.25) + 0.08 * (p["sex"] == "female"), 0.0, rng.normal(0, 0.15)
    if p["expression"] == "closed smile":
        smile = rng.uniform(0.35, 0.8)
    elif p["expression"] == "teeth smile":
        smile, mouth_open = rng.uniform(0.55, 1.0), rng.uniform(0.25, 0.50)
    elif p["expression"] == "frown":
        smile, brow = rng.uniform(-0.35, -0.1), rng.uniform(-0.9, -0.5)
    elif p["expression"] == "surprise":
        mouth_open, brow = rng.uniform(0.2, 0.7), rng.uniform(0.6, 1.0)
    elif p["expression"] == "mouth open":
        smile, mouth_open = rng.uniform(0, 0.3), rng.uniform(0.15, 0.5)
    p["smile"], p["mouth_open"], p["brow"] = float(smile), float(mouth_open), float(brow)


def _sample_wear(rng, p, female):
    p["glasses"] = "none"
    if rng.random() < (0.16 if p["age"] < 45 else 0.32):
        p["glasses"] = pick(
            rng, {"rectangle": 3, "round": 1.4, "oval": 1.5, "browline": 1, "cat-eye": 1.2 * female, "rimless": 1}
        )
    if rng.random() < 0.022:
        p["glasses"] = "sunglasses"
    p["hat"] = "none"
    if rng.random() < 0.055:
        p["hat"] = pick(rng, {"beanie": 1.5, "cap": 1.0, "headband": 0.8 * female})
    p["earrings"] = "none"
    if female and rng.random() < 0.45:
        p["earrings"] = pick(rng, {"stud": 1, "hoop": 0.7, "drop": 0.9})
    p["clothes"] = pick(
        rng,
        {
            "t-shirt": 2.2,
            "shirt": 2.0,
            "suit": 0.7 if female else 1.8,
            "sweater": 1.5,
            "turtleneck": 0.8,
            "patterned": 1.4,
            "low neckline": 1.8 * female,
            "coat": 0.8,
        },
    )


def _sample_photo(rng, p):
    most = 17 if p["glasses"] != "none" else 25  # flat glasses stand out from a turned face
    p["yaw"] = clipped(rng, 0, 0.42 * most, -most, most)
    p["pitch"] = clipped(rng, 0, 3.2, -7, 7)
    p["roll"] = clipped(rng, 0, 3.0, -8, 8)
    p["scale"] = float(np.clip(rng.normal(1.0, 0.05), 0.88, 1.12))
    p["shift_x"] = clipped(rng, 0, 0.014, -0.035, 0.035)
    p["shift_y"] = clipped(rng, 0, 0.012, -0.03, 0.03)
    p["gaze_x"] = clipped(rng, 0, 0.5, -1, 1)
    p["gaze_y"] = clipped(rng, 0, 0.4, -1, 1)
    p["light_azimuth"] = clipped(rng, 0, 38, -80, 80)
    p["light_elevation"] = clipped(rng, 35, 13, 8, 65)
    p["light_warmth"] = clipped(rng, 0.2, 0.40, -1, 1)
    p["light_softness"] = float(rng.uniform(0.15, 1.0))
    p["light_ratio"] = float(np.clip(rng.normal(2.3, 0.8), 0.8, 4.5))  # key light over ambient light
    p["rim_light"] = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.35 else 0.0
    p["background"] = pick(
        rng, {"studio": 2.2, "gradient": 1.6, "bokeh": 1.3, "indoor": 2.2, "outdoor": 2.2, "wall": 1.2}
    )
    p["exposure"] = float(np.clip(rng.normal(0, 0.27), -0.7, 0.7))  # photographic stops
    p["contrast"] = clipped(rng, 1.06, 0.12, 0.75, 1.3)
    p["saturation"] = clipped(rng, 1.06, 0.12, 0.75, 1.35)
    p["grain"] = float(rng.uniform(0.0015, 0.006))
    p["lens_blur"] = float(rng.uniform(0.45, 0.80))
    p["sharpen"] = float(rng.uniform(0.25, 0.65))
