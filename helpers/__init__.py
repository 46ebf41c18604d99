"""The implementation behind the notebooks: one module, one purpose.

data      images in: shipped faces, CelebA, folders, pairs; eq. 31 and 32
degrade   images made worse: blur, noise, JPEG, and the preset ``celebablur``
edges     Canny edge maps and the four-channel input (thesis section 2.2)
pairs     blurred input, edge map and sharp target together, batch by batch
networks  DeblurEncoder, Generator, LatentEncoder (section 2.3)
perceptual  LPIPS with a trunk that is found offline (eq. 36 and 47)
losses    the five terms and their weighted sum (section 2.4)
training  the optimisation of section 2.5; ``python -m helpers.training --help``
metrics   the five measures of section 3.2, always beside the blurred input's
checkpoints  weights and what made them, in safetensors and JSON
restorer  a trained model applied to pictures
figures   pictures and diagrams of the notebooks
panels    sliders that redraw a picture
seeds     randomness, set in one place
"""

__version__ = "1.0.0"
