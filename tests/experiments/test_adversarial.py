"""helpers.experiments.adversarial: what a score sees, how fast it changes, the two losses by hand, learning."""

import pytest
import torch

from helpers.experiments.adversarial import Adversary, PatchDiscriminator, discriminator_loss, generator_loss
from helpers.networks import ShapeError
from helpers.pairs import Pairs
from tests.conftest import make_faces


@pytest.fixture(scope="module")
def judge() -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator(8).eval()


@torch.no_grad()
@pytest.mark.parametrize(("height", "width"), [(64, 64), (128, 128), (64, 96)])
def test_a_score_for_every_patch(judge, height, width):
    assert judge(torch.rand(2, 3, height, width)).shape == (2, 1, height // 8, width // 8)


def test_a_score_sees_38_by_38_pixels(judge):
    """By the gradient of one score in the middle; its patch begins 15 pixels before the 8×8 that it stands for."""
    images = torch.rand(1, 3, 96, 96, requires_grad=True)
    judge(images)[0, 0, 6, 5].backward()
    seen = images.grad[0].abs().sum(0) > 0
    rows, columns = seen.any(1).nonzero().flatten(), seen.any(0).nonzero().flatten()
    assert rows.tolist() == list(range(48 - 15, 48 - 15 + 38)) and columns.tolist() == list(range(25, 25 + 38))
    assert seen[33:71, 25:63].all()


def test_no_layer_stretches(judge):
    """Spectral normalisation: the largest singular value of each strided convolution's matrix is 1, however large the
    weights beneath were made."""
    trained = PatchDiscriminator(8).train()
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if name.endswith("original"):
                parameter.mul_(50)
        for _ in range(30):  # the power iteration goes on while it trains
            trained(torch.rand(1, 3, 16, 16))
    found = [torch.linalg.matrix_norm(m.weight.flatten(1), 2).item() for m in trained.layers if hasattr(m, "stride")]
    assert len(found) == 4 and found[:3] == pytest.approx([1, 1, 1], abs=0.03)


def test_hinge_by_hand():
    """Real 2, 0.5, -1: 0, 0.5, 2. Restored -3, 0, 1: 0, 1, 2."""
    real, restored = torch.tensor([2, 0.5, -1]), torch.tensor([-3.0, 0, 1])
    assert discriminator_loss(real, restored).item() == pytest.approx(2.5 / 3 + 1)
    assert discriminator_loss(torch.full((4,), 1.5), torch.full((9,), -1.5)).item() == 0
    assert discriminator_loss(torch.zeros(4), torch.zeros(4)).item() == 2  # what knows nothing
    assert discriminator_loss(real.bfloat16(), restored.bfloat16()).dtype == torch.float32


def test_who_wants_what():
    """The discriminator pulls real scores up and restored ones down, the generator restored ones up; no pull where the
    margin is kept."""
    real, restored = (torch.tensor([0.0, 2.0], requires_grad=True) for _ in "12")
    discriminator_loss(real, -restored).backward()
    assert real.grad.tolist() == [-0.5, 0] and restored.grad.tolist() == [-0.5, 0]
    scores = torch.tensor([3.0, -1.0], requires_grad=True)
    assert generator_loss(scores).item() == -1
    generator_loss(scores).backward()
    assert scores.grad.tolist() == [-0.5, -0.5]


def test_each_loss_trains_one_side():
    """The wish reaches what restored and not the discriminator; the discriminator's loss the other way round."""
    torch.manual_seed(0)
    adversary, sharp = Adversary(1e-3, torch.device("cpu")), torch.rand(2, 3, 32, 32)
    restored = torch.rand(2, 3, 32, 32, requires_grad=True)
    adversary.wish(restored).backward()
    assert restored.grad.abs().sum() > 0 and all(p.grad is None for p in adversary.network.parameters())
    restored.grad = None
    loss = adversary.loss(sharp, restored)
    loss.backward()
    weights = [p for p in adversary.network.parameters() if p.ndim > 1]  # the pull on the last bias may cancel
    assert restored.grad is None and all(p.grad.abs().sum() > 0 for p in weights)
    adversary.network.eval()  # no step of the power iteration: by hand is the same network
    wanted = discriminator_loss(adversary.network(sharp), adversary.network(restored))
    assert adversary.loss(sharp, restored).item() == pytest.approx(wanted.item())
    assert adversary.optimiser.param_groups[0]["lr"] == 1e-3 and len(adversary.parts) == 3


def test_it_learns_to_tell_blurred_from_sharp():
    torch.manual_seed(0)
    batch = Pairs(make_faces(8, 64)).batch(range(8))
    sharp, blurred, judge = batch.target, batch.input[:, :3], PatchDiscriminator(8).train()
    optimiser = torch.optim.Adam(judge.parameters(), lr=5e-3, betas=(0.5, 0.999))
    losses = []
    for _ in range(30):
        loss = discriminator_loss(judge(sharp), judge(blurred))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(2, abs=0.1) and losses[-1] < 1.7
    assert judge(sharp).mean() > judge(blurred).mean()


@pytest.mark.parametrize("shape", [(1, 4, 64, 64), (3, 64, 64), (1, 3, 60, 64), (1, 3, 64, 65)])
def test_wrong_shapes_are_told(judge, shape):
    with pytest.raises(ShapeError, match=f"sides divisible by 8, got {'×'.join(map(str, shape))}"):
        judge(torch.zeros(shape))
