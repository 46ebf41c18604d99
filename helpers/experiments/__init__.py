"""What goes past the thesis (chapter 13): the skip model, an adversarial term, ablations and their statistics."""
