"""What every training stands on: devices, precision, runs that resume, batches, checkpoints, averages of weights."""
