"""A small procedural portrait renderer: people -> height fields and paint -> light -> camera."""
