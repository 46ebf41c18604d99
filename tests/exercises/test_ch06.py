"""helpers.exercises.ch06: the stubs, solutions and wrong answers of chapter 06."""

from tests.exercises.builds import Builds


class Test06(Builds):
    number = "06"
    wrong = {
        "batch_norm": [
            ("x.mean((0, 2, 3), keepdim=True)", "x.mean()", "have the means"),
            ("x.mean((0, 2, 3), keepdim=True)", "x.mean((2, 3), keepdim=True)", "each picture is normalised by itself"),
            (", correction=0", "", "not by n - 1"),
            ("torch.sqrt(var + eps)", "(var + eps)", "not 1"),
            ("var + eps", "var", "becomes nan"),
            (" + beta[:, None, None]", "", "then add beta"),
            ("(x - mu)", "(x.mean(0) - mu[0])", "become (1, 3, 2, 4)"),
        ],
        "residual_forward": [
            ("torch.relu(residual + shortcut)", "residual + shortcut", "one more ReLU"),
            ("torch.relu(residual + shortcut)", "torch.relu(residual) + shortcut", "first the sum"),
            ("residual + shortcut", "residual", "no shortcut"),
            ("torch.relu(block.bn1(block.conv1(x)))", "block.bn1(block.conv1(x))", "in this order"),
            (
                "x if block.downsample is None else block.downsample(x)",
                "x if block.downsample is None else 0",
                "downsample",
            ),
        ],
        "to_deblur_encoder": [
            ("(4, 64", "(3, 64", "takes 3 channels"),
            (", bias=False", "", "bias of 64"),
            (", stride=2", "", "of 128"),
            (", padding=3", "", "padding=3"),
            ("(512, latent_dim)", "(512, 512)", "for latent_dim 10"),
        ],
    }
