"""SAM 3's and SAM 2's losses in pure torch: tensors in, tensors out. No arguments object, no process group, no Trainer."""
