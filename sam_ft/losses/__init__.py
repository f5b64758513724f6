"""SAM 3's loss in pure torch: tensors in, tensors out. No arguments object, no process group, no Trainer."""
