"""Evaluation and single pictures: the plain way and ours."""

import time

import cv2
import numpy as np
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from helpers.edges import THRESHOLDS
from helpers.metrics import evaluate, summary
from helpers.pairs import Pairs
from tests.benchmarks.measure import Setup, faces, metric, rates, restorer, seconds, spread, take_turns
from tests.benchmarks.plain import degrade, package_lpips, to_tensors


def plain_evaluation(model, images: np.ndarray, sigmas: list[float], perceptual, device: torch.device) -> dict:
    """The five measures of the restored pictures, one picture after the other; their means."""
    sums = dict.fromkeys(("PSNR", "SSIM", "L1", "MSE", "LPIPS"), 0.0)
    model.eval()
    for image, sigma in zip(images, sigmas, strict=True):
        inputs, target = to_tensors(*degrade(image, None, sigma))
        with torch.no_grad():
            output = model(inputs[None].to(device)).cpu()
            sums["LPIPS"] += perceptual(output.to(device), target[None].to(device)).item()
        sums["L1"] += (output[0] - target).abs().mean().item()
        sums["MSE"] += ((output[0] - target) ** 2).mean().item()
        restored = (output[0] * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        sums["PSNR"] += peak_signal_noise_ratio(image, restored, data_range=255)
        sums["SSIM"] += structural_similarity(image, restored, channel_axis=-1, data_range=255)
    return {name: value / len(images) for name, value in sums.items()}


def plain_restore(model, blurred: np.ndarray, device: torch.device) -> np.ndarray:
    """One picture as one would write it first, edges included."""
    edges = cv2.Canny(cv2.cvtColor(blurred, cv2.COLOR_RGB2GRAY), *THRESHOLDS)
    inputs, _ = to_tensors(blurred, edges, blurred)
    restored = model(inputs[None].to(device))[0].cpu().detach()
    return (restored * 127.5 + 127.5).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def evaluation(setup: Setup) -> dict:
    """Images a second of an evaluation without the blurred input's measures, and milliseconds for one picture."""
    device = setup.device
    images = faces(setup, setup.evaluated, "test")
    pairs, ours, scale = Pairs(images), restorer(setup), metric(device)
    perceptual = package_lpips(scale)
    sigmas = [p["sigma"] for p in pairs.batch(range(len(images))).params]
    results = {}
    actions = {
        "plain": lambda: results.update(plain=plain_evaluation(ours.model, images, sigmas, perceptual, device)),
        "ours": lambda: results.update(ours=summary(evaluate(ours.model, pairs, scale, with_input=False))),
    }
    few = Pairs(images[:2])
    plain_evaluation(ours.model, images[:2], sigmas[:2], perceptual, device)  # both warm
    evaluate(ours.model, few, scale, with_input=False)
    times = take_turns(actions, setup.rounds, device)
    rows = [{"what": f"evaluation, {name}", **rates(len(images), times[name])} for name in actions]
    rows[1]["times plain"] = rows[1]["images/s"] / rows[0]["images/s"]
    rows[0]["PSNR (dB)"], rows[1]["PSNR (dB)"] = (
        results["plain"]["PSNR"],
        float(results["ours"].loc["restored", "PSNR"]),
    )

    blurred = few.batch([0]).blurred[0]
    single = {
        "plain": lambda: plain_restore(ours.model, blurred, device),
        "ours": lambda: ours.restore(blurred),
    }
    for action in single.values():
        action()
    waits = {name: [] for name in single}
    for _ in range(setup.restored):
        for name, action in single.items():
            waits[name].append(1e3 * seconds(action, device))
            time.sleep(0)  # lets another process have its turn between two pictures, not within one
    for name in single:
        s = spread(waits[name])
        ninety = sorted(waits[name])[int(0.9 * len(waits[name]))]
        rows.append(
            {"what": f"one picture, {name}", "ms": s["median"], "lowest": s["lowest"], "highest": s["highest"]}
            | {"90 % under (ms)": ninety}
        )
    rows[-1]["times plain"] = rows[-2]["ms"] / rows[-1]["ms"]
    note = (
        f"{len(images)} test images, five measures of each restored one, {setup.rounds} turns. One picture: edges, "
        f"network, 8 bits in and out; median of {setup.restored}. `plain` works picture by picture with the package "
        "lpips, as one would write it first."
    )
    return {"note": note, "rows": rows}
