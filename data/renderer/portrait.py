"""One portrait from beginning to end: person -> paint and heights -> light -> camera."""

import cv2
import numpy as np

from . import backdrop, camera, canvas, features, hair, head, light, people, skin, wear

BASE_SEED = 20261
SPLITS = {"train": 1, "val": 2, "test": 3}
NOTHING = -10.4  # height beside the body, centimetres: just behind the widest part of the head


def face_seed(split, index):
    """The seed of one face: base seed, split number and index written one after the other, so no two are equal."""
    if not 0 <= index < 1_000_000:
        raise ValueError("the index of a face must lie in 0..999999")
    return BASE_SEED * 10_000_000 + SPLITS[split] * 1_000_000 + int(index)


def stream(split, index, subject):
    """A random generator for one subject (person, hair, skin, ...) of one face.

    Each subject has its own generator, so that a change to the hair code leaves skin and background as they were,
    and face `index` looks the same alone, in a batch, or in another process.
    """
    return np.random.default_rng([face_seed(split, index), *subject.encode()])


def render_face(index, split="train", shot=0):
    """Render one portrait.

    shot 0 is the course's picture of person `index`; 1, 2, ... are other photographs of the same person, with another
    expression, dress, pose, light and background.

    Returns (image, params): image is uint8 (128, 128, 3) RGB; params is a flat dictionary of readable values, see
    the table in data/README.md.
    """
    again = f", shot {shot}" if shot else ""  # of each stream that belongs to the photograph, not to the person
    p = people.sample_person(stream(split, index, "person"))
    if shot:
        p = people.photographed_again(p, stream(split, index, "person" + again))
    layers = build_layers(p, split, index, again)
    turn = camera.rotation(p)
    picture, meter = draw(p, layers, turn, stream(split, index, "background" + again))
    image = camera.photograph(p, stream(split, index, "photo" + again), picture, meter)
    return image, {"index": index, "split": split, "seed": face_seed(split, index), **p, **landmarks(p, turn)}


def build_layers(p, split, index, again=""):
    """Heights, paint and masks of everything in the picture, before any light falls on it."""
    shape = head.build(p)
    half, _, top = head.outline(p)
    width = float(half.max())
    coiffure = hair.build(p, stream(split, index, "hair"), shape)
    colour = coiffure["colour"]

    rng = stream(split, index, "skin")
    paint = skin.paint_skin(p, rng, shape)
    features.nostrils(p, shape, paint)
    features.mouth(p, rng, shape, paint, skin.skin_colour(p["melanin"], p["blood"]))
    skin.beard(p, rng, shape, paint, colour * (0.95 - 0.35 * p["hair_grey"]))
    for side in (-1, 1):
        features.eye(p, rng, shape, paint, side)
    brow_colour = canvas.mix(colour, [0.02, 0.015, 0.012], 0.45 if p["hair_grey"] < 0.6 else 0.15)
    for side in (-1, 1):
        features.brow(p, rng, shape, paint, side, brow_colour)
    if coiffure["scalp"] is not None:
        cover = coiffure["scalp"] * (1 - shape["ear"])
        paint["albedo"] += (colour - paint["albedo"]) * cover[..., None]

    wear.clothes(p, stream(split, index, "clothes" + again), shape, paint)
    glasses = wear.glasses(p, stream(split, index, "glasses" + again))
    if glasses is not None:  # the frame throws a faint shadow on the face below it
        paint["cavity"] *= 1 - 0.35 * np.roll(canvas.blur(glasses["frame"], 1.5), 4, axis=0) * shape["head"]
    asymmetry(stream(split, index, "asymmetry"), shape, paint)
    shape["z"] = np.where(shape["alpha"] > 0.5, shape["z"], NOTHING).astype(np.float32)
    return {
        "shape": shape,
        "paint": paint,
        "hair": coiffure,
        "glasses": glasses,
        "hat": wear.hat(p, stream(split, index, "hat" + again), shape, width, top),
        "earrings": wear.earrings(p, stream(split, index, "earrings" + again), shape),
    }


def asymmetry(rng, shape, paint):
    """Bend all maps of the body by about a millimetre, and tilt the mouth a little: no face is symmetric."""
    shift_x = 0.05 * canvas.noise(rng, 90) / canvas.TEXEL
    tilt = 0.05 * rng.normal() * canvas.xx * np.exp(-(((canvas.yy + 6.3) / 1.6) ** 2) - (canvas.xx / 4.5) ** 2)
    shift_y = (0.065 * canvas.noise(rng, 90) + tilt) / canvas.TEXEL
    index = np.arange(canvas.SIZE, dtype=np.float32)
    column, row = (index[None, :] + shift_x).astype(np.float32), (index[:, None] + shift_y).astype(np.float32)
    for maps in (shape, paint):
        for name, values in maps.items():
            if isinstance(values, np.ndarray) and values.ndim >= 2:
                maps[name] = camera.look_up(values.astype(np.float32), column, row)


