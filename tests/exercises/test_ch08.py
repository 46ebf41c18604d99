"""helpers.exercises.ch08: the stubs, solutions and wrong answers of chapter 08."""

from tests.exercises.builds import Builds


class Test08(Builds):
    number = "08"
    wrong = {
        "encoder_block": [
            (", bias=False", "", "needs no bias"),
            ("stride=2, ", "", "4×8×15×15"),
            ("kernel_size=4", "kernel_size=3", "kernel sizes"),
            ("nn.LeakyReLU(0.2)", "nn.ReLU()", "slopes"),
            ("nn.BatchNorm2d(c_out)", "nn.Identity()", "0 batch normalisations"),
            (
                "nn.BatchNorm2d(c_out),\n        nn.LeakyReLU(0.2),",
                "nn.LeakyReLU(0.2),\n        nn.BatchNorm2d(c_out),",
                "the order is convolution",
            ),
        ],
        "quotient": [
            ("z_gt.var(dim=0).mean()", "z_gt.var()", "over the faces"),
            ("z_gt.var(dim=0).mean()", "z_gt.std(dim=0).mean()", "standard deviation"),
            (".square().mean()", ".square().mean(dim=1)", "the shape (400,)"),
            (".square().mean()", ".square().sum(dim=1).mean()", "not 1"),
            ("distance / variance", "distance", "instead of"),
        ],
        "retrieval": [
            ("argmin(dim=1)", "argmax(dim=1)", "smallest distance"),
            ("argmin(dim=1)", "argmin(dim=0)", "argmin(dim=1)"),
            (".mean()", ".sum()", "divide by the number of faces"),
            ("torch.arange(len(z_gt))", "nearest", "all partners exchanged"),
        ],
    }
