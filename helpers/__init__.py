"""The implementation behind the notebooks. The thesis is at the front, in chapter order; the rest stands in packages.

data      sets of images: shipped faces, CelebA, own photographs, each split; eq. 31 and 32
photos    photographs in: one file, a folder, two folders of matching pairs
portraits  real photographs from a public source, fetched and cut; ``python -m helpers.portraits``
degrade   images made worse: blur, fewer pixels, noise, JPEG; the presets ``celebablur`` and ``blind``, the matrix
augment   variety for training: faces of other sizes, softer, in other colours (chapter 14)
mixed     sets of images by name, and several of them as one training set, each with its share
edges     Canny edge maps and the four-channel input (thesis section 2.2)
pairs     blurred input, edge map and sharp target together, batch by batch
networks  DeblurEncoder, Generator, LatentEncoder (section 2.3)
perceptual  LPIPS with a trunk that is found offline (eq. 36 and 47)
losses    the five terms and their weighted sum (section 2.4)
training  the optimisation of section 2.5; ``python -m helpers.training --help``
metrics   the five measures of section 3.2, always beside the blurred input's
evaluation  their table for a checkpoint (section 3.3); ``python -m helpers.evaluation``
restorer  a trained model applied to pictures
methods   every restoration method behind one call
wiener    the filter for a known blur; its constant is chosen by ``python -m helpers.wiener``
linear    what a linear map through as many numbers as the code does; ``python -m helpers.linear``
photograph  a photograph's file, with what it holds besides pixels
finder    where in a photograph a face is
restore   a square of a photograph, of any size, restored and put back; ``python -m helpers.restore --help``
realism   how far a set of pictures is from looking like sharp faces
planes    distortion against perception, with the uncertainty of each method and the floor (chapter 13)
comparison  all methods in one table; ``python -m helpers.comparison``
matrix    methods on many degradations at once (chapter 14); ``python -m helpers.matrix``
skin      whether darker and lighter skin are served equally (chapter 14); ``python -m helpers.skin``
identity  whether a restored face is still the same person (chapter 14); ``python -m helpers.identity``
probes    what a face's code knows, and the directions of age, yaw, ...
figures   pictures and diagrams of the notebooks
face_rows  rows of faces at whole multiples of their pixels, with PSNR and LPIPS below
alt_text  what a person who cannot see a figure is told
panels    sliders that redraw a picture
seeds     randomness, set in one place

engine       what every training stands on
  errors       what can go wrong, as classes
  folders      where files lie; whole files; one process in a folder
  devices      on which device the networks run
  precision    float32, or 16 bits where they are faster, by measurement
  runs         a run folder: settings, state, history, exact resumption; the loop counted in steps
  epochs       a run counted in epochs: its records, and what a failure leaves
  commands     the command line that the trainings share
  loading      batches made beforehand by threads, so that training never waits
  updates      one update of the optimisers, and the learning rate
  acceleration  accelerate and torch.compile: device, accumulation, warm-up
  checkpoints  weights and what made them, in safetensors and JSON
  store        many photographs decoded once into one file
  ema          an average of a network's weights over the steps
  distributed  several processes that train as one: gradients, batch norm, means
reviewed     the three methods that the thesis reviews (chapter 1)
  stylegan     StyleGAN2's generator with latents in W, W+ and W++ (section 1.1)
  inversion    the search for a latent: NGD, the multi-resolution loss, three phases (section 1.2)
  approximations  degradations that a gradient can pass
  autodecoder  how the small generator that ships was trained; ``python -m helpers.reviewed.autodecoder``
  pmrf         posterior mean and rectified flow (section 1.3)
  pmrf_training  both of its networks, and rivals; ``python -m helpers.reviewed.pmrf_training``
  diffir       CPEN, DIRformer, Denoiser and both stages (section 1.4)
  diffir_training  its stages; ``python -m helpers.reviewed.diffir_training``
  stages       what these two trainings share
  studies      what is measured on many faces for chapters 02 to 04; ``python -m helpers.reviewed.studies``
  official_weights  the authors' published weights, read without executing them
experiments  past the thesis (chapter 13)
  skip_model   the better model: skips, two corrections, a knob
  skip_training  how it is trained and measured; ``python -m helpers.experiments.skip_training``
  finder_scenes  pictures with faces at known places, for the face finder
  finder_training  how the face finder is trained and measured; ``python -m helpers.experiments.finder_training``
  embedding    faces as numbers that tell persons apart
  identity_training  how these are trained; ``python -m helpers.experiments.identity_training``
  adversarial  what the title promises and the method lacks: a patch discriminator, as an option
  variants     the thesis's model with one thing changed, and how large the experiment is
  ablations    what each ingredient is worth; ``python -m helpers.experiments.ablations``
  hypotheses   what the course's experiment asks, written down before its first run, and its regime
  results      what recorded ablations say: differences, and the verdicts on the hypotheses
  bottleneck   what the size of the code is worth; ``python -m helpers.experiments.bottleneck``
  full_size    the edge map, or none, in networks as large as the shipped ones
  candidates   networks at equal training time, to choose a trunk; ``python -m helpers.experiments.candidates``
  nafnet       a plain strong network to compare with
  bootstrap    how sure a difference is: paired intervals over test faces and seeds
  inference    the same for many seeds and several hypotheses: t intervals, Holm's correction, effect sizes
exercises    what readers build in the chapters: checks that say what is wrong, and solutions
  build        the mechanism; the exercises of each chapter: ch00, ch01, ch02, ch03, ch04, ch05, ch06, ch07, ch08, ch09,
               ch10, ch11, ch12, ch13, ch14
inspector    the page of chapter 12
  state        what its controls stand at
  pictures     what sets hold, and one picture of them degraded as the controls say
  workbench    what methods make of it, and the measures
  views        what each view shows, live and as a figure
  jobs         long computations beside a live page
  panes        linked zoom, wipe, gallery and photograph in the browser (with panes.js and panes.css)
  page, controller  what is on the page, and what that does
"""

__version__ = "1.0.0"
