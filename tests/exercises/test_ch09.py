"""helpers.exercises.ch09: the stubs, solutions and wrong answers of chapter 09."""

from tests.exercises.builds import Builds


class Test09(Builds):
    number = "09"
    wrong = {
        "perceptual_distance": [
            ("a / a.norm(dim=1, keepdim=True).clamp(min=1e-10)", "a", "three times as large"),
            ("a.norm(dim=1, keepdim=True).clamp(min=1e-10)", "a.norm(dim=1, keepdim=True)", "nan"),
            (".sum(dim=1).mean(dim=(1, 2))", ".mean()", "not (2,)"),
            (".sum(dim=1)", ".mean(dim=1)", "channels are summed"),
            ("w * (a - b).square()", "(w * (a - b)).square()", "w multiplies the squared difference once"),
            ("total + squared", "squared", "add the layers up"),
        ],
        "total_variation": [
            ("(down + right)", "down", "both directions count"),
            ("pixels = images.shape[-2] * images.shape[-1]", "pixels = images[0, 0, 1:, 1:].numel()", "not"),
            (".sum(dim=(-2, -1))\n    right", ".mean(dim=(-2, -1)) * 1.0\n    right", "has"),
            ("images[..., :, 1:] - images[..., :, :-1]", "images - images.roll(1, -1)", "not"),
            ("(down + right) / pixels).mean()", "(down + right) / pixels).sum()", "average over channels"),
        ],
        "total_objective": [
            ("perceptual(restored, target).mean()", "perceptual(restored, target)", ".mean()"),
            ("0.2 * latent_loss", "0.2 * 8 * latent_loss", "λ₅, latent"),
            ("tv_loss(restored)", "tv_loss(restored - target)", "λ₄, total variation"),
            ("0.15 * ssim_loss(restored, target)", "0.15 * (1 - ssim_loss(restored, target))", "1 - SSIM"),
            ("0.5 * l1_loss", "0.15 * l1_loss", "λ₁ = 0.5"),
        ],
    }
