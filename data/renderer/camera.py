"""The camera: rays through height-field layers, compositing, and what a photograph does to light."""

import cv2
import numpy as np

from .canvas import LEFT, TEXEL, TOP, blur, noise

PIXELS = 128  # side of the final picture
SAMPLES = 2 * PIXELS  # rays per side: two by two per pixel
DISTANCE = 95.0  # camera to eyes, centimetres
EYES_Y = 0.445  # where the eyes fall, as a share of the picture height
WIDTH = 21.2  # centimetres seen across the picture at the eyes, for scale 1


def rotation(p):
    """Head-to-camera rotation from yaw (to the right), pitch (up) and roll, in degrees."""
    yaw, pitch, roll = np.radians([p["yaw"], p["pitch"], p["roll"]])
    ry = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    rx = np.array([[1, 0, 0], [0, np.cos(pitch), np.sin(pitch)], [0, -np.sin(pitch), np.cos(pitch)]])
    rz = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    return (rz @ ry @ rx).astype(np.float32)


def project(p, turn, points):
    """Pixel positions (N, 2) of head points (N, 3) in centimetres."""
    camera = np.asarray(points, np.float32) @ turn.T
    zoom = DISTANCE / (DISTANCE - camera[:, 2]) / (WIDTH / p["scale"]) * PIXELS
    centre_x, centre_y = (0.5 + p["shift_x"]) * PIXELS, (EYES_Y + p["shift_y"]) * PIXELS
    return np.stack([centre_x + camera[:, 0] * zoom, centre_y - camera[:, 1] * zoom], axis=1)


class Rays:
    """One ray per sample, in map coordinates: position = start + t * step, height = start_z + t * step_z."""

    def __init__(self, p, turn):
        scale = WIDTH / p["scale"] / SAMPLES
        i = np.arange(SAMPLES, dtype=np.float32) + 0.5
        x = (i - (0.5 + p["shift_x"]) * SAMPLES)[None, :] * scale + np.zeros((SAMPLES, 1), np.float32)
        y = ((EYES_Y + p["shift_y"]) * SAMPLES - i)[:, None] * scale + np.zeros((1, SAMPLES), np.float32)
        start = np.dstack([x, y, np.zeros_like(x)]) @ turn  # turn.T applied to row vectors
        slope = np.dstack([-x / DISTANCE, -y / DISTANCE, np.ones_like(x)]) @ turn
        self.column, self.column_step = (start[..., 0] - LEFT) / TEXEL - 0.5, slope[..., 0] / TEXEL
        self.row, self.row_step = (TOP - start[..., 1]) / TEXEL - 0.5, -slope[..., 1] / TEXEL
        self.z, self.z_step = start[..., 2], slope[..., 2]

    def at(self, t):
        """Map columns, rows and heights of every ray at camera depth t (centimetres, scalar or array)."""
        return self.column + t * self.column_step, self.row + t * self.row_step, self.z + t * self.z_step

    def meet(self, z_map, nearest=5.0, farthest=-13.0, steps=22):
        """First meeting of each ray with a height field: map columns and rows to sample, and the depth."""
        depths = np.linspace(nearest, farthest, steps, dtype=np.float32)
        before = np.full(self.z.shape, nearest, np.float32)
        after = np.full(self.z.shape, farthest, np.float32)
        gap_before = np.full(self.z.shape, 1.0, np.float32)
        gap_after = np.full(self.z.shape, -1.0, np.float32)
        open_rays = np.ones(self.z.shape, bool)
        previous = None
        for t in depths:
            column, row, z = self.at(t)
            gap = z - cv2.remap(z_map, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            hit = open_rays & (gap <= 0)
            if previous is not None:
                after[hit], gap_after[hit] = t, gap[hit]
                before[hit], gap_before[hit] = previous[0], previous[1][hit]
            open_rays &= ~hit
            previous = (t, gap)
        for _ in range(3):  # regula falsi between the last point above and the first below
            t = before + (after - before) * np.clip(gap_before / (gap_before - gap_after + 1e-6), 0.08, 0.92)
            column, row, z = self.at(t)
            gap = z - cv2.remap(z_map, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            below = gap <= 0
            after, gap_after = np.where(below, t, after), np.where(below, gap, gap_after)
            before, gap_before = np.where(below, before, t), np.where(below, gap_before, gap)
        column, row, _ = self.at(t)
        return column, row, t


def look_up(image, column, row):
    """Bilinear sampling of a map at ray hits; nothing outside the map."""
    return cv2.remap(image, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def over(picture, colour, alpha):
    """Composite `colour` over `picture` with cover `alpha` (0..1)."""
    return picture + (colour - picture) * alpha[..., None]


def tone(linear):
    """Film-like curve: linear radiance to display values, with a soft shoulder and a slight toe."""
    x = np.maximum(linear, 0)
    curve = x * (2.51 * x + 0.03) / (x * (2.43 * x + 0.59) + 0.14)
    return np.clip(curve, 0, 1) ** (1 / 2.2)


def photograph(p, rng, radiance, meter):
    """Expose and develop: linear samples (256) to an 8-bit picture (128). `meter` = mean log radiance of the face."""
    # Exposure follows the face only in part, so that dark skin stays dark.
    gain = np.exp(0.55 * (np.log(0.20) - meter)) * 2.0 ** p["exposure"] * 1.08
    image = cv2.resize(radiance * gain, (PIXELS, PIXELS), interpolation=cv2.INTER_AREA)
    image = blur(image, p["lens_blur"])
    image = tone(image * 0.62)
    grey = image @ np.array([0.299, 0.587, 0.114], np.float32)
    image = grey[..., None] + (image - grey[..., None]) * p["saturation"]
    image = np.clip(0.45 + (image - 0.45) * p["contrast"], 0, 1)
    image = image + p["sharpen"] * (image - blur(image, 1.0))
    grain = 0.3 * noise(rng, 1, (PIXELS, PIXELS), 3) * np.array([1, 0.8, 1.2]) + 1.1 * noise(rng, 1, (PIXELS, PIXELS))[
        ..., None]  # fmt: skip
    image = image + p["grain"] * grain
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)
