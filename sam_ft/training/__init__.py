"""Transformers' Trainer with SAM 3's counting, rates, logs and evaluation."""
