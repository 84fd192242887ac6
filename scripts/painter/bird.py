"""Paints one bird on a plate: plumage, wing, tail, bill, eye and legs, then light."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from scripts.painter import anatomy, brush, plumage
from scripts.painter.anatomy import EYE, Frames, Pose, inside
from scripts.painter.fieldguide import Species


def _box(where: np.ndarray) -> tuple[slice, slice]:
    """The smallest box around the true pixels; one pixel if there is none."""
    sides = []
    for axis in (1, 0):
        hits = np.flatnonzero(where.any(axis))
        sides.append(slice(int(hits[0]), int(hits[-1]) + 1) if hits.size else slice(0, 1))
    return tuple(sides)


def _part(plate: np.ndarray, box: tuple[slice, slice]) -> np.ndarray:
    return plate[(slice(None), *box)]


def _bill(
    plate: np.ndarray, alpha: np.ndarray, species: Species, place: Frames, unit: float
) -> None:
    x, y = place.bill
    droop = y + species.shape.bill_hook * 5 * np.clip(x, 0, 1) ** 2
    top = 1 - np.clip(x, 0, 1) ** (1.6 + 4 * species.shape.bill_hook)
    distance = np.maximum(np.abs(droop) - 1.05 * top, np.maximum(x - 1, -x - 0.35))
    cover = inside(distance * species.shape.bill_depth * 0.8, unit)
    shade = 0.92 + 0.3 * np.clip(droop, -0.5, 0.8) - 0.35 * np.exp(-((droop + 0.12) ** 2) * 90)
    brush.lay(plate, brush.rgb(species.bill)[:, None, None] * shade, np.maximum(cover, 1 - alpha))
    np.maximum(alpha, cover, out=alpha)


def _eye(plate: np.ndarray, species: Species, place: Frames, light: int, unit: float) -> None:
    u, v = place.head[0] - EYE[0], place.head[1] - EYE[1]
    size = 0.066 / species.shape.head + 0.045
    unit = unit * species.shape.head
    distance = np.hypot(u, v)
    if species.ring:
        brush.lay(plate, species.ring, inside(distance - size * 1.34, unit))
    else:
        brush.lay(plate, plate * 0.6, 0.7 * inside(distance - size * 1.25, unit))
    brush.lay(plate, species.iris, inside(distance - size, unit))
    brush.lay(plate, "#0b0a0b", inside(distance - size * 0.62, unit))
    glow = brush.ease(1 - np.hypot(u, v + size * 0.6) / (size * 0.7))
    brush.lay(plate, brush.rgb(species.iris) * 0.5 + 0.42, 0.5 * glow)
    spark = np.hypot(u - 0.3 * size * light, v - 0.4 * size) - size * 0.33
    brush.lay(plate, "#ffffff", inside(spark, unit))


def _legs(canvas: np.ndarray, species: Species, pose: Pose) -> None:
    """Draw both legs and feet straight on the scene, before the body."""
    shape, unit = species.shape, pose.scale
    width = max(2, round(shape.leg_width * unit))
    image = Image.new("L", canvas.shape[:0:-1])
    draw = ImageDraw.Draw(image)
    for offset, value in ((-0.2, 190), (0.12, 255)):
        x, y = pose.x + pose.facing * offset * unit, pose.y
        knee = x - pose.facing * 0.14 * unit, y - (shape.legs * 0.8 + 0.06) * unit
        thigh = knee[0] + pose.facing * 0.16 * unit, knee[1] - 0.3 * unit
        draw.line([(x, y), knee, thigh], value, width, "curve")
        for toe in (-0.16, 0.1, 0.2, 0.28):
            drop = (0.1 if pose.grips else 0.03) * (1 + (toe == 0.1))
            tip = x + pose.facing * toe * unit, y + drop * unit
            bend = x + pose.facing * toe * 0.6 * unit, y - 0.01 * unit
            draw.line([(x, y - 0.02 * unit), bend, tip], value, max(2, round(width * 0.8)), "curve")
    rows, columns = slice(max(0, int(pose.y - unit)), int(pose.y + unit)), slice(0, canvas.shape[2])
    mask = brush.to_mask(image.filter(ImageFilter.GaussianBlur(0.7)))[rows, columns]
    color = brush.rgb(species.legs)
    brush.lay(canvas[:, rows, columns], color * 0.72, mask)
    lit = 0.7 * np.roll(mask, -pose.light, 1) * (mask > 0.95)
    brush.lay(canvas[:, rows, columns], color * 1.08, lit)


def _slopes(relief: np.ndarray, unit: float) -> tuple[np.ndarray, np.ndarray]:
    """Slopes of the relief along x and down y, smoothed over a tenth of a bird unit."""
    step = max(1, min(round(unit * 0.07), min(relief.shape) // 2))
    small = np.asarray(Image.fromarray(relief).reduce(step))
    down, along = np.gradient(small, step / unit)
    return brush.stretch(along, *relief.shape), brush.stretch(down, *relief.shape)


def _shaded(plate: np.ndarray, relief: np.ndarray, species: Species, pose: Pose) -> np.ndarray:
    """Light on the bird: a key from above one side, soft shade below, a rim on the lit edge."""
    along, down = _slopes(relief, pose.scale)
    length = 1 / np.sqrt(along * along + down * down + 1)
    key = np.clip((0.56 * down - 0.45 * pose.light * along + 0.7) * length, 0, 1)
    warm = np.array([1.04 + 0.06 * pose.warmth, 1.0, 0.95 - 0.08 * pose.warmth], np.float32)
    cool = np.array([0.96, 0.99, 1.05], np.float32)
    light = 0.71 + 0.02 * down * length + 0.47 * key
    shine = key**12 * (0.03 + 0.3 * species.gloss)
    shine += 0.22 * brush.ease((key - 0.8) * 4) * brush.ease(1.7 - 2.4 * length)
    lit = np.empty_like(plate)
    for channel, tones in enumerate(zip(cool, warm, strict=True)):
        tone = tones[0] + (tones[1] - tones[0]) * key
        lit[channel] = plate[channel] * (light * tone)
        lit[channel] += (1 - lit[channel]) * shine
    return lit


def _feathers(
    rng: np.random.Generator, shape: tuple[int, int], unit: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fine noise and soft noise of a plumage, about -1..1."""
    height, width = (side / unit for side in shape)
    fine = brush.noise(rng, *shape, (int(34 * height), int(19 * width)))
    return fine, 0.55 * fine + 0.6 * brush.noise(rng, *shape, (int(8 * height), int(5 * width)))


