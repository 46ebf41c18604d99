"""helpers.exercises.ch00: the stubs, solutions and wrong answers of chapter 00."""

from tests.exercises.builds import Builds


class Test00(Builds):
    number = "00"
    wrong = {
        "restore_face": [
            ("encoder(inputs)", "encoder(inputs[:, :3])", "one batch of one picture with four channels"),
            ("blurred[None], edge_map", "blurred[None], 0 * edge_map", "the fourth channel is empty"),
            ("generator(code)", "generator(inputs)", "not the code (1, 512)"),
            ("data.denormalise(picture)[0]", "data.denormalise(picture)", "take the only picture"),
            ("data.denormalise(picture)[0]", "picture[0].numpy()", "not a uint8 array"),
            ("data.denormalise(picture)", "data.denormalise((picture + 1) / 2)", "not 191"),
            ("edges.four_channels(blurred[None]", "edges.four_channels(255 - blurred[None]", "as it came"),
        ],
        "decibels": [
            ("restored.astype(float) - truth.astype(float)", "restored - truth", "as if 20² were 144"),
            ("np.log10", "np.log", "natural logarithm"),
            ("10 * np.log10", "20 * np.log10", "a factor 2"),
            ("(error**2).mean()", "error.mean() ** 2", "square first"),
            ("(error**2).mean()", "(error**2)", "no single number"),
            ("255**2", "1", "the largest value is 255"),
        ],
    }
