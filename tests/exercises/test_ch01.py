"""helpers.exercises.ch01: the stubs, solutions and wrong answers of chapter 01."""

from tests.exercises.builds import Builds


class Test01(Builds):
    number = "01"
    wrong = {
        "to_bytes": [
            (".round()", "", "values come back changed"),
            (".clip(0, 255)", "", "wrap around in uint8"),
            ("127.5 * x + 127.5", "255 * x", "multiply by 127.5 first"),
            (".astype(np.uint8)", "", "not uint8"),
        ],
        "gaussian_weights": [
            (" / weights.sum()", "", "sum to 21.4"),
            ("(2 * sigma**2)", "sigma**2", "mind the 2"),
            (" - size // 2", "", "not at the centre"),
            ("i[:, None] ** 2 + i[None, :] ** 2", "i[None, :] ** 2", "one weight for each pair"),
            ("i[:, None] ** 2 + i[None, :] ** 2", "np.maximum(i[:, None] ** 2, i[None, :] ** 2)", "rows and columns"),
        ],
        "blur_by_hand": [
            ("padded[r + 2 * half - i, c + 2 * half - j]", "padded[r + i, c + j]", "turned by 180°"),
            ("half, mode=", 'half, mode="constant") + 0 * np.pad(image, half, mode=', "the border is dark"),
            ('"reflect"', '"symmetric"', "without repeating the border"),
            ("2 * half - i", "half - i", "middle row"),
            ("half, mode", "0, mode", "IndexError"),
        ],
    }
