"""helpers.exercises.ch10: the stubs, solutions and wrong answers of chapter 10."""

from tests.exercises.builds import Builds


class Test10(Builds):
    number = "10"
    wrong = {
        "one_step": [
            ("    optimiser.zero_grad()\n", "", "add up in .grad"),
            (".item()", "", "keep the whole computation"),
            ("    optimiser.step()\n", "", "no weight has moved"),
            ('parts["total"].backward()', 'parts["l1"].backward()', "2 of 3 weights"),
            ("model(inputs, target)", "model(inputs)", "TypeError"),
            ("{name: part.item() for name, part in parts.items()}", 'parts["total"].item()', "not a dict"),
        ],
        "adam_step": [
            ("0.1 * g", "g", "m is -6.000"),
            ("0.001 * g**2", "g**2", "v is 36.000"),
            ("theta - rate", "theta + rate", "up the slope"),
            ("m / (1 - 0.9**t)", "m", "not 0.1, the rate"),
            ("np.sqrt(v_hat)", "v_hat", "take the root"),
            ("0.999**t", "0.999", "the power is t"),
        ],
        "averaged": [
            ("d * mean + (1 - d) * now", "(1 - d) * mean + d * now", "not to 0.10"),
            ("min(decay, (1 + step) / (10 + step))", "decay", "keeps the random start"),
            ("min(", "max(", "not to 0.10"),
        ],
    }