def draw(p, layers, turn, rng):
    """Light each layer and composite it over the background, farthest first. Returns samples and light meter."""
    shape, paint, coiffure = layers["shape"], layers["paint"], layers["hair"]
    front, back, hat = coiffure["front"], coiffure["back"], layers["hat"]
    lights = light.scene_lights(p, turn)
    summit = shape["z"]  # the top surface of everything: what blocks light
    for layer in (front, hat):
        if layer is not None:
            summit = np.maximum(summit, np.where(layer["alpha"] > 0.5, layer["z"], NOTHING)).astype(np.float32)

    rays = camera.Rays(p, turn)
    picture = backdrop.paint(p, rng, camera.SAMPLES)
    if back is not None:
        picture = paste(picture, light.light_back_hair(p, back), back["alpha"], rays.at(np.float32(-10.5)))
    if layers["glasses"] is not None:
        picture = put_temples(p, picture, turn, layers["glasses"], behind=True)
    radiance = light.light_skin(p, shape, paint, lights, summit)
    picture = paste(picture, radiance, shape["alpha"], rays.meet(shape["z"]))
    earrings = layers["earrings"]
    if earrings is not None:
        shine = 1.3 * light.light_layer(earrings, lights, earrings["z"])
        picture = paste(picture, shine, earrings["alpha"], rays.at(np.float32(-7.0)))
    if layers["glasses"] is not None:
        picture = put_temples(p, picture, turn, layers["glasses"], behind=False)
        picture = put_glasses(p, picture, rays, layers["glasses"])
    if front is not None:
        lit = light.light_hair(p, front, coiffure["strands"], lights, summit)
        picture = paste(picture, lit, front["alpha"], rays.meet(front["z"]))
    if hat is not None:
        picture = paste(picture, light.light_layer(hat, lights, summit), hat["alpha"], rays.meet(hat["z"]))
    face_area = canvas.window(-4, 4, -8, 5)
    meter = float(np.log(radiance[face_area].mean(axis=2) + 1e-3).mean())
    return picture, meter


def paste(picture, colour, alpha, hits):
    """Composite a map-sized layer over the picture, sampled where the rays meet it."""
    column, row = hits[0], hits[1]
    return camera.over(picture, camera.look_up(colour, column, row), camera.look_up(alpha, column, row))


def put_glasses(p, picture, rays, sheet):
    """Composite the glasses: tinted lenses, a pale reflection, the frame."""
    column, row, _ = rays.at(np.float32(1.6))
    column, row, _ = rays.at(camera.look_up(sheet["z"], column, row))  # second guess: the sheet is slightly bent
    lens, frame = camera.look_up(sheet["lens"], column, row), camera.look_up(sheet["frame"], column, row)
    glare = camera.look_up(sheet["glare"], column, row)
    picture = camera.over(picture, sheet["lens_colour"], lens * sheet["tint"])
    picture = picture + (glare * (0.4 + 0.3 * p["light_ratio"]))[..., None]
    return camera.over(picture, frame_radiance(p, sheet), frame)


def frame_radiance(p, sheet):
    """Radiance of the frame, as if lit evenly."""
    return (sheet["colour"] * (0.6 + 0.55 * p["light_ratio"]) + 0.012).astype(np.float32)


def put_temples(p, picture, turn, sheet, behind):
    """Draw the side arms of the glasses, from the hinges back to the ears.

    An arm that leads away behind the face is drawn before the face, the others after it.
    """
    x, y = sheet["hinge"]
    cover = np.zeros(picture.shape[:2], np.uint8)
    for side in (-1, 1):
        ends = camera.project(p, turn, [[side * x, y, 0.0], [side * 7.35 * p["face_width"], 0.35, -7.5]])
        hidden = side * (ends[1, 0] - ends[0, 0]) < 0
        if hidden == behind:
            ends = np.round(ends * camera.SAMPLES / camera.PIXELS * 16).astype(int)
            cv2.line(cover, tuple(map(int, ends[0])), tuple(map(int, ends[1])), 255, sheet["arm"], cv2.LINE_AA, 4)
    return camera.over(picture, frame_radiance(p, sheet), cover / np.float32(255))


def landmarks(p, turn):
    """Eye positions and face box in pixels, from the projection (box: forehead to chin, cheek to cheek)."""
    reach = 6.9 * p["face_width"]
    points = [
        [-p["eye_distance"], 0, 0], [p["eye_distance"], 0, 0], [-reach, -1, -5], [reach, -1, -5],
        [0, 6.2 * p["face_length"], 0.2], [0, -11.2 * p["face_length"], 0.2], [0, -p["nose_length"] + 0.8, 3.0],
        [0, -p["mouth_height"], 1.9],
    ]  # fmt: skip
    pixels = camera.project(p, turn, points)
    result = {}
    for name, (x, y) in zip(("left_eye", "right_eye"), pixels[:2], strict=True):
        result[f"{name}_x"], result[f"{name}_y"] = float(x), float(y)
    result["nose_x"], result["nose_y"] = map(float, pixels[6])
    result["mouth_x"], result["mouth_y"] = map(float, pixels[7])
    result["face_left"], result["face_right"] = float(pixels[2:4, 0].min()), float(pixels[2:4, 0].max())
    result["face_top"], result["face_bottom"] = float(pixels[4, 1]), float(pixels[5, 1])
    return result
