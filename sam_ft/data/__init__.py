"""From what people have on disk to the batch: readers, rows, phrases, transforms, collator."""
