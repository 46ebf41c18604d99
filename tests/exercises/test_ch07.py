"""helpers.exercises.ch07: the stubs, solutions and wrong answers of chapter 07."""

from tests.exercises.builds import Builds


class Test07(Builds):
    number = "07"
    wrong = {
        "stamp_and_add": [
            ("+= value", "= value", "overlapping stamps add"),
            ("(len(x) - 1) * stride + len(kernel)", "len(x) * stride + len(kernel)", "not 8"),
            ("y[i * stride : i * stride + len(kernel)]", "y[i : i + len(kernel)]", "begins at 2"),
            ("value * kernel", "value * kernel.flip(0)", "it is not turned"),
            ("value * kernel", "value", "not the kernel"),
        ],
        "upsampling": [
            ("padding=1, ", "", "kernel 4, stride=2 and padding=1"),
            ("[nn.Tanh()] if last", "[nn.Sigmoid()] if last", "the last one is nn.Tanh()"),
            ("[nn.Tanh()] if last", "[nn.ReLU(), nn.Tanh()] if last", "forbid all values below 0"),
            ("[nn.BatchNorm2d(c_out), nn.ReLU()]", "[nn.ReLU(), nn.BatchNorm2d(c_out)]", "batch norm, then ReLU"),
            (", bias=last", "", "subtracts any constant"),
            ("pairwise(channels)", "pairwise(channels[:-1])", "not 3"),
        ],
        "find_code": [
            ("        optimiser.zero_grad()\n", "", "old gradients"),
            ("z.clone()", "z", "z.clone()"),
            ("z.detach()", "z", "end with z.detach()"),
            (", lr=rate", "", "lr=rate"),
            ("loss.backward()", "(-loss).backward()", "the error grows"),
        ],
    }
