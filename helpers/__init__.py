"""The implementation behind the notebooks: one module, one purpose.

data      images in: shipped faces, CelebA, folders, pairs; eq. 31 and 32
degrade   images made worse: blur, noise, JPEG, and the preset ``celebablur``
edges     Canny edge maps and the four-channel input (thesis section 2.2)
pairs     blurred input, edge map and sharp target together, batch by batch
devices   on which device the networks run
loading   batches made ahead by threads, so that training never waits
networks  DeblurEncoder, Generator, LatentEncoder (section 2.3)
adversarial  what the title promises and the method lacks: a patch discriminator, as an option (chapter 13)
perceptual  LPIPS with a trunk that is found offline (eq. 36 and 47)
losses    the five terms and their weighted sum (section 2.4)
training  the optimisation of section 2.5; ``python -m helpers.training --help``
syncnorm  batch norm over the images of all processes
ema       an average of a network's weights over the steps
metrics   the five measures of section 3.2, always beside the blurred input's
checkpoints  weights and what made them, in safetensors and JSON
restorer  a trained model applied to pictures
stylegan  StyleGAN2's generator, NGD, the multi-resolution loss, inversion in three phases (section 1.2)
autodecoder  how the small generator that ships was trained; ``python -m helpers.stylegan``
approximations  degradations that a gradient can pass
pmrf      posterior mean and rectified flow (section 1.3); ``python -m helpers.pmrf``
diffir    CPEN, DIRformer, Denoiser and both stages (section 1.4); ``python -m helpers.diffir``
resumable  a training loop counted in steps that goes on where it stopped
official_weights  the authors' published weights, read without executing them
skip_model  the better model (chapter 13): skips, two corrections, a knob; ``python -m helpers.skip_model``
nafnet    a plain strong network to compare it with
methods   every restoration method behind one call
realism   how far a set of pictures is from looking like sharp faces
comparison  all methods in one table; ``python -m helpers.comparison``
ablations  what each ingredient is worth (chapter 13); ``python -m helpers.ablations``
candidates  networks at equal training time, to choose a trunk; ``python -m helpers.candidates``
bootstrap  how sure a difference is: paired intervals over test faces and seeds
figures   pictures and diagrams of the notebooks
panels    sliders that redraw a picture
state     what the inspector's controls stand at
inspector what follows from that: pictures, restorations, measures, remembered
probes    what a face's code knows, and the directions of age, yaw, ...
jobs      long computations beside a live page
views     what each view of the inspector shows, live and as a figure
panes     linked zoom, wipe, gallery and photograph in the browser (with panes.js and panes.css)
inspector_page, inspector_view  the inspector: what is on its page, and what that does
seeds     randomness, set in one place
"""

__version__ = "1.0.0"
