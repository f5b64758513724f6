"""
Parameter groups with a learning rate by part, and learning-rate schedules.

Trainers and losses do not belong here.
"""