def paint_bird(canvas: np.ndarray, species: Species, pose: Pose, rng: np.random.Generator) -> None:
    """Paint a bird on a plate (3, H, W) in place."""
    shape, unit = species.shape, pose.scale
    window = anatomy.window(shape, pose, *canvas.shape[1:])
    place = anatomy.frames(shape, pose, *window)
    distance = anatomy.silhouette(shape, pose, place)
    fine, soft = _feathers(rng, distance.shape, unit)
    head = _box(np.abs(place.head).max(0) < 2.0)
    wing = _box((place.wing[0] > 0) & (place.wing[0] < 1.04) & (np.abs(place.wing[1]) < 1.8))
    tail = _box((place.tail[0] > -0.05) & (place.tail[0] < 1.15) & (np.abs(place.tail[1]) < 1.2))
    face = _box((np.abs(place.head[1]) < 1.2) & (place.head[0] > 0) & (place.bill[0] < 1.1))
    body = inside(distance + 0.007 * fine, unit)
    # Colors reach beyond their edges: coverage alone cuts them, or dark seams would show.
    plate = plumage.coat(species, place, 0.05 * soft, head) * (1 + 0.13 * soft)
    alpha, relief = body.copy(), np.zeros_like(body)
    feathers, cover = plumage.tail(species, place.cut(tail), 0.05 * soft[tail], unit)
    brush.lay(_part(plate, tail), feathers, 1 - body[tail])
    np.maximum(alpha[tail], cover, out=alpha[tail])
    relief[tail] += 0.03 * cover
    s, t = place.wing[(slice(None), *wing)]
    shadow = brush.ease(1 - np.abs(t + 1) / 0.5) * brush.ease((s - 0.06) * 7)
    _part(plate, wing)[:] *= 1 - 0.34 * shadow * brush.ease((1 - s) * 6)
    feathers, cover = plumage.wing(species, place.cut(wing), 0.05 * soft[wing], unit)
    brush.lay(_part(plate, wing), feathers, np.maximum(cover, 1 - alpha[wing]))
    np.maximum(alpha[wing], cover, out=alpha[wing])
    relief[wing] += 0.08 * np.sqrt(np.clip(1 - t * t, 0, 1)) * cover
    _bill(_part(plate, face), alpha[face], species, place.cut(face), unit)
    relief += 0.55 * np.sqrt(1 - (1 - np.clip(-distance / 0.6, 0, 1)) ** 2)
    plate = _shaded(plate, relief.astype(np.float32), species, pose)
    _eye(_part(plate, face), species, place.cut(face), pose.light * pose.facing, unit)
    _legs(canvas, species, pose)
    brush.lay(_part(canvas, window), plate, alpha)
