"""helpers.exercises.ch02: the stubs, solutions and wrong answers of chapter 02."""

from tests.exercises.builds import Builds

LOOP = """    losses = []
    for _ in range(count):
        latent = latent.detach().requires_grad_()
        loss = compare(degrade(draw(latent)), y)
        loss.backward()
        losses.append(loss.item())
        latent = step(latent, latent.grad)
"""
ONE_LEAF = """    losses, latent = [], latent.detach().requires_grad_()
    for _ in range(count):
        loss = compare(degrade(draw(latent)), y)
        loss.backward()
        losses.append(loss.item())
        latent.data = step(latent, latent.grad).detach()
"""


class Test02(Builds):
    number = "02"
    wrong = {
        "ngd_step": [
            ("latent - lr", "latent + lr", "the loss would rise"),
            (".norm(dim=-1, keepdim=True)", ".norm()", "one norm for the whole gradient"),
            (" / lengths", "", "the two rows move by [2.5, 0.001]"),
            ("gradient / lengths", "gradient.sign() / gradient.sign().norm(dim=-1, keepdim=True)", "take the sign"),
            ("return latent - lr *", "return lr *", "the two rows move by"),
            (".clamp(min=1e-30)", "", "0 / 0 is nan"),
        ],
        "multi_resolution": [
            (
                "total = total + metric(x, y)\n        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)",
                "x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)\n        total = total + metric(x, y)",
                "never at the full size",
            ),
            ("> 16", "> 32", "it is wanted at 64 and 32"),
            ("> 16", "> 8", "it is wanted at 64 and 32"),
            ("0.1 * (x - y)", "(x - y)", "the weight 0.1"),
            ("total = 0", "total = 0.1 * (x - y).abs().mean()", "lines one pixel wide"),
            ("total = total + metric(x, y)", "total = metric(x, y)", "sum to"),
        ],
        "search_one_space": [
            ("degrade(draw(latent))", "draw(latent)", "before it is degraded"),
            ("degrade(draw(latent)), y", "draw(latent), degrade(y)", "y is degraded already"),
            (".detach().requires_grad_()", ".requires_grad_()", "in step 2 latent.grad is None"),
            ("latent = latent.detach().requires_grad_()", "pass", "no gradient leads from the loss"),
            ("latent = step(", "step(", "still the one of the start"),
            (LOOP, ONE_LEAF, "backward adds to an old .grad"),
            ("losses.append(loss.item())", "losses.append(compare(degrade(draw(latent)), y))", "no plain numbers"),
            ("latent.detach(), losses", "latent.detach(), sorted(losses)", "the losses are ["),
            ("range(count)", "range(count + 1)", "5 steps and 5 losses"),
            ("return latent.detach(), losses", "return latent, losses", "still attached to the graph"),
            ("return latent.detach(), losses", "return latent.detach()", "one value comes back"),
        ],
    }
