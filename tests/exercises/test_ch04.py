"""helpers.exercises.ch04: the stubs, solutions and wrong answers of chapter 04."""

from tests.exercises.builds import Builds


class Test04(Builds):
    number = "04"
    wrong = {
        "reverse_step": [
            ("/ alpha**0.5", "/ alpha_bar**0.5", "equation 21 as printed"),
            ("x_t - noise * share", "x_t + noise * share", "not x_0"),
            ("(1 - alpha_bar) ** 0.5", "(1 - alpha_bar)", "not x_0"),
            ("(1 - alpha) /", "(1 - alpha_bar) /", "Bayes' rule gives"),
        ],
        "modulated": [
            ("return scale * normed", "return (1 + scale) * normed", "no 1 +"),
            ("(prior @ W1.T)[:, :, None, None]", "prior @ W1.T", "RuntimeError"),
            ("scale = (prior", "scale = (prior.mean(0, keepdim=True)", "the factor is not"),
            ("scale * normed + shift", "shift * normed + scale", "not the offset"),
        ],
        "channel_attention": [
            ("q = q / q.norm(dim=1, keepdim=True)", "", "tiled four times"),
            ("k = k / k.norm(dim=1, keepdim=True)", "k = k / k.norm(dim=0, keepdim=True)", "tiled four times"),
            ("softmax(dim=1)", "softmax(dim=0)", "do not sum to 1"),
            ("q @ k.T * temperature", "q @ k.T / temperature", "temperature multiplies"),
            ("q @ k.T", "k @ q.T", "queries in rows"),
        ],
    }
