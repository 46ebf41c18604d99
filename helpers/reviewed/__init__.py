"""The three methods that the thesis reviews (chapter 1): StyleGAN inversion, PMRF, DiffIR."""
