"""Transformers' Trainer with SAM 3's and SAM 2's counting, rates, logs and evaluation."""
